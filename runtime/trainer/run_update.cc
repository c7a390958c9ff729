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

/// What the next backward adds to. Working gradients of ZeRO 2 are cleared when they are reduced.
void clear_gradients(StepContext& context, bool expert) {
  const ParameterStore& store = context.store;
  const StateDivision& division = store.division();
  const bool reduced = division.sharded(expert) && division.zero_stage >= 2;
  const Tensor gradients = reduced || !division.sharded(expert) ? (expert ? store.flat_expert(Component::Gradient)
                                                                          : store.flat_dense(Component::Gradient))
                                                                : store.whole_gradients(expert);
  if (gradients.element_count() > 0) context.backend.fill(kLane, gradients, 0);
}

}  // namespace

void local_gradient_norm(StepContext& context) {
  context.backend.squared_norm(kLane, context.store.flat_dense(Component::Gradient), dense_norm(context), false);
  if (!has_experts(context)) return;
  context.backend.squared_norm(kLane, context.store.flat_expert(Component::Gradient), expert_norm(context), false);
}

Status reduce_gradient_norm(StepContext& context, Group group) {
  return context.groups.at(group).all_reduce(group == Group::Data ? dense_norm(context) : expert_norm(context));
}

void update_parameters(StepContext& context) {
  context.gradient_norm = global_gradient_norm(context);
  const bool clips = context.gradient_clip > 0 && context.gradient_norm > context.gradient_clip;
  context.optimizer.gradient_scale = clips ? context.gradient_clip / context.gradient_norm : 1.0;
  for (const ParameterClass of : {ParameterClass::DenseDecay, ParameterClass::DenseNoDecay, ParameterClass::ExpertDecay,
                                  ParameterClass::ExpertNoDecay}) {
    update_class(context, of);
  }
  for (const bool expert : {false, true}) clear_gradients(context, expert);
}

}  // namespace moecast
