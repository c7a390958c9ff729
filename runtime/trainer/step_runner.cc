#include "runtime/trainer/step_runner.h"

#include <exception>

namespace moecast {
namespace {

std::size_t block_of(const Operator& op) {
  ASSERT(op.layer.has_value(), "{} without a layer", op.name());
  return op.layer->index();
}

Routing routing_of(const Operator& op) { return {block_of(op), op.second_routing}; }

Status no_such_operator(const Operator& op) {
  ASSERT(false, "the trainer has no operator {} on lane {}", op.name(), to_text(op.lane));
}

}  // namespace

Status StepRunner::run(const Operator& op) {
  try {
    if (faults_ != nullptr) faults_->begin(context_.rank, step_, op);
    const Status status = op.lane == Lane::Comm ? run_communication(op) : run_compute(op);
    if (status.ok()) return status;
    Error error = status.error();
    error.place = error.place.empty() ? op.name() : op.name() + ": " + error.place;
    return error;
  } catch (const std::exception& exception) {
    return Error{ErrorKind::RunFailed, op.name(), exception.what()};
  }
}

void StepRunner::abandon(const Error& reason) {
  if (on_failure_) on_failure_(reason);
  context_.groups.abort(reason);
}

Status StepRunner::update() {
  if (before_update_) {
    const Result<Duration> stall = before_update_();
    if (!stall.ok()) return stall.error();
    stall_ = *stall;
  }
  return update_parameters(context_);
}

Status StepRunner::run_compute(const Operator& op) {
  switch (op.phase) {
    case Phase::Forward:
      return run_forward(op);
    case Phase::Backward:
      return run_backward(op);
    case Phase::WeightGradient:
      if (op.kind != OpKind::Expert) return no_such_operator(op);
      expert_weight_gradient(context_, routing_of(op), static_cast<std::size_t>(op.chunk));
      return {};
    case Phase::Update:
      if (op.kind == OpKind::GradientNorm) return local_gradient_norm(context_), Status();
      if (op.kind == OpKind::Optimizer) return update();
      break;
    case Phase::Recompute:
      break;
  }
  return no_such_operator(op);
}

Status StepRunner::run_forward(const Operator& op) {
  switch (op.kind) {
    case OpKind::Embed:
      return embed_forward(context_, op.micro_batch), Status();
    case OpKind::Attention:
      return attention_forward(context_, block_of(op)), Status();
    case OpKind::Mlp:
      return mlp_forward(context_, block_of(op)), Status();
    case OpKind::SharedExpert:
      return shared_expert_forward(context_, block_of(op)), Status();
    case OpKind::Gate:
      return gate_forward(context_, routing_of(op), op.micro_batch), Status();
    case OpKind::Encode:
      return encode_forward(context_, routing_of(op)), Status();
    case OpKind::Expert:
      return expert_forward(context_, routing_of(op), static_cast<std::size_t>(op.chunk)), Status();
    case OpKind::Decode:
      return decode_forward(context_, block_of(op)), Status();
    case OpKind::Head:
      return head_forward(context_, op.micro_batch), Status();
    default:
      return no_such_operator(op);
  }
}

Status StepRunner::run_backward(const Operator& op) {
  switch (op.kind) {
    case OpKind::Embed:
      return embed_backward(context_, op.micro_batch), Status();
    case OpKind::Attention:
      return attention_backward(context_, block_of(op)), Status();
    case OpKind::Mlp:
      return mlp_backward(context_, block_of(op)), Status();
    case OpKind::SharedExpert:
      return shared_expert_backward(context_, block_of(op)), Status();
    case OpKind::Gate:
      return gate_backward(context_, routing_of(op), op.micro_batch), Status();
    case OpKind::Encode:
      return encode_backward(context_, routing_of(op)), Status();
    case OpKind::Expert:
      return expert_backward(context_, routing_of(op), static_cast<std::size_t>(op.chunk)), Status();
    case OpKind::Decode:
      return decode_backward(context_, block_of(op)), Status();
    case OpKind::Head:
      return head_backward(context_), Status();
    default:
      return no_such_operator(op);
  }
}

Status StepRunner::run_communication(const Operator& op) {
  const auto chunk = static_cast<std::size_t>(op.chunk);
  const bool forward = op.phase == Phase::Forward;
  switch (op.kind) {
    case OpKind::Counts:
      return exchange_counts(context_, routing_of(op), op.micro_batch);
    case OpKind::Dispatch:
      return forward ? dispatch_forward(context_, routing_of(op), chunk)
                     : dispatch_backward(context_, routing_of(op), chunk);
    case OpKind::Combine:
      return forward ? combine_forward(context_, routing_of(op), chunk)
                     : combine_backward(context_, routing_of(op), chunk);
    case OpKind::GradientReduce:
      return reduce_gradients(context_, op);
    case OpKind::GradientNorm:
      return reduce_gradient_norm(context_, op.communication->group);
    case OpKind::WeightGather:
      return gather_weights(context_, op);
    default:
      return no_such_operator(op);
  }
}

}  // namespace moecast
