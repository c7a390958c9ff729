#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/trainer/divergence.h"
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

/// Where its gradient would be a selection bias has the tokens of all ranks and micro-batches that chose each expert.
void update_selection_bias(StepContext& context, std::size_t block) {
  const std::optional<MoeFfn>& moe = context.model.blocks[block].moe;
  if (!moe || !moe->gate.selection_bias) return;
  const ParameterStore& store = context.store;
  const ParameterStore::Entry& entry = store.entry(fmt::format("blocks.{}.gate.selection_bias", block));
  const bool sharded = store.division().sharded(false);
  // Of this rank's share what belongs to experts that compute.
  const std::int64_t count = std::clamp<std::int64_t>(moe->expert_count - entry.share.begin, 0, entry.share.count());
  if (count == 0) return;
  const Tensor load = sharded ? store.gradient_share(entry) : store.tensor(Component::Gradient, entry);
  const Tensor weight = sharded ? store.weight_share(entry) : store.tensor(Component::Weight, entry);
  context.backend.follow_load(kLane, moe->gate.bias_rate, context.mean_load(*moe), load.slice(0, count),
                              store.share(Component::Master, entry).slice(0, count), weight.slice(0, count));
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
  context.backend.squared_norm(kLane, context.store.flat_trained_dense(Component::Gradient), dense_norm(context),
                               false);
  if (!has_experts(context)) return;
  context.backend.squared_norm(kLane, context.store.flat_expert(Component::Gradient), expert_norm(context), false);
}

Status reduce_gradient_norm(StepContext& context, Group group) {
  return context.groups.at(group).all_reduce(group == Group::Data ? dense_norm(context) : expert_norm(context));
}

Status update_parameters(StepContext& context) {
  context.gradient_norm = global_gradient_norm(context);
  if (!std::isfinite(context.gradient_norm)) {
    return Error{ErrorKind::RunFailed, fmt::format("step {}, rank {}", context.step + 1, context.rank.value()),
                 fmt::format("training diverged: the gradient norm is {}; the first value that is not finite is in {}; "
                             "a smaller learning rate or a gradient clip may help",
                             context.gradient_norm, find_divergence(context))};
  }
  const bool clips = context.gradient_clip > 0 && context.gradient_norm > context.gradient_clip;
  context.optimizer.gradient_scale = clips ? context.gradient_clip / context.gradient_norm : 1.0;
  for (const ParameterClass of : {ParameterClass::DenseDecay, ParameterClass::DenseNoDecay, ParameterClass::ExpertDecay,
                                  ParameterClass::ExpertNoDecay}) {
    update_class(context, of);
  }
  for (std::size_t block = 0; block < context.model.blocks.size(); ++block) update_selection_bias(context, block);
  for (const bool expert : {false, true}) clear_gradients(context, expert);
  return {};
}

}  // namespace moecast
