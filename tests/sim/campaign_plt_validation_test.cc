#include <cmath>

#include <gtest/gtest.h>

#include "models/checkpoint/plt.h"
#include "sim/campaign/campaign.h"
#include "sim/campaign/expert_versions.h"
#include "tests/sim/campaign_testing.h"

namespace moecast {
namespace {

/// 16 nodes of one GPU; one fault of node 3 in the middle of 1,280 steps, a checkpoint every 32 steps that is usable at
/// once. `replaced`: the node's memory is lost.
CampaignScenario campaign_with_a_fault(std::int64_t experts, CheckpointKind kind, ExpertCounts counts,
                                       double replaced) {
  CampaignScenario scenario = plain_campaign();
  scenario.cluster.gpus = 16;
  scenario.cluster.gpus_per_node = 1;
  scenario.training.steps = 1280;
  scenario.training.forward_backward = seconds_of(1);
  scenario.experts = {experts, experts, experts, 1, 0};  // as many layers: every age is there in equal numbers
  scenario.reliability.modes = {crash_mode(0, replaced)};
  scenario.reliability.modes[0].per = FailureUnit::Node;
  scenario.reliability.recorded = {{640.5, 0, 3}};
  scenario.costs = costs_of(0, 0, 0);
  scenario.policy = checkpoint_policy(kind, 32, counts);
  return scenario;
}

double plt_of(const CampaignScenario& scenario) {
  CampaignScenario one = scenario;
  one.replicas = 1;
  return run_replicas(one, 1)[0].plt;
}

TEST(CampaignPlt, OneLevelPublishedPoint) {
  // MoC-System: 8 experts, one fault at the midpoint, K = 1, 2, 4, 8: 8.75, 3.75, 1.25, 0 %.
  for (const auto& [count, expected] : {std::pair(1, 0.0875), {2, 0.0375}, {4, 0.0125}, {8, 0.0}}) {
    const CampaignScenario scenario = campaign_with_a_fault(8, CheckpointKind::PartialOneLevel, {count, count}, 0);
    EXPECT_NEAR(plt_of(scenario), expected, 1e-12) << "K " << count;
    EXPECT_NEAR(one_level_plt(8, count, 32.0 / 1280), expected, 1e-12);
  }
}

TEST(CampaignPlt, TwoLevelsWithTheHoldersOfAShareLost) {
  // N = 16, K_s = 4, K_p = 1. One node holds one expert of each layer, and the layers' windows move by whole windows:
  // its ages are spread evenly only over the faults of a whole rotation.
  for (const double replaced : {0.0, 1.0}) {
    CampaignScenario scenario = campaign_with_a_fault(16, CheckpointKind::PartialTwoLevel, {4, 1}, replaced);
    double sum = 0;
    for (int i = 0; i < 16; ++i) {
      scenario.reliability.recorded = {{640.5 + 32 * i, 0, 3}};
      sum += plt_of(scenario);
    }
    EXPECT_NEAR(sum / 16, two_level_plt(16, {4, 1}, replaced / 16, 32.0 / 1280), 1e-12) << replaced;
  }
  CampaignScenario half = campaign_with_a_fault(16, CheckpointKind::PartialTwoLevel, {4, 1}, 1);
  half.cluster.nodes_per_rack = 8;
  half.reliability.modes[0].reach = FailureUnit::Rack;
  EXPECT_NEAR(plt_of(half), 4.5 * 32 / 1280, 1e-12);
}

TEST(CampaignPlt, FaultsAddUp) {
  CampaignScenario scenario = campaign_with_a_fault(16, CheckpointKind::PartialOneLevel, {4, 4}, 0);
  scenario.reliability.recorded = {{400, 0, 3}, {800, 0, 5}, {1200, 0, 7}};
  EXPECT_NEAR(plt_of(scenario), 3 * one_level_plt(16, 4, 32.0 / 1280), 1e-12);
  // Two faults with nothing saved between them lose the same tokens once.
  scenario.reliability.recorded = {{641, 0, 3}, {650, 0, 5}};
  EXPECT_NEAR(plt_of(scenario), one_level_plt(16, 4, 32.0 / 1280), 1e-12);
}

TEST(CampaignPlt, MeanOverRandomFaults) {
  CampaignScenario scenario = campaign_with_a_fault(16, CheckpointKind::PartialTwoLevel, {4, 1}, 0.5);
  scenario.training.steps = 40'000;
  scenario.reliability.recorded.clear();
  scenario.reliability.modes[0].mean_between = 16 * 4000.0;  // of one node: ten faults of the job
  scenario.reliability.modes[0].reach = FailureUnit::Rack;
  scenario.cluster.nodes_per_rack = 8;
  scenario.replicas = 1500;
  const auto outcomes = run_replicas(scenario, 2);
  // Faults are rarer than a rotation of 16 checkpoints (512 steps), though not always: tokens that an earlier fault
  // took are not lost again. The first full checkpoint helps the first ones. Both are of the order of 512 / 4000.
  const auto per_fault = [](const CampaignOutcome& o) { return o.plt / static_cast<double>(o.interruptions); };
  std::vector<CampaignOutcome> struck;
  for (const CampaignOutcome& outcome : outcomes) {
    if (outcome.interruptions > 0) struck.push_back(outcome);
  }
  const MeanInterval found = mean_of(struck, per_fault);
  const double expected = two_level_plt(16, {4, 1}, 0.25, 32.0 / 40'000);
  EXPECT_LE(found.mean, expected);
  EXPECT_GE(found.mean, 0.9 * expected);
  EXPECT_LE(found.half_width, 0.02 * expected);
}

TEST(CampaignPlt, SkewedRoutingWeighsExperts) {
  CampaignScenario scenario = campaign_with_a_fault(8, CheckpointKind::PartialOneLevel, {2, 2}, 0);
  scenario.experts.zipf = 1;
  EXPECT_NEAR(plt_of(scenario), 0.0375, 1e-12);  // every expert has every age in equal numbers of layers
  scenario.experts.layers = 1;
  EXPECT_GT(std::fabs(plt_of(scenario) - 0.0375), 1e-4);
}

TEST(CampaignPlt, RotationEqualsSelectionsMadeOneByOne) {
  // Oldest-first is the rotation by another road, as long as no memory is lost: ties go in turn.
  CampaignScenario scenario = campaign_with_a_fault(16, CheckpointKind::PartialTwoLevel, {4, 1}, 1);
  scenario.training.steps = 6400;
  ExpertVersions turning(scenario);
  CampaignScenario oldest = scenario;
  std::get<CheckpointPolicy>(oldest.policy).partial.selection = SelectionKind::OldestFirst;
  ExpertVersions replaying(oldest);
  for (const std::int64_t step : {320, 640, 704, 1600, 3200}) {
    EXPECT_NEAR(turning.restore(step, 32, {}), replaying.restore(step, 32, {}), 1e-12) << step;
  }
}

TEST(CampaignPlt, DynamicKDoublesAndNeverFalls) {
  CampaignScenario scenario = campaign_with_a_fault(16, CheckpointKind::PartialOneLevel, {1, 1}, 0);
  scenario.training.steps = 20'000;
  scenario.reliability.recorded.clear();
  for (int i = 1; i <= 60; ++i) scenario.reliability.recorded.push_back({300.0 * i, 0, 3});
  CheckpointPolicy policy = checkpoint_policy(CheckpointKind::PartialOneLevel, 8, {1, 1});
  scenario.policy = policy;
  scenario.replicas = 1;
  const double constant = plt_of(scenario);
  policy.partial.dynamic = DynamicK{};
  scenario.policy = policy;
  const CampaignOutcome dynamic = run_replicas(scenario, 1)[0];
  EXPECT_GT(constant, 0.0375);
  EXPECT_LE(dynamic.plt, 0.0375);
  EXPECT_GT(dynamic.experts.persist, 1);
  EXPECT_EQ(16 % dynamic.experts.persist, 0);
}

}  // namespace
}  // namespace moecast
