#include "hwprofiles/interpolation.h"

#include <algorithm>

#include "base/assert.h"
#include "base/math.h"

namespace moecast {
namespace {

template <typename T>
GridPlace place(const std::vector<T>& grid, double value) {
  ASSERT(!grid.empty() && value > 0, "{} grid points, value {}", grid.size(), value);
  const auto as_double = [](T x) { return static_cast<double>(x); };
  if (value <= as_double(grid.front())) return {0, 0};
  if (value >= as_double(grid.back())) return {grid.size() - 1, 0};
  const auto above =
      std::upper_bound(grid.begin(), grid.end(), value, [&](double v, T point) { return v < as_double(point); });
  const auto low = static_cast<std::size_t>(above - grid.begin()) - 1;
  const double begin = portable_log(as_double(grid[low]));
  const double end = portable_log(as_double(grid[low + 1]));
  return {low, (portable_log(value) - begin) / (end - begin)};
}

}  // namespace

GridPlace place_in_log_grid(const std::vector<std::int64_t>& grid, double value) { return place(grid, value); }
GridPlace place_in_log_grid(const std::vector<double>& grid, double value) { return place(grid, value); }

double between(double a, double b, double fraction) {
  if (fraction == 0) return a;
  return portable_exp((1 - fraction) * portable_log(a) + fraction * portable_log(b));
}

}  // namespace moecast
