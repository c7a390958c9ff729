#include "sim/campaign/overlapped_cadence.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// CheckFreq (FAST'21): snapshot beside the next step's forward and backward, persist in the background, recovery from
/// storage.
class AsynchronousFull final : public Policy {
 public:
  explicit AsynchronousFull(const CampaignScenario& scenario)
      : scenario_(scenario), interval_(std::get<CheckpointPolicy>(scenario.policy).interval) {}

  Cadence cadence(std::int64_t, Duration step_time) const override {
    return overlapped_cadence(scenario_, interval_, step_time, 1, 1);
  }
  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    return restore_from_storage(history, damage, scenario_.costs);
  }
  double memory_bytes() const override { return scenario_.costs.total_bytes(1); }
  double storage_bytes() const override { return scenario_.costs.total_bytes(1); }
  double host_memory() const override { return scenario_.costs.rank_bytes(CheckpointLevel::Memory, 1); }

 private:
  const CampaignScenario& scenario_;
  std::int64_t interval_;
};

}  // namespace

std::unique_ptr<Policy> make_asynchronous_full(const CampaignScenario& scenario) {
  return std::make_unique<AsynchronousFull>(scenario);
}

}  // namespace moecast
