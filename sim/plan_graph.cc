#include "sim/plan_graph.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/assert.h"

namespace moecast {
namespace {

std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }

/// (predecessor, operator), ascending, none twice.
std::vector<std::pair<std::int32_t, std::int32_t>> edges(const StepPlan& plan) {
  std::vector<std::pair<std::int32_t, std::int32_t>> result;
  std::array<std::optional<std::int32_t>, kLaneCount> last_in_lane;
  for (std::size_t i = 0; i < plan.operators.size(); ++i) {
    const Operator& op = plan.operators[i];
    ASSERT(op.id.index() == i, "operator {} at position {}", op.id.value(), i);
    for (const OpId dependency : op.dependencies) {
      ASSERT(dependency < op.id, "operator {} depends on {}", op.id.value(), dependency.value());
      if (plan.operators[dependency.index()].lane != op.lane) result.emplace_back(dependency.value(), op.id.value());
    }
    std::optional<std::int32_t>& last = last_in_lane.at(index(op.lane));
    if (last) result.emplace_back(*last, op.id.value());
    last = op.id.value();
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

}  // namespace

PlanGraph make_plan_graph(const StepPlan& plan) {
  const std::size_t count = plan.operators.size();
  PlanGraph graph;
  graph.predecessor_count.assign(count, 0);
  graph.first_successor.assign(count + 1, 0);
  for (const auto& [from, to] : edges(plan)) {
    ++graph.predecessor_count[static_cast<std::size_t>(to)];
    ++graph.first_successor[static_cast<std::size_t>(from) + 1];
    graph.successors.push_back(to);
  }
  for (std::size_t i = 0; i < count; ++i) graph.first_successor[i + 1] += graph.first_successor[i];
  for (std::size_t i = 0; i < count; ++i) {
    if (graph.predecessor_count[i] == 0) graph.roots.push_back(static_cast<std::int32_t>(i));
    graph.in_lane_order.push_back(static_cast<std::int32_t>(i));
  }
  std::stable_sort(graph.in_lane_order.begin(), graph.in_lane_order.end(), [&plan](std::int32_t a, std::int32_t b) {
    return plan.operators[static_cast<std::size_t>(a)].lane < plan.operators[static_cast<std::size_t>(b)].lane;
  });
  return graph;
}

}  // namespace moecast
