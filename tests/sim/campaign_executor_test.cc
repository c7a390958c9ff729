#include "sim/campaign/campaign_executor.h"

#include <cmath>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/sim/campaign_step_by_step_testing.h"
#include "tests/sim/campaign_testing.h"

namespace moecast {
namespace {

FailureMode slow_mode() {
  FailureMode mode = crash_mode(900);
  mode.name = "slow";
  mode.effect = FailureEffect::Slow;
  mode.slow_factor = 1.37;
  mode.lasts = TimeDistribution::exponential(120);
  return mode;
}

FailureMode corruption_mode() {
  FailureMode mode = crash_mode(4000, 1);
  mode.name = "corruption";
  mode.effect = FailureEffect::Corruption;
  mode.latency = TimeDistribution::exponential(80);
  return mode;
}

/// A small cluster where everything that can happen happens often: crashes of a GPU, a node or the software, racks and
/// companions, slow spells, silent corruption, failures during recovery, few spares.
CampaignScenario eventful_campaign() {
  CampaignScenario scenario = plain_campaign();
  scenario.cluster.gpus = 32;
  scenario.cluster.gpus_per_node = 4;
  scenario.cluster.nodes_per_rack = 2;
  scenario.cluster.spares = {SpareNodes::Kind::Warm, 2, TimeDistribution::exponential(7)};
  scenario.training.steps = 6000;
  scenario.training.step = Duration(700'000'123);
  scenario.training.forward_backward = Duration(500'000'077);
  scenario.costs = costs_of(1.3, 9.1, 4.7);
  scenario.costs.rank_expert = Bytes(3'000'000);
  scenario.costs.total_expert = Bytes(30'000'000);
  scenario.costs.storage_read = BytesPerSecond(1e7);
  scenario.costs.persist_interference = 0.013;
  scenario.experts = {16, 6, 8, 2, 0};
  RecoveryTimes& recovery = scenario.reliability.recovery;
  recovery.detection = TimeDistribution::exponential(3);
  recovery.diagnosis = TimeDistribution::constant(2);
  recovery.repair = TimeDistribution::lognormal_median(100, 1.2);
  recovery.process_start = TimeDistribution::weibull(20, 1.5);
  recovery.communicator_per_gpu = 0.05;
  FailureMode node = crash_mode(32'000, 0.7);
  node.name = "gpu";
  node.per = FailureUnit::Gpu;
  node.reach = FailureUnit::Gpu;
  node.spreads_to_rack = 0.2;
  node.companion = 0.2;
  node.gap_law = TimeDistribution::weibull(1, 0.7);
  node.each = true;
  scenario.reliability.modes = {node, crash_mode(700), slow_mode(), corruption_mode()};
  return scenario;
}

void expect_same(const CampaignScenario& scenario, const std::string& what) {
  for (std::int64_t replica = 0; replica < 4; ++replica) {
    const CampaignOutcome jumped = run_campaign(scenario, replica);
    const CampaignOutcome walked = run_step_by_step(scenario, replica);
    EXPECT_GT(jumped.interruptions, 3) << what;
    for (std::size_t i = 0; i < kTimeCauseCount; ++i) {
      EXPECT_EQ(jumped.time[i].count(), walked.time[i].count())
          << what << ", replica " << replica << ": " << name_of(static_cast<TimeCause>(i));
    }
    EXPECT_NEAR(jumped.plt, walked.plt, 1e-12) << what;
    CampaignOutcome with_plt = jumped;  // sums of the same terms in another order
    with_plt.plt = walked.plt;
    with_plt.memory_bytes = walked.memory_bytes;
    with_plt.storage_bytes = walked.storage_bytes;
    with_plt.host_memory = walked.host_memory;  // the walk has none
    EXPECT_TRUE(with_plt == walked) << what << ", replica " << replica;
    EXPECT_NEAR(jumped.storage_bytes, walked.storage_bytes, 1e-9 * walked.storage_bytes) << what;
  }
}

TEST(CampaignExecutor, FullCheckpointsEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  for (const CheckpointKind kind : {CheckpointKind::BlockingFull, CheckpointKind::AsynchronousFull}) {
    for (const std::int64_t interval : {1, 7, 60}) {
      scenario.policy = checkpoint_policy(kind, interval);
      expect_same(scenario, std::string(to_text(kind)) + " every " + std::to_string(interval));
    }
  }
  scenario.training.horizon = seconds_of(2500.0);
  expect_same(scenario, "until the horizon");
}

TEST(CampaignExecutor, NoCheckpointsEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  scenario.training.horizon = seconds_of(5000);
  expect_same(scenario, "nothing saved");
}

TEST(CampaignExecutor, PartialExpertsEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  scenario.reliability.modes.pop_back();
  for (const CheckpointKind kind : {CheckpointKind::PartialOneLevel, CheckpointKind::PartialTwoLevel}) {
    for (const ExpertCounts counts : {ExpertCounts{4, 1}, ExpertCounts{2, 2}, ExpertCounts{16, 4}}) {
      const bool two = kind == CheckpointKind::PartialTwoLevel;
      scenario.policy = checkpoint_policy(kind, 9, two ? counts : ExpertCounts{counts.persist, counts.persist});
      expect_same(scenario, std::string(to_text(kind)) + " K " + std::to_string(counts.persist));
      std::get<CheckpointPolicy>(scenario.policy).partial.first_full = false;
      expect_same(scenario, std::string(to_text(kind)) + " from the seed, K " + std::to_string(counts.persist));
    }
  }
}

TEST(CampaignExecutor, DynamicKEqualsStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  // Corruption may lead back beyond the last restore, where versions are known only up to a cap.
  scenario.reliability.modes.pop_back();
  for (const CheckpointKind kind : {CheckpointKind::PartialOneLevel, CheckpointKind::PartialTwoLevel}) {
    CheckpointPolicy policy = checkpoint_policy(kind, 30, {1, 1});
    policy.partial.dynamic = DynamicK{0.5, {}};
    scenario.policy = policy;
    expect_same(scenario, std::string(to_text(kind)) + " with Dynamic-K");
  }
}

TEST(CampaignExecutor, OtherSelectionsEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  scenario.training.steps = 2500;
  for (const SelectionKind kind : {SelectionKind::OldestFirst, SelectionKind::Random, SelectionKind::LoadAware}) {
    CheckpointPolicy policy = checkpoint_policy(CheckpointKind::PartialTwoLevel, 9, {5, 2});
    policy.partial.selection = kind;
    policy.partial.first_full = true;
    scenario.policy = policy;
    scenario.reliability.modes.resize(3);
    expect_same(scenario, std::string(to_text(kind)));
  }
}

TEST(CampaignExecutor, RivalPoliciesEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  scenario.policy = PeerReplicaSettings{3, 2, 5, 0.8};
  expect_same(scenario, "peers");
  scenario.policy = JustInTimeSettings{2, 60};
  expect_same(scenario, "just in time");
  scenario.policy = SparseWindowSettings{12, 2, Duration(1'234'567), 0.67, 0.77, 3};
  expect_same(scenario, "sparse");
}

TEST(CampaignExecutor, FreshClocksEqualStepByStep) {
  CampaignScenario scenario = eventful_campaign();
  for (FailureMode& mode : scenario.reliability.modes) mode.each = false;
  scenario.clock = FailureClock::Fresh;
  scenario.policy = checkpoint_policy(CheckpointKind::AsynchronousFull, 7);
  expect_same(scenario, "fresh");
}

TEST(CampaignExecutor, WithoutFailuresTimeIsStepsAndStalls) {
  CampaignScenario scenario = plain_campaign();
  scenario.costs = costs_of(0, 2, 0);
  scenario.policy = checkpoint_policy(CheckpointKind::BlockingFull, 100);
  const CampaignOutcome outcome = run_campaign(scenario, 0);
  EXPECT_TRUE(outcome.finished);
  EXPECT_EQ(outcome.steps, 1000);
  EXPECT_EQ(outcome.checkpoints, 10);
  EXPECT_EQ(outcome.wall, seconds_of(1020));
  EXPECT_EQ(outcome.of(TimeCause::Stall), seconds_of(20));
}

/// One failure of a log, so that everything can be counted by hand.
CampaignScenario campaign_with_one_failure(double at, double replaced) {
  CampaignScenario scenario = plain_campaign();
  scenario.cluster.gpus = 16;
  scenario.cluster.spares = {SpareNodes::Kind::Hot, 1, TimeDistribution::constant(5)};
  scenario.reliability.modes = {crash_mode(0, replaced)};
  scenario.reliability.modes[0].reach = FailureUnit::Node;
  scenario.reliability.modes[0].per = FailureUnit::Node;
  scenario.reliability.recorded = {{at, 0, 1}};
  scenario.reliability.recovery.detection = TimeDistribution::constant(10);
  scenario.reliability.recovery.diagnosis = TimeDistribution::constant(20);
  scenario.reliability.recovery.repair = TimeDistribution::constant(1000);
  scenario.reliability.recovery.process_start = TimeDistribution::constant(30);
  scenario.reliability.recovery.communicator_per_gpu = 0.5;
  scenario.costs = costs_of(0, 2, 7);
  scenario.policy = checkpoint_policy(CheckpointKind::BlockingFull, 100);
  return scenario;
}

TEST(CampaignExecutor, OneFailureByHand) {
  // 250.5 s: 2 checkpoints of 2 s, step 246 done, 0.5 s into the next; back to step 200.
  const CampaignScenario scenario = campaign_with_one_failure(250.5, 1);
  const CampaignOutcome outcome = run_campaign(scenario, 0);
  EXPECT_EQ(outcome.of(TimeCause::Useful), seconds_of(1000));
  EXPECT_EQ(outcome.of(TimeCause::Detection), seconds_of(30));
  EXPECT_EQ(outcome.of(TimeCause::Replacement), seconds_of(5));
  EXPECT_EQ(outcome.of(TimeCause::Restart), seconds_of(38));
  EXPECT_EQ(outcome.of(TimeCause::Load), seconds_of(7));
  EXPECT_EQ(outcome.of(TimeCause::Recomputation), seconds_of(46.5));
  EXPECT_EQ(outcome.of(TimeCause::Stall), seconds_of(20));
  EXPECT_EQ(outcome.lost_age, seconds_of(250.5 - 202));
}

TEST(CampaignExecutor, FailureDuringTheWriteLosesIt) {
  // Step 200 ends at 202 s (one stall of 2 s before); its checkpoint would be usable at 204 s.
  CampaignScenario scenario = campaign_with_one_failure(203.999999999, 1);
  EXPECT_EQ(run_campaign(scenario, 0).of(TimeCause::Recomputation), seconds_of(100));
  scenario = campaign_with_one_failure(204.0, 1);
  EXPECT_EQ(run_campaign(scenario, 0).of(TimeCause::Recomputation), seconds_of(0));
}

TEST(CampaignExecutor, WithoutSparesTheJobWaitsForTheRepair) {
  CampaignScenario scenario = campaign_with_one_failure(250.5, 1);
  scenario.cluster.spares = {};
  scenario.cluster.spares.swap = TimeDistribution::constant(0);
  EXPECT_EQ(run_campaign(scenario, 0).of(TimeCause::Replacement), seconds_of(1000 - 30));
}

TEST(CampaignExecutor, FailureDuringRecoveryBeginsAnew) {
  CampaignScenario scenario = campaign_with_one_failure(250.5, 0);
  scenario.reliability.recorded.push_back({250.5 + 30 + 38 + 3, 0, 0});  // 3 s into the load
  const CampaignOutcome outcome = run_campaign(scenario, 0);
  EXPECT_EQ(outcome.interruptions, 1);
  EXPECT_EQ(outcome.failures, 2);
  EXPECT_EQ(outcome.of(TimeCause::Detection), seconds_of(60));
  EXPECT_EQ(outcome.of(TimeCause::Restart), seconds_of(76));
  EXPECT_EQ(outcome.of(TimeCause::Load), seconds_of(10));
}

TEST(CampaignExecutor, CorruptionGoesBackBeforeItBegan) {
  CampaignScenario scenario = campaign_with_one_failure(250.5, 0);
  scenario.reliability.modes[0].effect = FailureEffect::Corruption;
  scenario.reliability.modes[0].latency = TimeDistribution::constant(300);
  const CampaignOutcome outcome = run_campaign(scenario, 0);
  // Found at 550.5 s: five stalls of 2 s, step 540 done and half of the next; version 200 was the last clean one.
  EXPECT_EQ(outcome.of(TimeCause::Recomputation), seconds_of(340.5));
  EXPECT_EQ(outcome.of(TimeCause::Detection), seconds_of(20));
}

TEST(CampaignExecutor, ElasticGoesOnSlowerUntilTheRepair) {
  CampaignScenario scenario = campaign_with_one_failure(250.5, 1);
  scenario.cluster.gpus = 32;
  scenario.cluster.spares = {};
  scenario.cluster.spares.swap = TimeDistribution::constant(0);
  scenario.policy = ElasticSettings{2, seconds_of(20), 0, 0.5};
  const CampaignOutcome outcome = run_campaign(scenario, 0);
  EXPECT_EQ(outcome.of(TimeCause::Load), seconds_of(40));  // out and in again
  EXPECT_EQ(outcome.of(TimeCause::Detection), seconds_of(30));
  EXPECT_EQ(outcome.restores[static_cast<std::size_t>(RestoreSource::Survivors)], 1);
  // Three of four nodes: a step of 4/3 s from 300.5 s until 1250.5 s.
  EXPECT_NEAR(seconds(outcome.of(TimeCause::Degraded)), 950.0 / 4, 1);
  EXPECT_LT(seconds(outcome.of(TimeCause::Recomputation)), 2.5);
}

TEST(CampaignExecutor, SameBytesForAnyNumberOfThreads) {
  CampaignScenario scenario = eventful_campaign();
  scenario.policy = checkpoint_policy(CheckpointKind::PartialTwoLevel, 9, {4, 1});
  scenario.replicas = 37;
  const auto alone = run_replicas(scenario, 1);
  EXPECT_EQ(run_replicas(scenario, 3), alone);
  EXPECT_EQ(run_replicas(scenario, 8), alone);
  scenario.seed = 2;
  EXPECT_NE(run_replicas(scenario, 1), alone);
}

TEST(CampaignExecutor, HostMemoryIsWhatEachPolicyKeeps) {
  CampaignScenario scenario = plain_campaign();
  scenario.cluster.gpus = 64;
  scenario.experts = {16, 4, 8, 1, 0};
  scenario.costs = costs_of(0.1, 1, 0);
  scenario.costs.rank_expert = Bytes(4'000'000);
  const auto memory = [&](PolicySettings policy) {
    scenario.policy = std::move(policy);
    return run_campaign(scenario, 0).host_memory;
  };
  EXPECT_EQ(memory(checkpoint_policy(CheckpointKind::None, 1)), 0);
  EXPECT_EQ(memory(checkpoint_policy(CheckpointKind::AsynchronousFull, 10)), 5e6);
  EXPECT_EQ(memory(checkpoint_policy(CheckpointKind::PartialOneLevel, 10, {4, 4})), 2e6);
  EXPECT_EQ(memory(checkpoint_policy(CheckpointKind::PartialTwoLevel, 10, {4, 1})), 5e6 + 2e6);  // every expert's + one
  EXPECT_EQ(memory(PeerReplicaSettings{10, 2, 0, 1}), 4 * 5e6);  // own and a peer's, whole and in flight
  EXPECT_EQ(memory(JustInTimeSettings{2, 0}), 0);
}

TEST(CampaignExecutor, IntervalBelowThePersistTimeIsStretchedAndSaid) {
  CampaignScenario scenario = plain_campaign();
  scenario.costs = costs_of(0.5, 9, 0);
  scenario.training.forward_backward = seconds_of(0.8);
  scenario.policy = checkpoint_policy(CheckpointKind::AsynchronousFull, 4);
  scenario.replicas = 2;
  const auto outcomes = run_replicas(scenario, 1);
  EXPECT_EQ(outcomes[0].checkpoints, 1000 / 12);
  const CampaignSummary summary = summarize(scenario, outcomes);
  ASSERT_EQ(summary.notes.size(), 1U);
  EXPECT_NE(summary.notes[0].find("stretched to 12 steps"), std::string::npos) << summary.notes[0];
  EXPECT_EQ(summary.cadence.interval, 12);
  scenario.costs.peer_rate = BytesPerSecond(1e6 / 9.5);
  scenario.policy = PeerReplicaSettings{3, 2, 0, 1};
  const CampaignSummary peers = summarize(scenario, run_replicas(scenario, 1));
  ASSERT_EQ(peers.notes.size(), 1U);
  EXPECT_NE(peers.notes[0].find("stretched to 12 steps"), std::string::npos) << peers.notes[0];
}

}  // namespace
}  // namespace moecast
