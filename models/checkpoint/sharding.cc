#include "models/checkpoint/sharding.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <utility>

#include "base/assert.h"

namespace moecast {

ElementRange even_share(std::int64_t count, std::int64_t parts, std::int64_t position) {
  ASSERT(count >= 0 && parts >= 1 && position >= 0 && position < parts, "piece {} of {} of {} elements", position,
         parts, count);
  const std::int64_t piece = (count + parts - 1) / parts;
  const std::int64_t begin = std::min(count, position * piece);
  return {begin, std::min(count, begin + piece)};
}

std::vector<Rank> spread_units(std::span<const ModuleUnit> units, std::vector<Bytes> load) {
  ASSERT(!load.empty(), "no ranks");
  std::vector<std::size_t> order(units.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(-units[a].bytes.count(), std::string_view(units[a].name)) <
           std::pair(-units[b].bytes.count(), std::string_view(units[b].name));
  });
  using Entry = std::pair<std::int64_t, std::int32_t>;  // load, rank
  std::vector<Entry> entries;
  for (std::size_t r = 0; r < load.size(); ++r) entries.emplace_back(load[r].count(), static_cast<std::int32_t>(r));
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> least(std::greater<>{}, std::move(entries));
  std::vector<Rank> rank_of(units.size());
  for (const std::size_t unit : order) {
    const auto [bytes, rank] = least.top();
    least.pop();
    least.emplace(bytes + units[unit].bytes.count(), rank);
    rank_of[unit] = Rank(rank);
  }
  return rank_of;
}

bool expert_part_balanced(std::int64_t selected_count, std::int64_t moe_layer_count, const ParallelLayout& layout) {
  const std::int64_t total = selected_count * moe_layer_count;
  return total % layout.expert == 0 && total / layout.expert % (layout.data / layout.expert) == 0;
}

}  // namespace moecast
