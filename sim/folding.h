#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/rank_groups.h"
#include "sim/sharing.h"

namespace moecast {

/// What one unit of a pattern loads, for every group of a kind, in flat arrays.
struct GroupUses {
  std::vector<std::int32_t> first_use = {0};  // [groups + 1]: into uses
  std::vector<ResourceUse> uses;
  [[nodiscard]] std::span<const ResourceUse> uses_of(std::int32_t group) const {
    const auto first = static_cast<std::size_t>(first_use[static_cast<std::size_t>(group)]);
    const auto last = static_cast<std::size_t>(first_use[static_cast<std::size_t>(group) + 1]);
    return std::span(uses).subspan(first, last - first);
  }
};

/// Ranks that meet in groups of one kind, and what that loads.
struct GroupKind {
  RankGroups groups;
  bool ordered = false;  // the first member is not like the others: it sends
  std::vector<GroupUses> patterns;
};

/// All that tells ranks apart.
struct FoldingProblem {
  std::vector<std::uint64_t> rank_colors;  // unequal where ranks differ by themselves
  std::vector<double> capacities;          // by resource
  std::vector<GroupKind> kinds;
};

/// Classes of groups of one kind, numbered by their first rank.
struct FoldedKind {
  std::vector<std::int32_t> group_of;        // by rank class; kNoGroup where its ranks are in none
  std::vector<std::int32_t> first_member;    // [classes + 1]: into members
  std::vector<std::int32_t> members;         // rank classes, each once, in the order of the representative's members
  std::vector<std::int32_t> representative;  // a group of the class
  std::vector<GroupUses> patterns;           // by class of groups: loads on one resource of a class, of all its groups

  [[nodiscard]] std::int32_t group_count() const { return static_cast<std::int32_t>(representative.size()); }
  [[nodiscard]] std::span<const std::int32_t> members_of(std::int32_t group) const {
    const auto first = static_cast<std::size_t>(first_member[static_cast<std::size_t>(group)]);
    const auto last = static_cast<std::size_t>(first_member[static_cast<std::size_t>(group) + 1]);
    return std::span(members).subspan(first, last - first);
  }
};

struct FoldedNetwork {
  std::vector<std::int32_t> class_of_rank;
  std::vector<std::int32_t> representative;  // by class: its first rank
  std::vector<std::int64_t> size;            // by class: ranks
  std::vector<double> capacities;            // of the classes of resources that are used
  std::vector<FoldedKind> kinds;
  [[nodiscard]] std::int32_t class_count() const { return static_cast<std::int32_t>(representative.size()); }
};

/// The coarsest classes of ranks, groups and resources that nothing tells apart: ranks of one class have the same
/// colour and are in groups of the same classes, groups of one class have as many members and loads of each class,
/// resources of one class are loaded alike. Such a partition is equitable, so whatever happens from a symmetric start
/// stays symmetric (max-min fair rates are unique, and filling progressively only counts rows and loads), and one rank,
/// group and resource of each class is simulated for all. Without `fold` every rank is a class of its own: the same
/// problem, in full.
///
/// Colour refinement: O(rounds * (ranks + uses) + resources log resources). Classes are told apart by 64-bit hashes;
/// that two of n unlike ones look alike has a probability below n^2 / 2^65.
[[nodiscard]] FoldedNetwork fold_network(const FoldingProblem& problem, bool fold);

}  // namespace moecast
