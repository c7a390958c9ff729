#include "models/intervals.h"

#include <algorithm>

namespace moecast {

Intervals union_of(Intervals intervals) {
  std::sort(intervals.begin(), intervals.end(), [](const Interval& a, const Interval& b) { return a.start < b.start; });
  Intervals joined;
  for (const Interval& next : intervals) {
    if (joined.empty() || next.start > joined.back().end) {
      joined.push_back(next);
    } else {
      joined.back().end = std::max(joined.back().end, next.end);
    }
  }
  return joined;
}

Duration length(const Intervals& disjoint) {
  Duration total{};
  for (const Interval& interval : disjoint) total += interval.end - interval.start;
  return total;
}

Duration common(const Intervals& a, const Intervals& b) {
  Duration total{};
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const Instant start = std::max(a[i].start, b[j].start);
    const Instant end = std::min(a[i].end, b[j].end);
    if (end > start) total += end - start;
    (a[i].end < b[j].end ? i : j) += 1;
  }
  return total;
}

}  // namespace moecast
