#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_json.h"
#include "sim/campaign/workload_costs.h"

namespace moecast {
namespace {

CampaignFile campaign(const std::string& name) {
  const auto path = std::filesystem::path(MOECAST_SOURCE_DIR) / "experiments" / "campaign" / (name + ".json");
  Result<CampaignFile> file = load_campaign(path);
  EXPECT_TRUE(file.ok()) << file.error().text();
  return std::move(file).value();
}

struct Testbed {
  CampaignScenario baseline;
  Workload workload;

  /// Does the snapshot of K experts, written as `sharding` says, fit beside forward and backward?
  [[nodiscard]] bool fits(std::int64_t experts, Sharding sharding) const {
    CheckpointPolicy policy;
    policy.kind = CheckpointKind::PartialOneLevel;
    policy.sharding = sharding;
    policy.partial.experts = {experts, experts};
    for (const auto& [name, rules] : component_presets()) {
      if (name == "pec_reported") policy.partial.components = rules;
    }
    CheckpointCosts costs = planned_sizes(workload, policy).value();
    costs.snapshot_rate = baseline.costs.snapshot_rate;
    return costs.snapshot_time(static_cast<double>(experts) / 16) <= baseline.training.forward_backward;
  }
};

Testbed testbed(int number, std::int64_t data, std::int64_t expert) {
  Testbed out{campaign("pec_testbeds/case" + std::to_string(number) + "_blocking").scenario, {}};
  const auto path = std::filesystem::path(MOECAST_SOURCE_DIR) / "experiments/campaign/pec_testbeds" /
                    ("case" + std::to_string(number) + "_blocking.json");
  const JsonDocument document = JsonDocument::read(path).value();
  JsonReader reader(document);
  JsonReader inner = reader.object("campaign");
  out.workload = read_workload(inner);
  EXPECT_EQ(out.workload.layout.data, data);
  EXPECT_EQ(out.workload.layout.expert, expert);
  return out;
}

constexpr Sharding kBaseline = {ExpertSharding::GroupZero, NonExpertSharding::RankZero};
constexpr Sharding kSharded = {ExpertSharding::Equal, NonExpertSharding::Adaptive};

/// arXiv 2408.04307, evaluation: "baseline exceeds F&B in Cases 1 and 3 and fits in Case 2; full sharding alone cures
/// Case 1; Case 3 needs fewer than 4 experts": one snapshot rate for all of it, bytes from the plan.
TEST(CampaignPec, SnapshotsFitBesideTrainingWhereThePaperSaysSo) {
  const Testbed case1 = testbed(1, 8, 8);
  const Testbed case2 = testbed(2, 16, 16);
  const Testbed case3 = testbed(3, 16, 8);
  EXPECT_FALSE(case1.fits(16, kBaseline));
  EXPECT_TRUE(case1.fits(16, kSharded));
  EXPECT_TRUE(case2.fits(16, kBaseline));
  EXPECT_FALSE(case3.fits(16, kBaseline));
  EXPECT_FALSE(case3.fits(16, kSharded));
  EXPECT_FALSE(case3.fits(4, kSharded));
  EXPECT_TRUE(case3.fits(2, kSharded));
}

/// The same: the shortest interval, that of the write to storage, becomes about half (case 2: from 2.3 to 1.2).
TEST(CampaignPec, TheFloorOfTheIntervalFallsAtLeastByHalf) {
  for (const char* place : {"case1", "case2", "case3"}) {
    const std::string name = std::string("pec_testbeds/") + place;
    const CheckpointCosts full = campaign(name + "_blocking").scenario.costs;
    const CheckpointCosts partial = campaign(name + "_pec").scenario.costs;
    EXPECT_LT(seconds(partial.persist_time(1.0 / 16)), 0.55 * seconds(full.persist_time(1))) << place;
  }
}

/// The claim of the whole: less stall and more goodput, for less than the harmless share of lost tokens.
TEST(CampaignPec, EveryStepFromBlockingToPartialExpertsPays) {
  const std::vector<std::vector<std::string>> clusters = {
      {"pec_testbeds/case1_blocking", "pec_testbeds/case1_async", "pec_testbeds/case1_pec"},
      {"pec_testbeds/case2_blocking", "pec_testbeds/case2_async", "pec_testbeds/case2_pec"},
      {"pec_testbeds/case3_blocking", "pec_testbeds/case3_async", "pec_testbeds/case3_pec"},
      {"pec_1024/blocking_full", "pec_1024/async_full", "pec_1024/pec", "pec_1024/pec_two_level"},
  };
  for (const std::vector<std::string>& cluster : clusters) {
    std::optional<CampaignSummary> before;
    for (const std::string& name : cluster) {
      const CampaignScenario scenario = campaign(name).scenario;
      const CampaignSummary summary = summarize(scenario, run_replicas(scenario, 2));
      EXPECT_LE(summary.plt.mean, 0.0375) << name;
      if (before) {
        EXPECT_GT(summary.goodput.mean, before->goodput.mean) << name;
        EXPECT_LT(summary.cadence.stall, before->cadence.stall) << name;
        EXPECT_LT(summary.cadence.interval, before->cadence.interval) << name;
      }
      before = summary;
    }
  }
}

}  // namespace
}  // namespace moecast
