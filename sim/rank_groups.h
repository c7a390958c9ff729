#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/parallel_layout.h"

namespace moecast {

inline constexpr std::int32_t kNoGroup = -1;

/// How one kind of group divides the ranks, in flat arrays; all groups have the same size.
struct RankGroups {
  std::int32_t size = 1;
  std::vector<std::int32_t> group_of;  // by rank; groups are numbered by their first rank; kNoGroup: in none
  std::vector<std::int32_t> members;   // [group][size], ascending

  [[nodiscard]] std::int32_t group_count() const { return static_cast<std::int32_t>(members.size()) / size; }
  [[nodiscard]] std::span<const std::int32_t> members_of(std::int32_t group) const {
    return std::span(members).subspan(static_cast<std::size_t>(group) * static_cast<std::size_t>(size),
                                      static_cast<std::size_t>(size));
  }
};

/// Every rank is in one group.
[[nodiscard]] RankGroups rank_groups(const ParallelLayout& layout, Group group);

/// Pairs of a rank of stage `from` and its counterpart in stage `to`, in this order; the other ranks are in none.
[[nodiscard]] RankGroups stage_pairs(const ParallelLayout& layout, std::int32_t from, std::int32_t to);

}  // namespace moecast
