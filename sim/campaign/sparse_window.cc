#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// MoEvement (arXiv 2412.15411): every step snapshots the full state of a few operators, so that a window of W steps
/// holds everything once, spread over its steps. A version is named by the last step of its window and is complete
/// there. To restore it, the steps of the window are replayed (operators not yet loaded compute no weight gradient),
/// then the lost ones: between W and 2 W steps, 1.5 W on average; no tokens are lost. Peers keep copies; storage is the
/// last resort.
class SparseWindow final : public Policy {
 public:
  explicit SparseWindow(const CampaignScenario& scenario)
      : scenario_(scenario), settings_(std::get<SparseWindowSettings>(scenario.policy)) {}

  Cadence cadence(std::int64_t, Duration) const override {
    Cadence out;
    out.interval = settings_.window;
    out.stall = settings_.window * settings_.stall_per_step;
    out.to_memory = Duration::zero();
    out.storage_every = settings_.storage_every;
    if (settings_.storage_every > 0) {
      const Duration persist = scenario_.costs.persist_time(1);
      out.storage_stall = duration_from_seconds(scenario_.costs.persist_interference * seconds(persist));
      out.to_storage = persist;
    }
    return out;
  }

  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    RestorePlan plan = restore_from_storage(history, damage, scenario_.costs);
    take_from_copies(scenario_, history, damage, settings_.copies, plan);
    const double window = plan.version.step > 0 ? static_cast<double>(settings_.window) : 0;  // step 0 is whole
    const double steps = window * settings_.conversion_factor +
                         static_cast<double>(damage.step - plan.version.step) * settings_.replay_factor;
    plan.replay = duration_from_seconds(steps * seconds(scenario_.training.step));
    plan.resume_step = damage.step;
    return plan;
  }

  double memory_bytes() const override {
    return static_cast<double>(settings_.copies) * scenario_.costs.total_bytes(1);
  }
  double storage_bytes() const override { return scenario_.costs.total_bytes(1); }
  double host_memory() const override {
    // The complete one of every copy, and the one being received.
    return 2 * static_cast<double>(settings_.copies) * scenario_.costs.rank_bytes(CheckpointLevel::Memory, 1);
  }

 private:
  const CampaignScenario& scenario_;
  const SparseWindowSettings& settings_;
};

}  // namespace

std::unique_ptr<Policy> make_sparse_window(const CampaignScenario& scenario) {
  return std::make_unique<SparseWindow>(scenario);
}

}  // namespace moecast
