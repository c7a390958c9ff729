/// Collectives of tensor and context parallelism around one operator.
///
/// Tensor (Megatron-LM, arXiv 1909.08053, section 3; with sequence parallelism Korthikanti et al. 2022, arXiv
/// 2205.05198, section 4.2.2): attention, FFN and shared expert add up what the tensor ranks made of their columns and
/// rows. Without sequence parallelism that is an all-reduce behind the operator, forward and backward; with it an
/// all-gather of the tokens before and a reduce-scatter behind, in each direction, and one more all-gather of the input
/// for the weights' gradient, as every rank keeps only its tokens of it. Words are divided too: the embedding is a
/// partial sum, the loss exchanges maximum, sum and target logit of every token.
///
/// Context (Llama 3, arXiv 2407.21783, section 3.3.2): every rank has its part of the sequence, all-gathers keys and
/// values before the attention core and reduce-scatters their gradients.
///
/// An operator is not cut where its collective stands inside of it (norm, [gather], products, [reduce], add): nothing
/// else could run between the pieces.

#include "models/plan_builder.h"

namespace moecast {
namespace {

bool is_forward(Phase phase) { return phase == Phase::Forward || phase == Phase::Recompute; }

bool has_divided_products(OpKind kind) {
  return kind == OpKind::Attention || kind == OpKind::Mlp || kind == OpKind::SharedExpert;
}

/// With sequence parallelism: does the operator need the tokens of all tensor ranks?
bool gathers_tokens(OpKind kind, Phase phase) {
  if (has_divided_products(kind)) return true;
  if (kind == OpKind::Head) return phase != Phase::Backward;  // the logits' gradient is there in full
  return kind == OpKind::Embed && phase == Phase::Backward;
}

}  // namespace

PlanBuilder::Ids PlanBuilder::collectives_before(OpKind kind, std::optional<LayerId> layer, Phase phase, Ids ready) {
  const ParallelLayout& layout = request_.layout;
  const auto then = [&](OpKind what, Group group, Bytes bytes) {
    ready = {communicate(what, phase, layer, {Collective::AllGather, group, bytes}, std::move(ready), kind)};
  };
  if (layout.sequence_parallel && gathers_tokens(kind, phase)) {
    const OpId own = ready.front();
    then(OpKind::TensorGather, Group::Tensor, work_.stream_bytes());
    if (phase == Phase::WeightGradient) ready.push_back(own);
  }
  if (layout.context > 1 && kind == OpKind::Attention && phase != Phase::WeightGradient) {
    then(OpKind::ContextGather, Group::Context, work_.key_value_bytes());
  }
  return ready;
}

OpId PlanBuilder::collectives_after(OpKind kind, std::optional<LayerId> layer, Phase phase, OpId done) {
  const ParallelLayout& layout = request_.layout;
  const auto then = [&](OpKind what, Communication communication) {
    done = communicate(what, phase, layer, communication, {done}, kind);
  };
  if (layout.context > 1 && kind == OpKind::Attention && phase == Phase::Backward) {
    then(OpKind::ContextReduce, {Collective::ReduceScatter, Group::Context, work_.key_value_bytes()});
  }
  if (layout.tensor == 1) return done;
  if (kind == OpKind::Head && is_forward(phase)) {
    then(OpKind::TensorReduce, {Collective::AllReduce, Group::Tensor, work_.loss_bytes()});
    return done;
  }
  const bool partial_sum = has_divided_products(kind) || (kind == OpKind::Embed && is_forward(phase)) ||
                           (kind == OpKind::Head && phase == Phase::Backward);
  if (partial_sum) {
    const Collective collective = layout.sequence_parallel ? Collective::ReduceScatter : Collective::AllReduce;
    then(OpKind::TensorReduce, {collective, Group::Tensor, work_.stream_bytes()});
  }
  return done;
}

}  // namespace moecast
