#include "sim/campaign/host_memory.h"

#include "models/checkpoint/buffers.h"

namespace moecast {
namespace {

constexpr double kBuffers = SnapshotBuffers::kCount;
constexpr double kPeerVersions = 2;

/// Bytes of one rank.
struct RankBytes {
  const CampaignScenario& scenario;

  double operator()(const CheckpointPolicy& policy) const {
    const CheckpointCosts& costs = scenario.costs;
    if (policy.kind == CheckpointKind::None) return 0;
    if (policy.kind == CheckpointKind::BlockingFull) return costs.rank_bytes(1);
    if (!policy.is_partial()) return kBuffers * costs.rank_bytes(1);
    const double share =
        static_cast<double>(policy.partial.experts.snapshot) / static_cast<double>(scenario.experts.experts_per_layer);
    const double kept = policy.recovers_from_memory() ? costs.rank_expert.value() : 0;
    return kBuffers * costs.rank_bytes(share) + kept;
  }
  double operator()(const PeerReplicaSettings& policy) const { return copies(policy.copies); }
  double operator()(const SparseWindowSettings& policy) const { return copies(policy.copies); }
  double operator()(const JustInTimeSettings& policy) const { return last_resort(policy.storage_interval); }
  double operator()(const ElasticSettings& policy) const { return last_resort(policy.storage_interval); }

  [[nodiscard]] double copies(std::int64_t count) const {
    return kPeerVersions * static_cast<double>(count) * scenario.costs.rank_bytes(1);
  }
  [[nodiscard]] double last_resort(std::int64_t interval) const {
    return interval > 0 ? kBuffers * scenario.costs.rank_bytes(1) : 0;
  }
};

}  // namespace

Bytes host_memory_per_node(const CampaignScenario& scenario) {
  const double rank = std::visit(RankBytes{scenario}, scenario.policy);
  return Bytes(static_cast<std::int64_t>(rank * static_cast<double>(scenario.cluster.gpus_per_node)));
}

}  // namespace moecast
