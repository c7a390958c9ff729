#include <algorithm>
#include <iterator>

#include "sim/campaign/copy_groups.h"
#include "sim/campaign/overlapped_cadence.h"
#include "sim/campaign/policy_makers.h"

namespace moecast {

namespace {

/// Lazarus (arXiv 2407.04656): after a failure the survivors regroup, fetch missing experts from their copies and go on
/// without rollback, slower in proportion to the nodes that are left; repaired nodes join by another regrouping. If all
/// copies of something are gone, everybody goes back to storage; with too few nodes the job waits.
class Elastic final : public Policy {
 public:
  explicit Elastic(const CampaignScenario& scenario)
      : scenario_(scenario), settings_(std::get<ElasticSettings>(scenario.policy)) {}

  Cadence cadence(std::int64_t, Duration step_time) const override {
    return last_resort_cadence(scenario_, settings_.storage_interval, step_time);
  }

  RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage, Instant) const override {
    RestorePlan plan = restore_from_storage(history, damage, scenario_.costs);
    std::vector<std::int64_t> gone;
    std::set_union(damage.stopped.begin(), damage.stopped.end(), damage.missing.begin(), damage.missing.end(),
                   std::back_inserter(gone));
    const bool clean = damage.taint == Instant::max();
    const std::int64_t nodes = scenario_.cluster.nodes();
    if (!clean || !strided_survive(gone, nodes, settings_.copies)) return plan;
    resume_from_survivors(damage, plan);
    plan.load = settings_.reconfiguration;
    plan.writes_survive = damage.stopped.empty();  // a planned stop
    const auto left = static_cast<double>(nodes - std::ssize(damage.missing));
    plan.keeps_running = left >= settings_.least_nodes * static_cast<double>(nodes);
    return plan;
  }

  double memory_bytes() const override { return scenario_.costs.total_bytes(1); }
  double storage_bytes() const override { return scenario_.costs.total_bytes(1); }
  double host_memory() const override {
    return settings_.storage_interval > 0 ? scenario_.costs.rank_bytes(CheckpointLevel::Memory, 1) : 0;
  }

 private:
  const CampaignScenario& scenario_;
  const ElasticSettings& settings_;
};

}  // namespace

std::unique_ptr<Policy> make_elastic(const CampaignScenario& scenario) { return std::make_unique<Elastic>(scenario); }

}  // namespace moecast
