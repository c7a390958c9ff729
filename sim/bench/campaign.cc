#include "sim/campaign/campaign.h"

#include <benchmark/benchmark.h>

#include "sim/campaign/campaign_executor.h"

namespace moecast {
namespace {

/// Pre-training of a model with 58 MoE layers of 256 experts: one node failure per 1,638 GPU-days, PEC on two levels.
CampaignScenario pretraining(std::int64_t gpus, double days, PolicySettings policy) {
  CampaignScenario scenario;
  scenario.cluster.gpus = gpus;
  scenario.cluster.spares = {SpareNodes::Kind::Warm, gpus / 512, TimeDistribution::constant(60)};
  scenario.training.horizon = duration_from_seconds(days * 86400);
  scenario.training.step = duration_from_seconds(10);
  scenario.training.forward_backward = duration_from_seconds(8);
  scenario.experts = {256, 58, 64, 1, 0};
  CheckpointCosts& costs = scenario.costs;
  costs.rank_non_expert = Bytes(1'000'000'000);
  costs.rank_expert = Bytes(20'000'000'000);
  costs.total_non_expert = Bytes(300'000'000'000);
  costs.total_expert = Bytes(9'000'000'000'000);
  costs.snapshot_rate = costs.memory_load_rate = costs.persist_rate = costs.load_rate = costs.peer_rate =
      BytesPerSecond(2e9);
  FailureMode mode;
  mode.name = "gpu";
  mode.mean_between = 1638.4 * 86400;  // 10 failures a day on 16,384 GPUs
  mode.gap_law = TimeDistribution::exponential(1);
  mode.replaced = 0.7;
  scenario.reliability.modes = {mode};
  RecoveryTimes& recovery = scenario.reliability.recovery;
  recovery.detection = TimeDistribution::exponential(120);
  recovery.diagnosis = TimeDistribution::constant(60);
  recovery.repair = TimeDistribution::lognormal_median(6 * 3600, 1.2);
  recovery.process_start = TimeDistribution::constant(120);
  recovery.communicator_fixed = 30;
  scenario.policy = std::move(policy);
  return scenario;
}

PolicySettings partial_experts(std::int64_t snapshot, std::int64_t persist) {
  CheckpointPolicy policy;
  policy.kind = CheckpointKind::PartialTwoLevel;
  policy.interval = 30;
  policy.partial.experts = {snapshot, persist};
  return policy;
}

void campaign(benchmark::State& state, const PolicySettings& policy) {
  const CampaignScenario scenario = pretraining(state.range(0), static_cast<double>(state.range(1)), policy);
  std::int64_t replica = 0;
  double failures = 0;
  for (auto _ : state) {
    const CampaignOutcome outcome = run_campaign(scenario, replica++);
    failures += static_cast<double>(outcome.failures);
    benchmark::DoNotOptimize(outcome);
  }
  state.SetItemsProcessed(state.iterations());  // replicas
  state.counters["failures"] = failures / static_cast<double>(state.iterations());
}
// 8 kinds of layers; and all 58 different.
BENCHMARK_CAPTURE(campaign, pec_32_8, partial_experts(32, 8))
    ->Args({16'384, 54})
    ->Args({100'000, 90})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(campaign, pec_4_1, partial_experts(4, 1))
    ->Args({16'384, 54})
    ->Args({100'000, 90})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(campaign, peers_each_step, PeerReplicaSettings{1, 2, 200, 1})
    ->Args({16'384, 54})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moecast
