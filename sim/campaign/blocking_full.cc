#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Training waits while everything is copied to host memory and from there to storage; the version is usable when the
/// wait is over.
class BlockingFull final : public Policy {
 public:
  explicit BlockingFull(const CampaignScenario& scenario)
      : costs_(scenario.costs), interval_(std::get<CheckpointPolicy>(scenario.policy).interval) {}

  Cadence cadence(std::int64_t, Duration) const override {
    Cadence out;
    out.interval = interval_;
    out.stall = costs_.snapshot_time(1) + costs_.persist_time(1);
    out.to_storage = out.stall;
    return out;
  }
  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    return restore_from_storage(history, damage, costs_);
  }
  double memory_bytes() const override { return costs_.total_bytes(1); }
  double storage_bytes() const override { return costs_.total_bytes(1); }
  double host_memory() const override { return costs_.rank_bytes(CheckpointLevel::Memory, 1); }

 private:
  const CheckpointCosts& costs_;
  std::int64_t interval_;
};

}  // namespace

std::unique_ptr<Policy> make_blocking_full(const CampaignScenario& scenario) {
  return std::make_unique<BlockingFull>(scenario);
}

}  // namespace moecast
