#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "hwprofiles/topology.h"
#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "sim/rank_groups.h"

namespace moecast {

/// What must leave a block of GPUs (a node, what a switch covers) for a collective to be possible at all, over all
/// links that lead out of it, whatever algorithm carries it.
class CutBounds {
 public:
  CutBounds(const Cluster& cluster, const ParallelLayout& layout) : topology_(cluster), layout_(layout) {}
  CutBounds(const CutBounds&) = delete;
  CutBounds& operator=(const CutBounds&) = delete;

  /// Seconds, in the group of this rank; 0 inside one block, and for messages between two ranks.
  [[nodiscard]] double least_seconds(const Communication& call, Rank rank);

 private:
  struct Cut {  // of the block that holds most members of a group
    double inside = 0, all = 0;
    double capacity = 0;  // bytes per second that leave it
  };
  [[nodiscard]] std::vector<Cut> cuts_of(std::span<const std::int32_t> members) const;
  [[nodiscard]] double capacity_out(std::int64_t block) const;

  Topology topology_;
  const ParallelLayout& layout_;
  std::array<std::optional<RankGroups>, kGroupCount> groups_;
  std::array<std::vector<std::optional<std::vector<Cut>>>, kGroupCount> cuts_;  // by group
};

}  // namespace moecast
