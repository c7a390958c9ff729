#pragma once

#include "runtime/trainer/step_context.h"

namespace moecast {

/// Pieces that several operators share, on the compute lane.

/// The first elements of a temporary that layers of several sizes share, as [rows, columns].
[[nodiscard]] inline Tensor part(const Tensor& temporary, std::int64_t rows, std::int64_t columns) {
  return Tensor(temporary.data, temporary.dtype, {rows, columns});
}

/// y = norm(x) into state.y.
void norm_forward(StepContext& context, const NormView& norm, const Tensor& x, const NormState& state);
/// dx (+)= gradient at x, where dy is that at norm(x).
void norm_backward(StepContext& context, const NormView& norm, const Tensor& dy, const Tensor& x,
                   const NormState& state, const Tensor& dx, bool accumulate);

/// y = x w (+ b).
void linear_forward(StepContext& context, const LinearView& linear, const Tensor& x, const Tensor& y);
/// dx = dy w^T; gradients of w and b grow.
void linear_backward(StepContext& context, const LinearView& linear, const Tensor& x, const Tensor& dy,
                     const Tensor& dx);

}  // namespace moecast
