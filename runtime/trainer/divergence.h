#pragma once

#include <string>

#include "runtime/trainer/step_context.h"

namespace moecast {

/// Where the first value stands that is not finite, of what the last micro-batch left behind in the order of the
/// forward pass ("the result of L3.Attention.F"), else among the gradients ("the gradient of blocks.3.mlp.w1"). Called
/// after a backward, when the global gradient norm is not finite.
[[nodiscard]] std::string find_divergence(StepContext& context);

}  // namespace moecast
