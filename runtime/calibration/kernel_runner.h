#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "models/step_plan.h"
#include "runtime/calibration/operands.h"

namespace moecast {

/// Backend calls that a Work stands for, ready to be timed. Call i works on operand set i / form_count in form
/// i % form_count; run them in turn, beginning again at the end.
struct KernelCalls {
  std::vector<std::function<void()>> calls;
  std::size_t form_count = 1;
};

/// The one place that knows which kernel a Work charges for: the trainer calls the same kernels with the same sizes.
///
/// What a Work does not say is chosen here:
///   - products occur as x w, as dy w^T and as x^T dy (accumulating); all three are forms of the Work;
///   - the token's choices k follow from the bytes; rows that nobody names do not occur;
///   - LayerNorm, GELU (SwiGLU if the bytes say so), a bias of one group, coefficients of scaled rows present;
///   - gate: softmax, then top-k, capacity 1.25 T k / E;
///   - rope: heads of 64, or of the row, and positions up to 128.
/// Operands: `set_count` sets, as many as make up `working_set` (at most 16), so that a set has left the caches by the
/// time it comes round again: in a training step an operand was last touched many kernels ago.
/// RunFailed if the backend has no memory for them. Sets live until the next `operands.reset()`.
[[nodiscard]] Result<KernelCalls> kernel_calls(Backend& backend, Operands& operands, const Work& work, Lane lane,
                                               Bytes working_set);

}  // namespace moecast
