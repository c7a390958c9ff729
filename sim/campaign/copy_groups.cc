#include "sim/campaign/copy_groups.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

namespace {
bool is_lost(std::span<const std::int64_t> lost, std::int64_t node) {
  return std::binary_search(lost.begin(), lost.end(), node);
}
}  // namespace

bool neighbours_survive(std::span<const std::int64_t> lost, std::int64_t nodes, std::int64_t copies) {
  ASSERT(copies >= 1 && copies <= nodes, "{} copies on {} nodes", copies, nodes);
  if (std::ssize(lost) < copies) return true;
  const std::int64_t last_group = (nodes / copies - 1) * copies;
  for (const std::int64_t node : lost) {
    const std::int64_t group = std::min(node / copies * copies, last_group);
    const std::int64_t size = group == last_group ? nodes - last_group : copies;
    bool gone = true;
    for (std::int64_t i = 0; i < copies && gone; ++i) gone = is_lost(lost, group + (node - group + i) % size);
    if (gone) return false;
  }
  return true;
}

bool strided_survive(std::span<const std::int64_t> lost, std::int64_t nodes, std::int64_t copies) {
  ASSERT(copies >= 1 && copies <= nodes, "{} copies on {} nodes", copies, nodes);
  if (std::ssize(lost) < copies) return true;
  const std::int64_t stride = nodes / copies;
  for (const std::int64_t node : lost) {
    bool gone = true;
    for (std::int64_t at = node % stride; at < nodes && gone; at += stride) gone = is_lost(lost, at);
    if (gone) return false;
  }
  return true;
}

}  // namespace moecast
