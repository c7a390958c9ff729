#include "sim/campaign/node_pool.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

Instant NodePool::ready_at(std::int64_t count, Instant now) const {
  if (ready_ >= count) return now;
  Queue in_repair = in_repair_;  // rarely more than a few
  Instant at = now;
  for (std::int64_t have = ready_; have < count; ++have) {
    ASSERT(!in_repair.empty(), "{} nodes wanted, {} ready, {} in repair", count, ready_, in_repair_.size());
    at = std::max(at, in_repair.top());
    in_repair.pop();
  }
  return at;
}

std::int64_t NodePool::ready_count(Instant now) const {
  std::int64_t count = ready_;
  for (Queue in_repair = in_repair_; !in_repair.empty() && in_repair.top() <= now; in_repair.pop()) ++count;
  return count;
}

void NodePool::take(std::int64_t count, Instant now) {
  for (; !in_repair_.empty() && in_repair_.top() <= now; in_repair_.pop()) ++ready_;
  ready_ -= count;
  ASSERT(ready_ >= 0, "{} nodes too few", -ready_);
}

}  // namespace moecast
