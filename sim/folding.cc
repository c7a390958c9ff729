#include "sim/folding.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace moecast {
namespace {

using Colors = std::vector<std::uint64_t>;

/// The finalizer of MurmurHash3: every bit of the input changes half of the output's.
std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdULL;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53ULL;
  return value ^ (value >> 33);
}

std::uint64_t with(std::uint64_t a, std::uint64_t b) { return mixed(a * 0x9e3779b97f4a7c15ULL + b + 1); }

std::uint64_t with(std::uint64_t color, double load) { return with(color, std::bit_cast<std::uint64_t>(load)); }

/// Counts different colours in a table of hashes: they are their own hashes.
class DistinctCounter {
 public:
  std::size_t count(const Colors& colors) {
    slots_.assign(std::bit_ceil(2 * colors.size() + 1), 0);
    std::size_t found = 0;
    bool has_zero = false;
    for (const std::uint64_t color : colors) {
      if (color == 0) {
        has_zero = true;
      } else {
        found += insert(color);
      }
    }
    return found + (has_zero ? 1 : 0);
  }

 private:
  /// Was it new?
  bool insert(std::uint64_t color) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = mixed(color) & mask;
    while (slots_[at] != 0 && slots_[at] != color) at = (at + 1) & mask;
    if (slots_[at] == color) return false;
    slots_[at] = color;
    return true;
  }

  Colors slots_;  // 0: free
};

class Refinement {
 public:
  explicit Refinement(const FoldingProblem& problem) : problem_(problem), ranks_(problem.rank_colors) {
    for (const double capacity : problem.capacities) resources_.push_back(with(0, capacity));
    for (const GroupKind& kind : problem.kinds) {
      groups_.emplace_back(static_cast<std::size_t>(kind.groups.group_count()));
    }
  }

  void run() {
    DistinctCounter distinct;
    for (std::size_t before = distinct.count(ranks_) + distinct.count(resources_);;) {
      color_groups();
      color_members();
      const std::size_t now = distinct.count(ranks_) + distinct.count(resources_);
      if (now == before) break;
      before = now;
    }
    color_groups();
  }

  [[nodiscard]] const Colors& ranks() const { return ranks_; }
  [[nodiscard]] const Colors& resources() const { return resources_; }
  [[nodiscard]] const Colors& groups(std::size_t kind) const { return groups_[kind]; }

 private:
  /// Sums of hashes: the order of members and loads does not matter.
  void color_groups() {
    for (std::size_t k = 0; k < groups_.size(); ++k) {
      const GroupKind& kind = problem_.kinds[k];
      for (std::int32_t g = 0; g < kind.groups.group_count(); ++g) {
        std::uint64_t color = 0;
        bool first = kind.ordered;
        for (const std::int32_t member : kind.groups.members_of(g)) {
          color += with(ranks_[static_cast<std::size_t>(member)], std::uint64_t{first ? 1U : 2U});
          first = false;
        }
        for (std::size_t p = 0; p < kind.patterns.size(); ++p) {
          for (const ResourceUse& use : kind.patterns[p].uses_of(g)) {
            color += with(with(resources_[use.resource.index()], use.coefficient), std::uint64_t{p + 3});
          }
        }
        groups_[k][static_cast<std::size_t>(g)] = color;
      }
    }
  }

  void color_members() {
    for (std::uint64_t& color : ranks_) color = mixed(color);
    for (std::uint64_t& color : resources_) color = mixed(color);
    for (std::size_t k = 0; k < groups_.size(); ++k) {
      const GroupKind& kind = problem_.kinds[k];
      for (std::int32_t g = 0; g < kind.groups.group_count(); ++g) {
        const std::uint64_t color = with(groups_[k][static_cast<std::size_t>(g)], std::uint64_t{k});
        bool first = kind.ordered;
        for (const std::int32_t member : kind.groups.members_of(g)) {
          ranks_[static_cast<std::size_t>(member)] += with(color, std::uint64_t{first ? 1U : 2U});
          first = false;
        }
        for (std::size_t p = 0; p < kind.patterns.size(); ++p) {
          for (const ResourceUse& use : kind.patterns[p].uses_of(g)) {
            resources_[use.resource.index()] += with(with(color, use.coefficient), std::uint64_t{p + 3});
          }
        }
      }
    }
  }

  const FoldingProblem& problem_;
  Colors ranks_, resources_;
  std::vector<Colors> groups_;  // by kind
};

/// Numbers classes in the order in which their colours appear.
class Classes {
 public:
  explicit Classes(bool fold) : fold_(fold) {}
  /// The class of element `index`; new if it is the first of its colour.
  std::pair<std::int32_t, bool> of(std::uint64_t color, std::size_t index) {
    const auto next = static_cast<std::int32_t>(numbers_.size());
    const auto [found, is_new] = numbers_.try_emplace(fold_ ? color : static_cast<std::uint64_t>(index), next);
    return {found->second, is_new};
  }

