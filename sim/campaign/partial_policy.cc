#include "sim/campaign/partial_policy.h"

#include <algorithm>

#include "models/checkpoint/plt.h"
#include "sim/campaign/overlapped_cadence.h"

namespace moecast {

PartialExpertState::PartialExpertState(const CampaignScenario& scenario)
    : scenario_(scenario), policy_(std::get<CheckpointPolicy>(scenario.policy)), versions_(scenario) {
  const PartialExperts& partial = policy_.partial;
  if (partial.dynamic) dynamic_.emplace(*partial.dynamic, partial.experts, scenario.experts.experts_per_layer);
}

double PartialExpertState::snapshot_share() const {
  return static_cast<double>(versions_.counts().snapshot) / static_cast<double>(scenario_.experts.experts_per_layer);
}
double PartialExpertState::persist_share() const {
  return static_cast<double>(versions_.counts().persist) / static_cast<double>(scenario_.experts.experts_per_layer);
}

std::int64_t PartialExpertState::interval() const {
  return overlapped_cadence(scenario_, policy_.interval, scenario_.training.step, snapshot_share(), persist_share())
      .interval;
}

Cadence PartialExpertState::cadence(std::int64_t step, Duration step_time) const {
  Cadence out = overlapped_cadence(scenario_, policy_.interval, step_time, snapshot_share(), persist_share());
  if (!policy_.partial.first_full || step >= out.interval) return out;
  // The full one takes longer; the next is not held up by it (once in a run).
  const std::int64_t interval = out.interval;
  out = overlapped_cadence(scenario_, policy_.interval, step_time, 1, 1);
  out.interval = interval;
  out.last_step = interval;
  return out;
}

void PartialExpertState::restored(std::int64_t step, std::span<const std::int64_t> lost) {
  const std::int64_t spacing = interval();
  const double plt = versions_.restore(step, spacing, lost);
  plt_ += plt;
  if (!dynamic_) return;
  const ExpertCounts counts = versions_.counts();
  const double share = static_cast<double>(spacing) / static_cast<double>(scenario_.training.planned_steps());
  const std::int64_t experts = scenario_.experts.experts_per_layer;
  const double next = policy_.recovers_from_memory() ? two_level_plt(experts, counts, lost_share(lost), share)
                                                     : one_level_plt(experts, counts.persist, share);
  if (dynamic_->recovered(plt, next)) versions_.change_counts(dynamic_->counts());
}

}  // namespace moecast
