#include "sim/expert_load.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "models/attribution.h"
#include "models/metrics.h"
#include "tests/sim/scenario_testing.h"

namespace moecast {
namespace {

constexpr const char* kCluster = "experiments/clusters/nvlink_cluster.json";

/// Mixtral cut to two blocks on two nodes.
Scenario small(const std::string& routing, std::vector<std::pair<std::string, std::string>> more = {}) {
  std::vector<std::pair<std::string, std::string>> settings = {
      {"/nodes", "2"},
      {"/workload/parallel/data", "16"},
      {"/workload/batch/micro_batch_count", "1"},
      {"/workload/model", R"({"name": "m", "d_model": 1024, "vocabulary": 1000, "max_sequence": 4096,
         "attention": {"heads": 8}, "layers": {"count": 2, "moe_every": 1, "moe_offset": 0},
         "moe": {"experts": 16, "expert_width": 2048, "dropless": true,
                 "router": {"kind": "softmax_top_k", "top_k": 2}}})"}};
  if (!routing.empty()) settings.emplace_back("/routing", routing);
  for (auto& setting : more) settings.push_back(std::move(setting));
  return scenario_from(kCluster, settings);
}

Timeline run(const Scenario& scenario) {
  Result<Timeline> timeline = simulate(scenario);
  EXPECT_TRUE(timeline.ok()) << (timeline.ok() ? "" : timeline.error().text());
  return timeline.ok() ? std::move(timeline).value() : Timeline{};
}

/// Time of the forward experts of layer 0 on a rank.
Duration expert_time(const Timeline& timeline, Rank rank) {
  for (const Span& span : timeline.spans) {
    const Operator& op = timeline.plan.operators[span.op.index()];
    const bool wanted = op.kind == OpKind::Expert && op.phase == Phase::Forward && op.layer == LayerId(0);
    if (wanted && span.rank == rank) return span.duration();
  }
  return {};
}

TEST(ExpertLoad, EqualMeasuredSharesAreTheMean) {
  const Timeline even = run(small(""));
  const Timeline drawn = run(small(R"({"load": "uniform"})"));
  const double ratio = seconds(step_metrics(drawn).step_time) / seconds(step_metrics(even).step_time);
  EXPECT_GE(ratio, 1);  // a multinomial draw of 8,192 choices for every expert
  EXPECT_LE(ratio, 1.05);
}

TEST(ExpertLoad, RanksWithPopularExpertsWorkLongerAndOthersWait) {
  std::string shares = "[8, 8";
  for (int i = 2; i < 16; ++i) shares += ", 1";
  const Scenario scenario = small(R"({"load": "measured", "expert_load": [{"share": )" + shares + "]}]}");
  const ExpertLoads loads = draw_loads(*scenario.routing, scenario.workload, scenario.seed);
  const MemberLoad& first = loads.at({LayerId(0), false});
  EXPECT_NEAR(first.factor(0), 16.0 / 30 * 8, 0.1);
  EXPECT_NEAR(first.factor(3), 2.0 / 30 * 8, 0.1);
  EXPECT_DOUBLE_EQ(std::accumulate(first.rows.begin(), first.rows.end(), 0.0), 8 * first.mean);
  const Timeline timeline = run(scenario);
  ASSERT_EQ(timeline.stands_for.size(), 8U);  // expert groups are alike, their members differ
  EXPECT_GT(expert_time(timeline, Rank(0)), 4 * expert_time(timeline, Rank(3)));
  EXPECT_GT(attribute(timeline).stall, attribute(run(small(""))).stall);
  EXPECT_GT(step_metrics(timeline).step_time, step_metrics(run(small(""))).step_time);
}

TEST(ExpertLoad, FoldedEqualsUnfolded) {
  for (const char* degraded : {"[]", R"([{"part": "leaf", "gpu": 3, "factor": 0.5}])"}) {
    Scenario scenario = small(R"({"load": "zipf", "exponent": 1})", {{"/degraded", degraded}});
    const Timeline folded = run(scenario);
    scenario.fold = false;
    const Timeline unfolded = run(scenario);
    EXPECT_EQ(unfolded.spans.size(), 16 * unfolded.plan.operators.size());
    EXPECT_LT(folded.spans.size(), unfolded.spans.size());
    EXPECT_NEAR(static_cast<double>((step_metrics(folded).step_time - step_metrics(unfolded).step_time).count()), 0,
                40);
  }
}

TEST(ExpertLoad, ExchangesTakeTheTimeOfTheBusiestPort) {
  // Everything to the first of eight members: seven buffers enter its port, instead of 7/8 of one.
  std::string shares = "[1, 1";
  for (int i = 2; i < 16; ++i) shares += ", 0";
  const std::string routing = R"({"load": "measured", "expert_load": [{"share": )" + shares + "]}]}";
  const auto dispatch = [](const Timeline& timeline) {
    Duration least = Duration::max();
    for (const Span& span : timeline.spans) {
      const Operator& op = timeline.plan.operators[span.op.index()];
      if (op.kind == OpKind::Dispatch && op.phase == Phase::Forward) least = std::min(least, span.duration());
    }
    return seconds(least);
  };
  const auto on_one_node = [](const std::string& load) {
    Scenario scenario = small(load, {{"/workload/parallel/data", "8"}});
    Result<HardwareProfile> node = find_profile("a100_nvlink_8", ".");
    EXPECT_TRUE(node.ok());
    scenario.hardware = std::move(node).value();
    return scenario;
  };
  const Scenario even = on_one_node(""), uneven = on_one_node(routing);
  const double latency = seconds(even.hardware.node.all_to_all.latency);
  EXPECT_NEAR((dispatch(run(uneven)) - latency) / (dispatch(run(even)) - latency), 8, 0.01);
}

TEST(ExpertLoad, ACapacityKeepsTimesAndDropsChoices) {
  const std::vector<std::pair<std::string, std::string>> capacity = {{"/workload/model/moe/dropless", "false"},
                                                                     {"/workload/model/moe/capacity_factor", "1"}};
  const Scenario even = small("", capacity), skewed = small(R"({"load": "zipf"})", capacity);
  EXPECT_EQ(step_metrics(run(even)).step_time, step_metrics(run(skewed)).step_time);
  const ExpertLoads loads = draw_loads(*skewed.routing, skewed.workload, skewed.seed);
  EXPECT_GT(loads.at({LayerId(1), false}).dropped, 0.1);
  EXPECT_NE(describe(*skewed.routing, loads).find("of choices dropped"), std::string::npos);
}

TEST(ExpertLoad, ReadsBackWhatItWrites) {
  const Scenario scenario = small(R"({"load": "measured", "expert_load": [
      {"layer": 1, "share": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], "dropped": 0}]})");
  const std::string text = to_json(scenario).dump();
  const Result<JsonDocument> document = JsonDocument::parse(text, "resolved.json", "/nowhere");
  ASSERT_TRUE(document.ok());
  const Result<Scenario> again = read_scenario(*document);
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(again->routing, scenario.routing);
}

TEST(ExpertLoad, SaysAllThatIsWrong) {
  Result<JsonDocument> document = JsonDocument::read(std::string(MOECAST_SOURCE_DIR) + "/" + kCluster);
  ASSERT_TRUE(document.ok());
  ASSERT_TRUE(document
                  ->set("/routing", R"({"load": "measured", "exponent": 2, "expert_load": [
                        {"layer": 1, "share": [1, 2]}, {"layer": 2, "share": [0, 0, 0, 0, 0, 0, 0, 0]},
                        {"layer": 99, "share": [1, 1, 1, 1, 1, 1, 1, 1]}]})")
                  .ok());
  const Result<Scenario> scenario = read_scenario(*document);
  ASSERT_FALSE(scenario.ok());
  for (const char* part : {"exponent", "/routing/expert_load/0/share", "each of the 8 experts",
                           "/routing/expert_load/1/share", "/routing/expert_load/2/layer"}) {
    EXPECT_NE(scenario.error().text().find(part), std::string::npos) << part << "\n" << scenario.error().text();
  }
}

}  // namespace
}  // namespace moecast
