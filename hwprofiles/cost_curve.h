#pragma once

#include <vector>

#include "base/units.h"

namespace moecast {

/// Time of a kernel by size: interpolated in log-log space between the points, constant below the first (a kernel never
/// takes less than its smallest measured time) and at the last point's rate beyond it.
struct CostCurve {
  struct Point {
    double size = 0;  // bytes of MemoryWork, batch * heads of AttentionWork: said by the owner
    Duration time{};

    friend bool operator==(const Point&, const Point&) = default;
  };
  std::vector<Point> points;  // ascending in size, all positive; at least one
  [[nodiscard]] Duration time(double size) const;
  /// Seconds above the first point's time: linear between the points (so it never falls if the times do not), at the
  /// last slope beyond them.
  [[nodiscard]] double linear_seconds(double size) const;

  friend bool operator==(const CostCurve&, const CostCurve&) = default;
};

}  // namespace moecast
