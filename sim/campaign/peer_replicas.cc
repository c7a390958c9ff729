#include <algorithm>

#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Gemini (SOSP'23): every state goes to its own machine's memory and to copies - 1 peers, in network idle time as far
/// as it fits; the rest stalls. When every group keeps a member, state comes back from memory, else from storage.
class PeerReplicas final : public Policy {
 public:
  explicit PeerReplicas(const CampaignScenario& scenario)
      : scenario_(scenario), settings_(std::get<PeerReplicaSettings>(scenario.policy)) {}

  Cadence cadence(std::int64_t, Duration) const override {
    const CheckpointCosts& costs = scenario_.costs;
    const Duration transfer = costs.peer_time(static_cast<double>(settings_.copies - 1));
    Cadence out;
    out.stall = duration_from_seconds((1 - settings_.hidden) * seconds(transfer));
    out.interval = interval_above_floor(settings_.interval, scenario_.training.step, out.stall, transfer);
    out.to_memory = transfer;
    out.storage_every = 0;
    if (settings_.storage_every > 0) {
      const Duration persist = costs.persist_time(1);
      const Duration turn = out.interval * scenario_.training.step;
      out.storage_every = std::max(settings_.storage_every, (persist.count() + turn.count() - 1) / turn.count());
      out.storage_stall = duration_from_seconds(costs.persist_interference * seconds(persist));
      out.to_storage = transfer + persist;
    }
    return out;
  }

  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    RestorePlan plan = restore_from_storage(history, damage, scenario_.costs);
    take_from_copies(scenario_, history, damage, settings_.copies, plan);
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
  const PeerReplicaSettings& settings_;
};

}  // namespace

std::unique_ptr<Policy> make_peer_replicas(const CampaignScenario& scenario) {
  return std::make_unique<PeerReplicas>(scenario);
}

}  // namespace moecast
