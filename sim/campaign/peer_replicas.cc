#include <algorithm>

#include "sim/campaign/copy_groups.h"
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

  RestorePlan plan_restore(const CheckpointHistory& history, const Damage& damage, Instant) const override {
    RestorePlan plan = restore_from_storage(history, damage, scenario_.costs);
    if (!neighbours_survive(damage.lost, scenario_.cluster.nodes(), settings_.copies)) return plan;
    const auto held = history.newest_in_memory(damage.stopped_at, damage.taint);
    if (!held || held->step < plan.version.step) return plan;
    plan.version = *held;
    plan.writes_survive = true;
    plan.resume_step = held->step;
    plan.source = damage.lost.empty() ? RestoreSource::Memory : RestoreSource::Peers;
    plan.load = damage.lost.empty() ? scenario_.costs.memory_load_time() : scenario_.costs.peer_load_time();
    return plan;
  }

  void restored(const RestorePlan&, const Damage&) override {}
  PolicyReport report() const override { return {}; }
  double memory_bytes() const override {
    return static_cast<double>(settings_.copies) * scenario_.costs.total_bytes(1);
  }
  double storage_bytes() const override { return scenario_.costs.total_bytes(1); }

 private:
  const CampaignScenario& scenario_;
  const PeerReplicaSettings& settings_;
};

}  // namespace

std::unique_ptr<Policy> make_peer_replicas(const CampaignScenario& scenario) {
  return std::make_unique<PeerReplicas>(scenario);
}

}  // namespace moecast
