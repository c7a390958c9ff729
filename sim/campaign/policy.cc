#include "sim/campaign/policy.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "sim/campaign/copy_groups.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {
constexpr std::array kKinds = {
    PolicyKind{"none", "nothing is saved: every failure starts again from the beginning", make_no_checkpoints},
    PolicyKind{"blocking_full", "training waits until everything is on storage", make_blocking_full},
    PolicyKind{"async_full", "copied beside forward and backward, written in the background", make_asynchronous_full},
    PolicyKind{"pec", "a few experts of each layer, recovery from storage", make_pec_one_level},
    PolicyKind{"pec_two_level", "a few experts to memory, fewer to storage, recovery from both", make_pec_two_level},
    PolicyKind{"peer_replicas", "copies in other machines' memory, storage as the last resort", make_peer_replicas},
    PolicyKind{"just_in_time", "healthy replicas save after the failure", make_just_in_time},
    PolicyKind{"sparse_window", "a few operators each step, replay of the window", make_sparse_window},
    PolicyKind{"elastic", "goes on with the survivors, without rollback", make_elastic},
};

std::size_t index_of(const PolicySettings& settings) {
  if (const auto* policy = std::get_if<CheckpointPolicy>(&settings)) return static_cast<std::size_t>(policy->kind);
  return static_cast<std::size_t>(CheckpointKind::PartialTwoLevel) + settings.index();
}
}  // namespace

std::span<const PolicyKind> policy_kinds() { return kKinds; }
const PolicyKind& policy_kind_of(const PolicySettings& settings) { return kKinds.at(index_of(settings)); }
std::unique_ptr<Policy> make_policy(const CampaignScenario& scenario) {
  return policy_kind_of(scenario.policy).make(scenario);
}

std::int64_t interval_above_floor(std::int64_t wanted, Duration step, Duration stall, Duration persist) {
  ASSERT(wanted > 0 && step > Duration::zero(), "interval {}, step {} ns", wanted, step.count());
  // k wanted steps and one stall: the smallest k with k (wanted step) + stall >= persist.
  const Duration turn = wanted * step;
  const Duration missing = persist - stall;
  if (missing <= turn) return wanted;
  return (missing.count() + turn.count() - 1) / turn.count() * wanted;
}

RestorePlan restore_from_storage(const CheckpointHistory& history, const LostState& damage,
                                 const CheckpointCosts& costs) {
  RestorePlan plan;
  plan.version = history.newest_on_storage(damage.stopped_at, damage.taint);
  plan.resume_step = plan.version.step;
  plan.load = costs.storage_load_time(1);
  return plan;
}

void take_from_copies(const CampaignScenario& scenario, const CheckpointHistory& history, const LostState& damage,
                      std::int64_t copies, RestorePlan& plan) {
  if (!neighbours_survive(damage.lost, scenario.cluster.nodes(), copies)) return;
  const auto held = history.newest_in_memory(damage.stopped_at, damage.taint);
  if (!held || held->step < plan.version.step) return;
  plan.version = *held;
  plan.writes_survive = true;
  plan.resume_step = held->step;
  plan.source = damage.lost.empty() ? RestoreSource::Memory : RestoreSource::Peers;
  plan.load = damage.lost.empty() ? scenario.costs.memory_load_time() : scenario.costs.peer_load_time();
}

void resume_from_survivors(const LostState& damage, RestorePlan& plan) {
  plan.version = {damage.step, damage.stopped_at, damage.stopped_at};
  plan.resume_step = damage.step;
  plan.source = RestoreSource::Survivors;
}

}  // namespace moecast
