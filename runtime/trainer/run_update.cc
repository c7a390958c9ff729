#include <cmath>

#include "runtime/trainer/step_context.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

Tensor dense_norm(const StepContext& context) { return context.states.squared_norms.slice(0, 1); }
Tensor expert_norm(const StepContext& context) { return context.states.squared_norms.slice(1, 2); }

bool has_experts(const StepContext& context) {
  return context.store.flat_expert(Component::Gradient).element_count() > 0;
}

double global_gradient_norm(StepContext& context) {
  std::array<double, 2> squares{};
  context.backend.download(kLane, squares.data(), context.states.squared_norms);
  context.backend.synchronize(kLane);
  return std::sqrt(squares[0] + (has_experts(context) ? squares[1] : 0.0));
}

void update_class(StepContext& context, ParameterClass of) {
  const ParameterStore& store = context.store;
  if (store.flat(Component::Master, of).element_count() == 0) return;
  AdamWStep step = context.optimizer;
  const bool decays = of == ParameterClass::DenseDecay || of == ParameterClass::ExpertDecay;
  if (!decays) step.weight_decay = 0;
  context.backend.adamw(kLane, step, store.flat(Component::Master, of), store.flat(Component::Gradient, of),
                        store.flat(Component::FirstMoment, of), store.flat(Component::SecondMoment, of),
                        store.flat(Component::Weight, of));
}

}  // namespace

/// The loss is scaled by one over all tokens of the step, so the sum over ranks is the gradient of the mean.
Status reduce_gradients(StepContext& context, Group group) {
  const Tensor buffer = group == Group::Data ? context.store.flat_dense(Component::Gradient)
                                             : context.store.flat_expert(Component::Gradient);
  return context.groups.at(group).all_reduce(buffer);
}

void local_gradient_norm(StepContext& context) {
  context.backend.squared_norm(kLane, context.store.flat_dense(Component::Gradient), dense_norm(context), false);
  if (!has_experts(context)) return;
  context.backend.squared_norm(kLane, context.store.flat_expert(Component::Gradient), expert_norm(context), false);
}

Status reduce_gradient_norm(StepContext& context) {
  return context.groups.at(Group::Expert).all_reduce(expert_norm(context));
}

void update_parameters(StepContext& context) {
  context.gradient_norm = global_gradient_norm(context);
  const bool clips = context.gradient_clip > 0 && context.gradient_norm > context.gradient_clip;
  context.optimizer.gradient_scale = clips ? context.gradient_clip / context.gradient_norm : 1.0;
  for (const ParameterClass of : {ParameterClass::DenseDecay, ParameterClass::DenseNoDecay, ParameterClass::ExpertDecay,
                                  ParameterClass::ExpertNoDecay}) {
    update_class(context, of);
  }
  context.backend.fill(kLane, context.store.flat_dense(Component::Gradient), 0);
  if (has_experts(context)) context.backend.fill(kLane, context.store.flat_expert(Component::Gradient), 0);
}

}  // namespace moecast
