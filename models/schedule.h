#pragma once

#include <cstdint>
#include <optional>

namespace moecast {

enum class ScheduleKind {
  Sequential,  // every communication in line with compute: nothing overlaps
  Pipelined,   // dispatch, experts and combine in `chunk_count` chunks (Tutel): chunk i+1 travels while i computes
  Shortcut,    // communication beside the window's compute, experts in slot K (ScMoE section 3.2); also takes chunks
};

/// When operators are issued. A schedule changes time, never results.
struct Schedule {
  ScheduleKind kind = ScheduleKind::Sequential;
  std::int64_t chunk_count = 1;
  /// Slot K of the expert computation in the window's compute order x_1..x_n: before x_K; 1..n+1. No value: auto, the
  /// argmin of the wall time under the given operator times, smallest K on ties.
  std::optional<std::int64_t> forward_slot = std::nullopt;
  std::optional<std::int64_t> backward_slot = std::nullopt;

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

}  // namespace moecast
