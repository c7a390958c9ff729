#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/parallel_layout.h"

namespace moecast {

/// How one kind of group divides the ranks, in flat arrays: every rank is in one group, all have the same size.
struct RankGroups {
  std::int32_t size = 1;
  std::vector<std::int32_t> group_of;  // by rank; groups are numbered by their first rank
  std::vector<std::int32_t> members;   // [group][size], ascending

  [[nodiscard]] std::int32_t group_count() const { return static_cast<std::int32_t>(members.size()) / size; }
  [[nodiscard]] std::span<const std::int32_t> members_of(std::int32_t group) const {
    return std::span(members).subspan(static_cast<std::size_t>(group) * static_cast<std::size_t>(size),
                                      static_cast<std::size_t>(size));
  }
};

[[nodiscard]] RankGroups rank_groups(const ParallelLayout& layout, Group group);

/// One rank that stands for all ranks of its group.
[[nodiscard]] RankGroups folded_rank_groups();

}  // namespace moecast
