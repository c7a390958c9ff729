#include "sim/campaign/copy_groups.h"
#include "sim/campaign/overlapped_cadence.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Just-in-time checkpointing (EuroSys'24): nothing is paid until a failure; then the healthy data-parallel replicas
/// save what they have, and everybody loads it. At most the step in progress is lost. Shards whose every copy was on a
/// node that stopped come from the periodic checkpoint, and with them everything.
class JustInTime final : public Policy {
 public:
  explicit JustInTime(const CampaignScenario& scenario)
      : scenario_(scenario), settings_(std::get<JustInTimeSettings>(scenario.policy)) {}

  Cadence cadence(std::int64_t, Duration step_time) const override {
    return last_resort_cadence(scenario_, settings_.storage_interval, step_time);
  }

  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    RestorePlan plan = restore_from_storage(history, damage, scenario_.costs);
    const bool clean = damage.taint == Instant::max();
    if (!clean || !strided_survive(damage.stopped, scenario_.cluster.nodes(), settings_.copies)) return plan;
    resume_from_survivors(damage, plan);
    plan.load += scenario_.costs.snapshot_time(1) + scenario_.costs.persist_time(1);
    return plan;
  }

  double memory_bytes() const override { return scenario_.costs.total_bytes(1); }
  double storage_bytes() const override { return scenario_.costs.total_bytes(1); }
  double host_memory() const override {
    return settings_.storage_interval > 0 ? scenario_.costs.rank_bytes(CheckpointLevel::Memory, 1) : 0;
  }

 private:
  const CampaignScenario& scenario_;
  const JustInTimeSettings& settings_;
};

}  // namespace

std::unique_ptr<Policy> make_just_in_time(const CampaignScenario& scenario) {
  return std::make_unique<JustInTime>(scenario);
}

}  // namespace moecast
