#pragma once

#include <cstdint>
#include <functional>

#include "models/step_plan.h"
#include "models/timeline.h"

namespace moecast::testing_models {

/// A pair of blocks, dense then MoE, repeated: [d] wide, 8 experts, top-k routed, shared expert of the same width if
/// `shared`.
[[nodiscard]] MoeModel paired_model(std::int64_t pairs, std::int64_t top_k, bool shared, Shortcut shortcut);

/// One rank's forward pass laid out with these times; everything else takes none. The end of the last span.
[[nodiscard]] Duration forward_wall(const StepPlan& plan, const std::function<std::int64_t(const Operator&)>& ticks);

}  // namespace moecast::testing_models
