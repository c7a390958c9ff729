#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

/// One micro-batch of a [M,T] tensor, as a vector.
Tensor micro_batch_row(const Tensor& tensor, std::int64_t micro_batch) {
  return tensor.slice(micro_batch, micro_batch + 1).reshaped({tensor.shape[1]});
}

}  // namespace

void embed_forward(StepContext& context, std::int64_t micro_batch) {
  const ParameterViews& view = context.parameters;
  context.backend.embedding(kLane, micro_batch_row(context.states.ids, micro_batch), view.token, view.position,
                            context.batch.sequence, context.states.blocks.front().x);
}

void embed_backward(StepContext& context, std::int64_t micro_batch) {
  const ParameterViews& view = context.parameters;
  context.backend.embedding_backward(kLane, micro_batch_row(context.states.ids, micro_batch),
                                     context.states.temporary.g, context.batch.sequence, view.dtoken, view.dposition);
}

void head_forward(StepContext& context, std::int64_t micro_batch) {
  const ParameterViews& view = context.parameters;
  const HeadState& head = context.states.head;
  const bool tied = view.output.w.empty();  // then logits = n E^T
  norm_forward(context, view.final_norm, context.states.x_last, head.norm);
  context.backend.gemm(kLane, false, tied, head.norm.y, tied ? view.token : view.output.w, head.logits, false);
  context.backend.cross_entropy(kLane, head.logits, micro_batch_row(context.states.targets, micro_batch),
                                context.loss_scale(), micro_batch_row(head.loss, micro_batch));
}

void head_backward(StepContext& context) {
  const ParameterViews& view = context.parameters;
  const HeadState& head = context.states.head;
  const Temporaries& temporary = context.states.temporary;
  const Tensor& dlogits = head.logits;
  if (view.output.w.empty()) {
    context.backend.gemm(kLane, false, false, dlogits, view.token, temporary.dnorm, false);
    context.backend.gemm(kLane, true, false, dlogits, head.norm.y, view.dtoken, true);
  } else {
    context.backend.gemm(kLane, false, true, dlogits, view.output.w, temporary.dnorm, false);
    context.backend.gemm(kLane, true, false, head.norm.y, dlogits, view.output.dw, true);
  }
  norm_backward(context, view.final_norm, temporary.dnorm, context.states.x_last, head.norm, temporary.g, false);
}

}  // namespace moecast
