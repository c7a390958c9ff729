#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "sim/operator_cost.h"
#include "sim/step_executor.h"

namespace moecast {

/// A plan written by hand together with what its operators cost; a port moves 1 byte a nanosecond.
struct HandPlan {
  StepPlan plan;
  PlanCosts costs;

  HandPlan() { costs.port = BytesPerSecond(1e9); }
  OpId compute(std::int64_t ns, std::vector<OpId> dependencies = {});
  /// `bytes` through every port of the group, `efficiency` of a port's bandwidth when alone.
  OpId collective(Group group, std::int64_t latency_ns, double bytes, std::vector<OpId> dependencies = {},
                  Lane lane = Lane::Comm, double efficiency = 1);
  [[nodiscard]] std::vector<Span> run(const ParallelLayout& layout, ExecutionOptions options = {}) const;
};

/// `op_count` operators on the compute, comm and copy-out lanes with random costs and dependencies.
[[nodiscard]] HandPlan random_plan(std::uint64_t seed, std::int32_t op_count, bool copies);

/// The same answer in the plainest way: every nanosecond every operator moves on. Only for plans in which at most one
/// collective moves on a port at a time and the switch is no limit.
[[nodiscard]] std::vector<Span> tick_by_tick(const HandPlan& hand, const ParallelLayout& layout,
                                             const ExecutionOptions& options);

/// "step rank op start..end", one line a span.
[[nodiscard]] std::string to_text(const std::vector<Span>& spans);

}  // namespace moecast