 private:
  bool fold_;
  std::unordered_map<std::uint64_t, std::int32_t> numbers_;
};

/// Loads of all groups of a class on the representative of a class of resources.
GroupUses fold_pattern(const GroupUses& pattern, const std::vector<std::int32_t>& class_of_group,
                       std::int32_t class_count, const std::vector<std::int32_t>& class_of_representative) {
  std::vector<std::tuple<std::int32_t, std::int32_t, double>> loads;  // class of groups, of resources, load
  for (std::size_t g = 0; g < class_of_group.size(); ++g) {
    for (const ResourceUse& use : pattern.uses_of(static_cast<std::int32_t>(g))) {
      const std::int32_t resource = class_of_representative[use.resource.index()];
      if (resource >= 0) loads.emplace_back(class_of_group[g], resource, use.coefficient);
    }
  }
  std::stable_sort(loads.begin(), loads.end(), [](const auto& a, const auto& b) {
    return std::pair(std::get<0>(a), std::get<1>(a)) < std::pair(std::get<0>(b), std::get<1>(b));
  });
  GroupUses folded;
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const auto [group, resource, load] = loads[i];
    const bool same = i > 0 && std::get<0>(loads[i - 1]) == group && std::get<1>(loads[i - 1]) == resource;
    while (static_cast<std::int32_t>(folded.first_use.size()) <= group) {
      folded.first_use.push_back(static_cast<std::int32_t>(folded.uses.size()));
    }
    if (same) {
      folded.uses.back().coefficient += load;
    } else {
      folded.uses.push_back({ResourceId(resource), load});
    }
  }
  folded.first_use.resize(static_cast<std::size_t>(class_count) + 1, static_cast<std::int32_t>(folded.uses.size()));
  return folded;
}

FoldedKind fold_kind(const GroupKind& kind, const Colors& colors, bool fold, const FoldedNetwork& network,
                     const std::vector<std::int32_t>& class_of_representative) {
  FoldedKind folded;
  Classes classes(fold);
  std::vector<std::int32_t> class_of_group;
  std::vector<std::int32_t> seen(network.representative.size(), -1);  // by rank class: the last group that has it
  folded.first_member = {0};
  for (std::int32_t g = 0; g < kind.groups.group_count(); ++g) {
    const auto [number, is_new] = classes.of(colors[static_cast<std::size_t>(g)], static_cast<std::size_t>(g));
    class_of_group.push_back(number);
    if (!is_new) continue;
    folded.representative.push_back(g);
    for (const std::int32_t member : kind.groups.members_of(g)) {
      const std::int32_t rank = network.class_of_rank[static_cast<std::size_t>(member)];
      if (std::exchange(seen[static_cast<std::size_t>(rank)], g) != g) folded.members.push_back(rank);
    }
    folded.first_member.push_back(static_cast<std::int32_t>(folded.members.size()));
  }
  for (const std::int32_t rank : network.representative) {
    const std::int32_t group = kind.groups.group_of[static_cast<std::size_t>(rank)];
    folded.group_of.push_back(group == kNoGroup ? kNoGroup : class_of_group[static_cast<std::size_t>(group)]);
  }
  for (const GroupUses& pattern : kind.patterns) {
    folded.patterns.push_back(
        fold ? fold_pattern(pattern, class_of_group, folded.group_count(), class_of_representative) : pattern);
  }
  return folded;
}

}  // namespace

FoldedNetwork fold_network(const FoldingProblem& problem, bool fold) {
  Refinement refinement(problem);
  if (fold) refinement.run();
  FoldedNetwork network;
  Classes ranks(fold);
  for (std::size_t rank = 0; rank < problem.rank_colors.size(); ++rank) {
    const auto [number, is_new] = ranks.of(refinement.ranks()[rank], rank);
    network.class_of_rank.push_back(number);
    if (is_new) {
      network.representative.push_back(static_cast<std::int32_t>(rank));
      network.size.push_back(0);
    }
    ++network.size[static_cast<std::size_t>(number)];
  }
  std::vector<std::int32_t> class_of_representative(problem.capacities.size(), -1);
  Classes resources(fold);
  for (std::size_t r = 0; r < problem.capacities.size(); ++r) {
    const auto [number, is_new] = resources.of(refinement.resources()[r], r);
    if (!is_new) continue;
    class_of_representative[r] = number;
    network.capacities.push_back(problem.capacities[r]);
  }
  for (std::size_t k = 0; k < problem.kinds.size(); ++k) {
    network.kinds.push_back(fold_kind(problem.kinds[k], refinement.groups(k), fold, network, class_of_representative));
  }
  return network;
}

}  // namespace moecast
