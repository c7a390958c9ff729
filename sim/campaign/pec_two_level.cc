#include <algorithm>

#include "sim/campaign/partial_policy.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Partial experts checkpointing with host memory and storage (arXiv 2408.04307, section 5). An agent apart from the
/// training processes holds memory and writes to storage, so when only processes die the newest snapshot comes back
/// from memory; its write goes on, and training with it when that is done (so nothing older is ever needed of it). When
/// nodes are lost, their part of the non-expert snapshot is too: the newest version on storage is the one to go back
/// to; experts whose holders all survive come from memory (figure 8), the others from storage.
class PecTwoLevel final : public Policy {
 public:
  explicit PecTwoLevel(const CampaignScenario& scenario) : scenario_(scenario), state_(scenario) {}

  Cadence cadence(std::int64_t step, Duration step_time) const override { return state_.cadence(step, step_time); }

  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant now) const override {
    RestorePlan plan;
    plan.version = history.newest_on_storage(damage.stopped_at, damage.taint);
    plan.load = scenario_.costs.storage_load_time(state_.lost_share(damage.lost));
    if (damage.lost.empty()) {
      const auto held = history.newest_in_memory(damage.stopped_at, damage.taint);
      if (held && held->step >= plan.version.step) {
        plan.version = *held;
        plan.writes_survive = true;
        plan.source = RestoreSource::Memory;
        plan.load = std::max(scenario_.costs.memory_load_time(), held->safe_at - now);
      } else {
        plan.load = scenario_.costs.storage_load_time(0);  // experts are in memory
      }
    }
    plan.resume_step = plan.version.step;
    return plan;
  }

  void restored(const RestorePlan& plan, const LostState& damage) override {
    state_.restored(plan.version.step, damage.lost);
  }
  PolicyReport report() const override { return state_.report(); }
  double memory_bytes() const override { return scenario_.costs.total_bytes(state_.snapshot_share()); }
  double storage_bytes() const override { return scenario_.costs.total_bytes(state_.persist_share()); }
  double host_memory() const override {
    // The newest snapshot of every expert, and the one being filled.
    return scenario_.costs.rank_bytes(CheckpointLevel::Memory, 1) +
           scenario_.costs.rank_bytes(CheckpointLevel::Memory, state_.snapshot_share());
  }

 private:
  const CampaignScenario& scenario_;
  PartialExpertState state_;
};

}  // namespace

std::unique_ptr<Policy> make_pec_two_level(const CampaignScenario& scenario) {
  return std::make_unique<PecTwoLevel>(scenario);
}

}  // namespace moecast
