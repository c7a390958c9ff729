#include "tests/sim/campaign_testing.h"

#include <limits>

namespace moecast {

CampaignScenario plain_campaign() {
  CampaignScenario scenario;
  scenario.name = "test";
  scenario.cluster.gpus = 8;
  scenario.cluster.spares = {SpareNodes::Kind::Hot, 1'000'000, TimeDistribution::constant(0)};
  scenario.training.steps = 1000;
  scenario.training.step = seconds_of(1);
  const TimeDistribution none = TimeDistribution::constant(0);
  scenario.reliability.recovery = {none, none, none, none, 0, 0};
  scenario.policy = checkpoint_policy(CheckpointKind::None, 1);
  scenario.confidence = 0.99;
  return scenario;
}

FailureMode crash_mode(double mean, double replaced) {
  FailureMode mode;
  mode.name = "crash";
  mode.per = FailureUnit::Cluster;
  mode.reach = FailureUnit::Node;
  mode.mean_between = mean;
  mode.gap_law = TimeDistribution::exponential(1);
  mode.replaced = replaced;
  return mode;
}

CheckpointCosts costs_of(double snapshot, double persist, double load) {
  CheckpointCosts costs;
  costs.rank_non_expert = Bytes(1'000'000);
  costs.total_non_expert = Bytes(8'000'000);
  const auto rate = [](double time) {
    return BytesPerSecond(time > 0 ? 1e6 / time : std::numeric_limits<double>::infinity());
  };
  costs.snapshot_rate = rate(snapshot);
  costs.persist_rate = rate(persist);
  costs.load_rate = rate(load);
  costs.memory_load_rate = rate(load);
  costs.peer_rate = rate(load);
  return costs;
}

CheckpointPolicy checkpoint_policy(CheckpointKind kind, std::int64_t interval, ExpertCounts counts) {
  CheckpointPolicy policy;
  policy.kind = kind;
  policy.interval = interval;
  policy.partial.experts = counts;
  return policy;
}

MeanInterval mean_of(const std::vector<CampaignOutcome>& outcomes,
                     const std::function<double(const CampaignOutcome&)>& value) {
  std::vector<double> values;
  for (const CampaignOutcome& outcome : outcomes) values.push_back(value(outcome));
  return mean_interval(values, 0.99);
}

}  // namespace moecast
