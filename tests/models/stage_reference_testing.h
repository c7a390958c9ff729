#pragma once

#include <functional>
#include <vector>

#include "models/step_plan.h"

namespace moecast::testing_models {

/// When each operator of each stage ends if nothing but the plans is in the way: [stage][operator], ticks. Lanes are
/// first in, first out; the n-th receive from a stage ends no sooner than the n-th send of that stage to it. `ticks` of
/// a receive are not used. Fails the test if the stages wait for each other for ever.
[[nodiscard]] std::vector<std::vector<std::int64_t>> run_stages(
    const std::vector<StepPlan>& plans, const std::function<std::int64_t(const Operator&)>& ticks);

/// The end of the last operator.
[[nodiscard]] std::int64_t stages_wall(const std::vector<StepPlan>& plans,
                                       const std::function<std::int64_t(const Operator&)>& ticks);

}  // namespace moecast::testing_models
