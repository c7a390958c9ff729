#include "sim/campaign/partial_policy.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Partial experts checkpointing with storage alone: the non-expert part and K experts of every layer; after a failure
/// everybody loads the newest durable non-expert state and each expert's newest saved version (arXiv 2408.04307,
/// section 4).
class PecOneLevel final : public Policy {
 public:
  explicit PecOneLevel(const CampaignScenario& scenario) : scenario_(scenario), state_(scenario) {}

  Cadence cadence(std::int64_t step, Duration step_time) const override { return state_.cadence(step, step_time); }
  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    return restore_from_storage(history, damage, scenario_.costs);
  }
  void restored(const RestorePlan& plan, const LostState& damage) override {
    state_.restored(plan.version.step, damage.lost);
  }
  PolicyReport report() const override { return state_.report(); }
  double memory_bytes() const override { return scenario_.costs.total_bytes(state_.snapshot_share()); }
  double storage_bytes() const override { return scenario_.costs.total_bytes(state_.persist_share()); }
  double host_memory() const override {
    return scenario_.costs.rank_bytes(CheckpointLevel::Memory, state_.snapshot_share());
  }

 private:
  const CampaignScenario& scenario_;
  PartialExpertState state_;
};

}  // namespace

std::unique_ptr<Policy> make_pec_one_level(const CampaignScenario& scenario) {
  return std::make_unique<PecOneLevel>(scenario);
}

}  // namespace moecast
