#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

class NoCheckpoints final : public Policy {
 public:
  explicit NoCheckpoints(const CampaignScenario& scenario) : costs_(scenario.costs) {}

  Cadence cadence(std::int64_t, Duration) const override { return {}; }
  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    return restore_from_storage(history, damage, costs_);
  }
  double memory_bytes() const override { return 0; }
  double storage_bytes() const override { return 0; }
  double host_memory() const override { return 0; }

 private:
  const CheckpointCosts& costs_;
};

}  // namespace

std::unique_ptr<Policy> make_no_checkpoints(const CampaignScenario& scenario) {
  return std::make_unique<NoCheckpoints>(scenario);
}

}  // namespace moecast
