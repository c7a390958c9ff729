#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

}  // namespace

void attention_forward(StepContext& context, std::size_t block) {
  const AttentionView& view = context.parameters.blocks[block].attention;
  const BlockState& state = context.states.blocks[block];
  const AttentionState& attention = state.attention;
  const AttentionShape shape = context.attention_shape();
  norm_forward(context, view.norm, state.x, attention.norm);
  linear_forward(context, view.qkv, attention.norm.y, attention.qkv);
  if (context.model.position == PositionKind::Rope) {
    context.backend.rope(kLane, shape, context.model.rope_theta, attention.qkv, false);
  }
  context.backend.attention(kLane, shape, attention.qkv, attention.out, attention.log_sum_exp);
  linear_forward(context, view.out, attention.out, state.h);
  context.backend.add(kLane, state.h, state.x);
}

void attention_backward(StepContext& context, std::size_t block) {
  const AttentionView& view = context.parameters.blocks[block].attention;
  const BlockState& state = context.states.blocks[block];
  const AttentionState& attention = state.attention;
  const Temporaries& temporary = context.states.temporary;
  const AttentionShape shape = context.attention_shape();
  linear_backward(context, view.out, attention.out, temporary.g, temporary.dattention);
  context.backend.attention_backward(kLane, shape, attention.qkv, attention.out, attention.log_sum_exp,
                                     temporary.dattention, temporary.dqkv);
  if (context.model.position == PositionKind::Rope) {
    context.backend.rope(kLane, shape, context.model.rope_theta, temporary.dqkv, true);
  }
  linear_backward(context, view.qkv, attention.norm.y, temporary.dqkv, temporary.dnorm);
  norm_backward(context, view.norm, temporary.dnorm, state.x, attention.norm, temporary.g, true);
}

}  // namespace moecast
