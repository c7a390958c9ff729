#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

/// y = FFN(norm(h)).
void ffn_forward(StepContext& context, const FfnView& view, const Tensor& h, const FfnState& state, const Tensor& y) {
  norm_forward(context, view.norm, h, state.norm);
  linear_forward(context, view.in, state.norm.y, state.pre);
  context.backend.activation(kLane, context.model.activation, state.pre, state.active);
  linear_forward(context, view.out, state.active, y);
}

/// temporary.dnorm = gradient at norm(h), where dy is that at FFN(norm(h)).
void ffn_backward(StepContext& context, const FfnView& view, const FfnState& state, const Tensor& dy) {
  const Temporaries& temporary = context.states.temporary;
  const Tensor dactive = part(temporary.dactive, state.active.shape[0], state.active.shape[1]);
  const Tensor dpre = part(temporary.dpre, state.pre.shape[0], state.pre.shape[1]);
  linear_backward(context, view.out, state.active, dy, dactive);
  context.backend.activation_backward(kLane, context.model.activation, state.pre, dactive, dpre);
  linear_backward(context, view.in, state.norm.y, dpre, temporary.dnorm);
}

}  // namespace

void mlp_forward(StepContext& context, std::size_t block) {
  const BlockState& state = context.states.blocks[block];
  const Tensor& y = block_output(context, block);
  ffn_forward(context, context.parameters.blocks[block].ffn, state.h, state.ffn, y);
  context.backend.add(kLane, y, state.h);
}

void mlp_backward(StepContext& context, std::size_t block) {
  const FfnView& view = context.parameters.blocks[block].ffn;
  const BlockState& state = context.states.blocks[block];
  const Temporaries& temporary = context.states.temporary;
  ffn_backward(context, view, state.ffn, temporary.g);
  norm_backward(context, view.norm, temporary.dnorm, state.h, state.ffn.norm, temporary.g, true);
}

void shared_expert_forward(StepContext& context, std::size_t block) {
  const BlockView& view = context.parameters.blocks[block];
  const BlockState& state = context.states.blocks[block];
  ffn_forward(context, view.ffn, state.h, state.ffn, state.routed.shared);
  if (view.coefficient.w.empty()) return;
  const Tensor& c = state.routed.coefficient;
  if (view.coefficient.w.columns() == 1) {
    context.backend.gemm(kLane, false, false, state.ffn.norm.y, view.coefficient.w, c, false);
    context.backend.sigmoid(kLane, c);
  } else {  // a row of each coefficient: w^T x^T
    context.backend.gemm(kLane, true, true, view.coefficient.w, state.ffn.norm.y, c, false);
    context.backend.softmax_pairs(kLane, c);
  }
}

void shared_expert_backward(StepContext& context, std::size_t block) {
  const BlockView& view = context.parameters.blocks[block];
  const BlockState& state = context.states.blocks[block];
  const Temporaries& temporary = context.states.temporary;
  const bool gated = !view.coefficient.w.empty();
  ffn_backward(context, view.ffn, state.ffn, gated ? temporary.dshared : temporary.g);
  if (gated) {
    const bool pair = view.coefficient.w.columns() == 2;
    const Tensor& c = state.routed.coefficient;
    const Tensor dc = part(temporary.dcoefficient, c.shape[0], c.shape[1]);
    ASSERT(dc.dtype == context.compute, "the coefficient gate's gradient has no product in another type yet");
    pair ? context.backend.softmax_pairs_backward(kLane, c, dc) : context.backend.sigmoid_backward(kLane, c, dc);
    context.backend.gemm(kLane, pair, true, dc, view.coefficient.w, temporary.dnorm, true);
    context.backend.gemm(kLane, true, pair, state.ffn.norm.y, dc, view.coefficient.dw, true);
  }
  norm_backward(context, view.ffn.norm, temporary.dnorm, state.h, state.ffn.norm, temporary.g, true);
}

}  // namespace moecast
