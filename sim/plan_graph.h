#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/step_plan.h"

namespace moecast {

/// The order that a plan asks for, as one graph of operators in flat arrays: an edge for every dependency, and one for
/// every pair of neighbours on a lane (a lane is first in, first out). An operator begins as soon as all of its
/// predecessors are done. Edges that others imply (dependencies inside a lane) are left out.
struct PlanGraph {
  std::vector<std::int32_t> roots;              // operators without predecessors, ascending
  std::vector<std::int32_t> predecessor_count;  // [operators]
  std::vector<std::int32_t> first_successor;    // [operators + 1]: into successors
  std::vector<std::int32_t> successors;         // ascending for each operator
  std::vector<std::int32_t> in_lane_order;      // all operators, lane by lane, in plan order

  [[nodiscard]] std::span<const std::int32_t> successors_of(std::int32_t op) const {
    const auto first = static_cast<std::size_t>(first_successor[static_cast<std::size_t>(op)]);
    const auto last = static_cast<std::size_t>(first_successor[static_cast<std::size_t>(op) + 1]);
    return std::span(successors).subspan(first, last - first);
  }
};

/// The plan's ids are positions and its dependencies point backwards (asserted).
[[nodiscard]] PlanGraph make_plan_graph(const StepPlan& plan);

}  // namespace moecast
