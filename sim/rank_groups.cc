#include "sim/rank_groups.h"

#include <algorithm>
#include <optional>

#include "base/assert.h"

namespace moecast {

RankGroups rank_groups(const ParallelLayout& layout, Group group) {
  const auto world_size = static_cast<std::size_t>(layout.world_size());
  std::vector<std::optional<std::int32_t>> group_of(world_size);
  RankGroups groups;
  groups.size = static_cast<std::int32_t>(layout.group_size(group));
  for (std::size_t rank = 0; rank < world_size; ++rank) {
    if (group_of[rank]) continue;
    const std::vector<Rank> members = layout.members(group, Rank(static_cast<std::int32_t>(rank)));
    ASSERT(members.size() == static_cast<std::size_t>(groups.size), "a group of {} among groups of {}", members.size(),
           groups.size);
    const std::int32_t next = groups.group_count();
    for (const Rank member : members) {
      ASSERT(!group_of.at(member.index()), "rank {} in two groups", member.value());
      group_of[member.index()] = next;
      groups.members.push_back(member.value());
    }
  }
  for (const std::optional<std::int32_t>& group_index : group_of) groups.group_of.push_back(group_index.value());
  return groups;
}

RankGroups stage_pairs(const ParallelLayout& layout, std::int32_t from, std::int32_t to) {
  ASSERT(from != to && std::max(from, to) < layout.pipeline, "stages {} and {}", from, to);
  const auto stage_size = static_cast<std::int32_t>(layout.stage_size());
  RankGroups pairs{2, std::vector<std::int32_t>(static_cast<std::size_t>(layout.world_size()), kNoGroup), {}};
  for (std::int32_t i = 0; i < stage_size; ++i) {
    for (const std::int32_t stage : {from, to}) {
      pairs.members.push_back(stage * stage_size + i);
      pairs.group_of[static_cast<std::size_t>(pairs.members.back())] = i;
    }
  }
  return pairs;
}

}  // namespace moecast
