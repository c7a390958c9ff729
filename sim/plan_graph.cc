#include "sim/plan_graph.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/assert.h"

namespace moecast {
namespace {

std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }

/// Calls what an operator follows, each once: the one before it on its lane, and dependencies on other lanes.
class Predecessors {
 public:
  template <typename Call>
  void of(const StepPlan& plan, const Operator& op, Call call) {
    found_.clear();
    for (const OpId dependency : op.dependencies) {
      ASSERT(dependency < op.id, "operator {} depends on {}", op.id.value(), dependency.value());
      const bool known = std::find(found_.begin(), found_.end(), dependency.value()) != found_.end();
      if (!known && plan.operators[dependency.index()].lane != op.lane) found_.push_back(dependency.value());
    }
    std::optional<std::int32_t>& last = last_in_lane_.at(index(op.lane));
    if (last) found_.push_back(*last);
    last = op.id.value();
    for (const std::int32_t predecessor : found_) call(static_cast<std::size_t>(predecessor));
  }

 private:
  std::array<std::optional<std::int32_t>, kLaneCount> last_in_lane_;
  std::vector<std::int32_t> found_;
};

}  // namespace

PlanGraph make_plan_graph(const StepPlan& plan) {
  const std::size_t count = plan.operators.size();
  PlanGraph graph;
  graph.predecessor_count.assign(count, 0);
  graph.first_successor.assign(count + 1, 0);
  Predecessors counting;
  for (std::size_t i = 0; i < count; ++i) {
    const Operator& op = plan.operators[i];
    ASSERT(op.id.index() == i, "operator {} at position {}", op.id.value(), i);
    counting.of(plan, op, [&](std::size_t from) {
      ++graph.predecessor_count[i];
      ++graph.first_successor[from + 1];
    });
  }
  for (std::size_t i = 0; i < count; ++i) graph.first_successor[i + 1] += graph.first_successor[i];
  graph.successors.resize(static_cast<std::size_t>(graph.first_successor.back()));
  std::vector<std::int32_t> next(graph.first_successor.begin(), graph.first_successor.end() - 1);
  Predecessors placing;
  for (const Operator& op : plan.operators) {  // ascending, so successors are too
    placing.of(plan, op,
               [&](std::size_t from) { graph.successors[static_cast<std::size_t>(next[from]++)] = op.id.value(); });
  }
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
