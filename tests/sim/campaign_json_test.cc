#include "sim/campaign/campaign_json.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "sim/campaign/campaign.h"
#include "tests/sim/campaign_testing.h"

namespace moecast {
namespace {

const char* const kGood = R"({
  "name": "small",
  "campaign": {
    "cluster": {"gpus": 64, "spares": {"kind": "warm", "count": 2, "swap": "1 min"}},
    "training": {"steps": 1000, "step": "2 s", "forward_backward": "1.5 s"},
    "experts": {"per_layer": 16, "layers": 4, "expert_parallel": 8},
    "checkpoint": {"rank_bytes": {"non_expert": "1 GB", "expert": "4 GB"},
                   "total_bytes": {"non_expert": "10 GB", "expert": "200 GB"},
                   "snapshot_rate": "2 GB/s", "persist_rate": "1 GB/s"},
    "reliability": "llama3_h100",
    "policy": {"kind": "pec_two_level", "interval": 50, "snapshot_experts": 4, "persist_experts": 1},
    "replicas": 3
  }
})";

Result<CampaignFile> read(const std::string& text, const std::string& pointer = "", const std::string& value = "") {
  Result<JsonDocument> document = JsonDocument::parse(text, "test.json");
  EXPECT_TRUE(document.ok());
  if (!pointer.empty()) {
    EXPECT_TRUE(document->set(pointer, value).ok());
  }
  return read_campaign(*document);
}

/// The file with one change is refused: exit code 2, and a message that says so.
void expect_refused(const std::string& pointer, const std::string& value, const std::string& said) {
  const Result<CampaignFile> file = read(kGood, pointer, value);
  ASSERT_FALSE(file.ok()) << pointer << " = " << value;
  EXPECT_EQ(exit_code(file.error().kind), 2);
  EXPECT_NE(file.error().text().find(said), std::string::npos) << file.error().text();
}

TEST(CampaignJson, ReadsAScenario) {
  const Result<CampaignFile> file = read(kGood);
  ASSERT_TRUE(file.ok()) << file.error().text();
  const CampaignScenario& scenario = file->scenario;
  EXPECT_EQ(scenario.cluster.nodes(), 8);
  EXPECT_EQ(scenario.cluster.spares.count, 2);
  EXPECT_EQ(scenario.training.step, seconds_of(2));
  EXPECT_EQ(scenario.costs.snapshot_time(0.25), seconds_of(1));
  EXPECT_EQ(scenario.costs.persist_time(1), seconds_of(5));
  EXPECT_EQ(scenario.reliability.modes.size(), 19U);
  EXPECT_EQ(policy_kind_of(scenario.policy).name, "pec_two_level");
  EXPECT_TRUE(summarize(scenario, run_replicas(scenario, 1)).notes.empty());
}

TEST(CampaignJson, RefusesWhatCannotBe) {
  expect_refused("/campaign/cluster/gpus", "-8", "/campaign/cluster/gpus");
  expect_refused("/campaign/cluster/spares/count", "0", "/campaign/cluster/spares/count");
  expect_refused("/campaign/cluster/spares/kind", "none", "count");
  expect_refused("/campaign/training/step", "2", "needs a unit");
  expect_refused("/campaign/training/step", "0 s", "above zero");
  expect_refused("/campaign/training/forward_backward", "3 s", "at most the step's 2 s");
  expect_refused("/campaign/experts/expert_parallel", "7", "divisor");
  expect_refused("/campaign/checkpoint/persist_rate", "-1 GB/s", "must not be negative");
  expect_refused("/campaign/checkpoint/persist_rate", "0 GB/s", "above zero");
  expect_refused("/campaign/reliability", "lama3_h100", "did you mean llama3_h100?");
  expect_refused("/campaign/policy/snapshot_experts", "17", "at most the 16 experts");
  expect_refused("/campaign/policy/persist_experts", "5", "at most the 4 experts");
  expect_refused("/campaign/policy/kind", "pec_two_levels", "did you mean pec_two_level?");
  expect_refused("/campaign/hardware", "a100_nvlink_8", "what runs on it");
  expect_refused("/campaign/replicas", "0", "/campaign/replicas");
  expect_refused("/campaign/relicas", "5", "relicas");
}

TEST(CampaignJson, NamesTheOwnerOfAForeignParameter) {
  expect_refused("/campaign/policy/window", "5", "a key of sparse_window");
  expect_refused("/campaign/policy/hidden", "0.5", "a key of peer_replicas");
  const std::string peers = R"({"kind": "peer_replicas", "copies": 9})";
  expect_refused("/campaign/policy", peers, "at most one copy on each of the 8 nodes");
  expect_refused("/campaign/policy", R"({"kind": "blocking_full", "interval": 5, "persist_experts": 1})",
                 "a key of pec_two_level");
}

TEST(CampaignJson, RefusesBadReliability) {
  const std::string mode =
      R"({"name": "x", "sources": {"/modes": {"kind": "assumed", "reference": "a test"}, "/recovery":
      {"kind": "assumed", "reference": "a test"}}, "modes": {"gpu": {"component": "gpu", "mean_between": "100 h"}},
      "recovery": {"detection": "1 s", "repair": "1 h", "process_start": "1 s"}})";
  Result<JsonDocument> document = JsonDocument::parse(kGood, "test.json");
  ASSERT_TRUE(document.ok());
  ASSERT_TRUE(document->set("/campaign/reliability", mode).ok());
  EXPECT_TRUE(read_campaign(*document).ok());
  const auto refused = [&](const std::string& pointer, const std::string& value, const std::string& said) {
    Result<JsonDocument> changed = JsonDocument::parse(document->json().dump(), "test.json");
    ASSERT_TRUE(changed->set("/campaign/reliability" + pointer, value).ok());
    const Result<CampaignFile> file = read_campaign(*changed);
    ASSERT_FALSE(file.ok()) << pointer;
    EXPECT_NE(file.error().text().find(said), std::string::npos) << file.error().text();
  };
  refused("/modes/gpu/per_1000_unit_days", "-1", "found 2 of them");
  refused("/modes/gpu/mean_between", "-5 h", "must not be negative");
  refused("/modes/gpu/mean_between", "0 h", "above zero");
  refused("/modes/gpu/replaced", "1.5", "0..1");
  refused("/modes/gpu/slow_factor", "2", "slow_factor");
  refused("/modes/gpu/gaps", R"({"law": "weibull", "shape": 0})", "shape");
  refused("/sources", R"({"/recovery": {"kind": "assumed", "reference": "a test"}})", "/modes/gpu");
  refused("/recovery/detection", R"({"law": "lognormal", "sigma": 1})", "median");
}

TEST(CampaignJson, TablesShowWhatIsThere) {
  const Result<CampaignFile> file = read(kGood);
  ASSERT_TRUE(file.ok());
  const CampaignSummary summary = summarize(file->scenario, run_replicas(file->scenario, 1));
  const std::string table = to_table(file->scenario, summary);
  EXPECT_NE(table.find("goodput (ETTR)"), std::string::npos);
  EXPECT_NE(table.find("lost tokens (PLT)"), std::string::npos);
  EXPECT_EQ(to_json(file->scenario, summary)["policy"], "pec_two_level");
}

}  // namespace
}  // namespace moecast
