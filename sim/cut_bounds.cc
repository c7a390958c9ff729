#include "sim/cut_bounds.h"

#include <algorithm>
#include <set>

namespace moecast {
namespace {

/// Bytes that `inside` of `all` members must send to the others: their parts of what these are to have.
double bytes_out(Collective collective, double buffer, double inside, double all) {
  const double outside = all - inside;
  switch (collective) {
    case Collective::AllToAll:
      return buffer * inside * outside / all;
    case Collective::AllReduce:  // their sum
      return buffer;
    case Collective::ReduceScatter:
      return buffer * outside / all;
    case Collective::AllGather:
      return buffer * std::max(inside, outside) / all;  // or take in from them
    case Collective::Broadcast:
    case Collective::PointToPoint:
      break;
  }
  return 0;
}

}  // namespace

double CutBounds::capacity_out(std::int64_t block) const {
  double capacity = 0;
  for (const Topology::Part& part : topology_.parts()) {
    const std::int64_t below = part.below ? topology_.parts()[*part.below].span : 1;
    if (part.storage || part.span <= block || below > block) continue;
    const std::int64_t lanes = part.below ? topology_.parts()[*part.below].lanes : 1;
    capacity += part.attachment_bandwidth * static_cast<double>((block + below - 1) / below * lanes);
  }
  return capacity;
}

std::vector<CutBounds::Cut> CutBounds::cuts_of(std::span<const std::int32_t> members) const {
  std::set<std::int64_t> blocks = {topology_.node_gpus()};
  for (const Topology::Part& part : topology_.parts()) {
    if (!part.storage) blocks.insert(part.span);
  }
  std::vector<Cut> cuts;
  for (const std::int64_t block : blocks) {
    std::int64_t most = 0, count = 0, last = -1;
    for (const std::int32_t member : members) {  // ascending
      count = member / block == last ? count + 1 : 1;
      last = member / block;
      most = std::max(most, count);
    }
    if (most == std::ssize(members)) continue;
    cuts.push_back({static_cast<double>(most), static_cast<double>(members.size()), capacity_out(block)});
  }
  return cuts;
}

double CutBounds::least_seconds(const Communication& call, Rank rank) {
  if (call.collective == Collective::PointToPoint) return 0;
  const auto kind = static_cast<std::size_t>(call.group);
  if (!groups_.at(kind)) {
    groups_.at(kind) = rank_groups(layout_, call.group);
    cuts_.at(kind).resize(static_cast<std::size_t>(groups_.at(kind)->group_count()));
  }
  const RankGroups& groups = *groups_.at(kind);
  const std::int32_t group = groups.group_of[rank.index()];
  std::optional<std::vector<Cut>>& cuts = cuts_.at(kind)[static_cast<std::size_t>(group)];
  if (!cuts) cuts = cuts_of(groups.members_of(group));
  double longest = 0;
  for (const Cut& cut : *cuts) {
    const double bytes = bytes_out(call.collective, static_cast<double>(call.buffer.count()), cut.inside, cut.all);
    longest = std::max(longest, bytes / cut.capacity);
  }
  return longest;
}

}  // namespace moecast
