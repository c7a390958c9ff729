#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moecast {

/// Where a value lies in an ascending grid: between points `low` and `low + 1`, `fraction` of the way in log space.
/// Outside the grid: at its first or last point (fraction 0).
struct GridPlace {
  std::size_t low = 0;
  double fraction = 0;
};

/// All values positive, the grid not empty.
[[nodiscard]] GridPlace place_in_log_grid(const std::vector<std::int64_t>& grid, double value);
[[nodiscard]] GridPlace place_in_log_grid(const std::vector<double>& grid, double value);

/// Geometric: a^(1-f) b^f.
[[nodiscard]] double between(double a, double b, double fraction);

}  // namespace moecast
