#include <algorithm>
#include <array>

#include "base/assert.h"
#include "models/timeline.h"

namespace moecast {

Timeline project(const StepPlan& plan, const std::vector<Duration>& durations) {
  ASSERT(durations.size() == plan.operators.size(), "{} durations for {} operators", durations.size(),
         plan.operators.size());
  Timeline timeline;
  timeline.source = "projected";
  timeline.plan = plan;
  std::array<Instant, kLaneCount> free{};
  std::vector<Instant> end(plan.operators.size());
  for (const Operator& op : plan.operators) {
    Instant& lane = free[static_cast<std::size_t>(op.lane)];
    Instant start = lane;
    for (const OpId dependency : op.dependencies) {
      ASSERT(dependency < op.id, "operator {} depends on {}", op.id.value(), dependency.value());
      start = std::max(start, end[dependency.index()]);
    }
    lane = end[op.id.index()] = start + durations[op.id.index()];
    timeline.spans.push_back({op.id, Rank(0), op.lane, 0, start, lane});
  }
  std::stable_sort(timeline.spans.begin(), timeline.spans.end(),
                   [](const Span& a, const Span& b) { return a.lane < b.lane; });
  return timeline;
}

}  // namespace moecast
