#include <string_view>

#include "runtime/comm/inproc.h"

namespace moecast {
namespace {

/// Makes the group that `rank` is the first member of, if it is, and hands every member its end.
void make_group_led_by(const ParallelLayout& layout, const LinkOptions& options, Group group, std::string_view name,
                       Rank rank, std::vector<Groups>& groups) {
  const std::vector<Rank> members = layout.members(group, rank);
  if (members.front() != rank) return;
  auto communicators = make_inproc_group(static_cast<int>(members.size()), options, std::string(name), members);
  for (std::size_t i = 0; i < members.size(); ++i) groups[members[i].index()].set(group, std::move(communicators[i]));
}

}  // namespace

std::vector<Groups> make_inproc_groups(const ParallelLayout& layout, const LinkOptions& options) {
  std::vector<Groups> groups(static_cast<std::size_t>(layout.world_size()));
  for (const auto& [group, name] : kGroupNames) {
    for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) {
      make_group_led_by(layout, options, group, name, Rank(rank), groups);
    }
  }
  return groups;
}

}  // namespace moecast
