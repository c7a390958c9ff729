#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "base/units.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// Spares and nodes in repair. A replaced node comes back to the spares when it is repaired.
class NodePool {
 public:
  explicit NodePool(const SpareNodes& spares) : ready_(spares.count) {}

  void send_to_repair(Instant back_at) { in_repair_.push(back_at); }
  /// Earliest instant, not before `now`, at which `count` nodes are ready to step in. There are enough in repair.
  [[nodiscard]] Instant ready_at(std::int64_t count, Instant now) const;
  /// Nodes that are ready by `now`.
  [[nodiscard]] std::int64_t ready_count(Instant now) const;
  /// Takes `count` nodes that are ready by `now`.
  void take(std::int64_t count, Instant now);

 private:
  using Queue = std::priority_queue<Instant, std::vector<Instant>, std::greater<>>;
  std::int64_t ready_;
  Queue in_repair_;
};

}  // namespace moecast
