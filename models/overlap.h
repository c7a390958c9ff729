#pragma once

#include <cstdint>

#include "base/units.h"
#include "models/timeline.h"

namespace moecast {

/// What the exchanges of MoE blocks can travel beside, and how long they take: means over blocks, ranks and steps.
struct OverlapWindow {
  std::int64_t block_count = 0;  // of one rank and step, all micro-batches
  Duration window{};             // compute, experts apart, between a block's Encode and its Decode
  Duration experts{};
  Duration exchanges{};  // dispatch and combine, waiting included
};

struct OverlapWindows {
  OverlapWindow forward, backward;
};

/// Pure: judges measured and simulated timelines alike. In the backward, between Decode and Encode. The window is what
/// a shortcut schedule opens (ScMoE section 3.2); in the others it is empty, and only experts and exchanges in chunks
/// can hide each other.
[[nodiscard]] OverlapWindows overlap_windows(const Timeline& timeline);

}  // namespace moecast
