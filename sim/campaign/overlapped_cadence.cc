#include "sim/campaign/overlapped_cadence.h"

#include <algorithm>

#include "sim/campaign/policy.h"

namespace moecast {

namespace {
/// Stall of one checkpoint beside steps that take `slower` times as long: they leave more room, in proportion.
Duration stall_of(const CampaignScenario& scenario, double slower, Duration snapshot, Duration persist) {
  const CheckpointCosts& costs = scenario.costs;
  const auto room =
      Duration(static_cast<std::int64_t>(static_cast<double>(scenario.training.forward_backward.count()) * slower));
  return std::max(Duration::zero(), snapshot - room) +
         duration_from_seconds(costs.snapshot_interference * seconds(std::min(snapshot, room)) +
                               costs.persist_interference * seconds(persist));
}
}  // namespace

Cadence overlapped_cadence(const CampaignScenario& scenario, std::int64_t interval, Duration step_time,
                           double snapshot_share, double persist_share) {
  const Duration plain_step = scenario.training.step;
  const Duration snapshot = scenario.costs.snapshot_time(snapshot_share);
  const Duration persist = scenario.costs.persist_time(persist_share);
  const double slower = static_cast<double>(step_time.count()) / static_cast<double>(plain_step.count());
  Cadence out;
  out.stall = stall_of(scenario, std::max(1.0, slower), snapshot, persist);
  // From plain steps, so that the interval does not change with the speed: slower steps only leave more time.
  out.interval = interval_above_floor(interval, plain_step, stall_of(scenario, 1, snapshot, persist), persist);
  out.to_memory = snapshot;
  out.to_storage = snapshot + persist;
  return out;
}

Cadence last_resort_cadence(const CampaignScenario& scenario, std::int64_t interval, Duration step_time) {
  if (interval == 0) return {};
  return overlapped_cadence(scenario, interval, step_time, 1, 1);
}

}  // namespace moecast
