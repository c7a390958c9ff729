#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

}  // namespace

void norm_forward(StepContext& context, const NormView& norm, const Tensor& x, const NormState& state) {
  context.backend.norm(kLane, context.model.norm, x, norm.gain, norm.bias, context.model.norm_epsilon, state.y,
                       state.mean, state.rstd);
}

void norm_backward(StepContext& context, const NormView& norm, const Tensor& dy, const Tensor& x,
                   const NormState& state, const Tensor& dx, bool accumulate) {
  context.backend.norm_backward(kLane, context.model.norm, dy, x, norm.gain, state.mean, state.rstd, dx, accumulate,
                                norm.dgain, norm.dbias);
}

void linear_forward(StepContext& context, const LinearView& linear, const Tensor& x, const Tensor& y) {
  context.backend.gemm(kLane, false, false, x, linear.w, y, false);
  const std::array<std::int64_t, 2> all_rows = {0, y.rows()};
  if (!linear.b.empty()) context.backend.bias_add(kLane, y, linear.b, all_rows);
}

void linear_backward(StepContext& context, const LinearView& linear, const Tensor& x, const Tensor& dy,
                     const Tensor& dx) {
  const std::array<std::int64_t, 2> all_rows = {0, dy.rows()};
  if (!linear.b.empty()) context.backend.bias_gradient(kLane, dy, all_rows, linear.db);
  context.backend.gemm(kLane, false, true, dy, linear.w, dx, false);
  context.backend.gemm(kLane, true, false, x, dy, linear.dw, true);
}

}  // namespace moecast
