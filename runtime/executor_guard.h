#pragma once

#include <cstddef>

#include "base/ids.h"
#include "base/result.h"
#include "models/step_plan.h"
#include "runtime/executor.h"

namespace moecast {

[[nodiscard]] constexpr std::size_t lane_index(Lane lane) { return static_cast<std::size_t>(lane); }

/// runner.run(op) with an exception turned into an error, and the error's place filled in.
[[nodiscard]] Status run_guarded(OperatorRunner& runner, const Operator& op, Rank rank);

/// Ids count up from 0 and every dependency has a smaller id than its operator (our own bug otherwise).
void assert_plan_order(const StepPlan& plan);

}  // namespace moecast
