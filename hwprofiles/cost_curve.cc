#include "hwprofiles/cost_curve.h"

#include <algorithm>

#include "base/assert.h"
#include "base/math.h"
#include "hwprofiles/interpolation.h"

namespace moecast {

Duration CostCurve::time(double size) const {
  ASSERT(!points.empty());
  if (size <= points.front().size) return points.front().time;
  const Point& last = points.back();
  if (size >= last.size) return duration_from_seconds(seconds(last.time) * (size / last.size));
  const auto above = std::upper_bound(points.begin(), points.end(), size,
                                      [](double value, const Point& point) { return value < point.size; });
  const Point& low = *(above - 1);
  const double begin = portable_log(low.size);
  const double fraction = (portable_log(size) - begin) / (portable_log(above->size) - begin);
  return duration_from_seconds(between(seconds(low.time), seconds(above->time), fraction));
}

double CostCurve::linear_seconds(double size) const {
  ASSERT(!points.empty());
  if (size <= points.front().size || points.size() == 1) return 0;
  auto above = std::upper_bound(points.begin(), points.end(), size,
                                [](double value, const Point& point) { return value < point.size; });
  if (above == points.end()) --above;
  const Point& low = *(above - 1);
  const double slope = (seconds(above->time) - seconds(low.time)) / (above->size - low.size);
  return std::max(0.0, seconds(low.time) + slope * (size - low.size) - seconds(points.front().time));
}

}  // namespace moecast
