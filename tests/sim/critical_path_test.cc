#include "sim/critical_path.h"

#include <gtest/gtest.h>

#include "models/metrics.h"
#include "sim/what_if.h"
#include "tests/sim/scenario_testing.h"

namespace moecast {
namespace {

Duration length(const std::vector<PathStep>& path) {
  Duration total{};
  for (const PathStep& step : path) total += step.time;
  return total;
}

TEST(CriticalPath, CoversTheWholeStep) {
  const std::vector<std::pair<std::string, std::string>> two_stages = {
      {"/workload/parallel", R"({"data": 32, "expert": 8, "pipeline": 2})"}};
  for (const Scenario& scenario : {scenario_from("experiments/clusters/nvlink_cluster_skewed.json"),
                                   scenario_from("experiments/clusters/nvlink_cluster_slow_nic.json"),
                                   scenario_from("experiments/clusters/nvlink_cluster.json", two_stages),
                                   scenario_from("experiments/clusters/pcie_box_scmoe.json")}) {
    std::vector<PathStep> path;
    const Result<Timeline> timeline = simulate(scenario, &path);
    ASSERT_TRUE(timeline.ok());
    EXPECT_EQ(length(path), step_metrics(*timeline).step_time) << scenario.name;
    EXPECT_EQ(path.front().waited_for, WaitedFor::Nothing);
    for (std::size_t i = 1; i < path.size(); ++i) EXPECT_NE(path[i].waited_for, WaitedFor::Nothing);
    Duration shares{};
    for (const PathShare& share : path_shares(path, *timeline)) shares += share.time;
    EXPECT_EQ(shares, length(path));
  }
}

TEST(CriticalPath, SaysWhatEachWaitedFor) {
  const Scenario scenario = scenario_from("experiments/clusters/nvlink_cluster.json",
                                          {{"/workload/parallel", R"({"data": 32, "expert": 8, "pipeline": 2})"},
                                           {"/routing", R"({"load": "zipf", "exponent": 1})"}});
  std::vector<PathStep> path;
  const Result<Timeline> timeline = simulate(scenario, &path);
  ASSERT_TRUE(timeline.ok());
  std::int64_t late_combines = 0, messages = 0;
  for (const PathStep& step : path) {
    const Operator& op = timeline->plan_of_stage(step.stage).operators[step.op.index()];
    if (op.kind == OpKind::Combine && op.phase == Phase::Forward) {
      EXPECT_EQ(step.waited_for, WaitedFor::Dependency);  // its experts
      late_combines += step.late_peer;
    }
    if (step.waited_for == WaitedFor::Message) {
      ++messages;
      EXPECT_EQ(op.kind, OpKind::Receive);
      EXPECT_EQ(step.time, Duration(0));
    }
    EXPECT_GE(step.time + Duration(2), step.alone);  // a nanosecond is rounded, and nothing is faster than alone
  }
  EXPECT_GT(messages, 0);
  EXPECT_GT(late_combines, 0);
}

TEST(WhatIf, TheCauseHelpsMost) {
  const auto best = [](const std::string& file) {
    const Scenario scenario = scenario_from(file);
    const Result<Timeline> timeline = simulate(scenario);
    EXPECT_TRUE(timeline.ok());
    const Result<std::vector<WhatIf>> helps = what_helps(scenario, step_metrics(*timeline).step_time);
    EXPECT_TRUE(helps.ok());
    for (std::size_t i = 1; i < helps->size(); ++i) EXPECT_LE((*helps)[i - 1].step_time, (*helps)[i].step_time);
    return helps->front().change;
  };
  EXPECT_EQ(best("experiments/clusters/nvlink_cluster_skewed.json"), "even load of experts");
  EXPECT_EQ(best("experiments/clusters/nvlink_cluster_slow_nic.json"), "no degraded link");
}

}  // namespace
}  // namespace moecast
