#pragma once

#include <vector>

#include "base/units.h"

namespace moecast {

struct Interval {
  Instant start, end;
};
using Intervals = std::vector<Interval>;

/// Disjoint and ascending, covering the same instants.
[[nodiscard]] Intervals union_of(Intervals intervals);
[[nodiscard]] Duration length(const Intervals& disjoint);
/// Time that two unions have in common.
[[nodiscard]] Duration common(const Intervals& a, const Intervals& b);

}  // namespace moecast
