#include "runtime/trainer/rank_trainer.h"

#include <algorithm>

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

}  // namespace

bool splits_expert_backward(const StepPlan& plan) {
  return std::any_of(plan.operators.begin(), plan.operators.end(),
                     [](const Operator& op) { return op.phase == Phase::WeightGradient; });
}

StepPlan plan_subset(const StepPlan& plan, const std::function<bool(const Operator&)>& keep) {
  StepPlan subset;
  subset.schedule = plan.schedule;
  subset.bytes_per_element = plan.bytes_per_element;
  std::vector<std::optional<OpId>> renumbered(plan.operators.size());
  for (const Operator& op : plan.operators) {
    if (!keep(op)) continue;
    Operator kept = op;
    kept.id = OpId(static_cast<std::int32_t>(subset.operators.size()));
    kept.dependencies.clear();
    for (const OpId dependency : op.dependencies) {
      // What is left out came before: in a whole step, or in an earlier call.
      if (renumbered[dependency.index()]) kept.dependencies.push_back(*renumbered[dependency.index()]);
    }
    renumbered[op.id.index()] = kept.id;
    subset.operators.push_back(std::move(kept));
  }
  return subset;
}

StepPlan forward_plan(const StepPlan& plan) {
  return plan_subset(plan, [](const Operator& op) { return op.phase == Phase::Forward; });
}

Result<std::unique_ptr<RankTrainer>> RankTrainer::make(const RankTrainerOptions& options) {
  std::unique_ptr<RankTrainer> trainer(new RankTrainer(options));
  RETURN_IF_ERROR(trainer->allocate());
  return trainer;
}

Status RankTrainer::allocate() {
  const Workload& workload = options_.workload;
  const MoeModel& model = workload.model;
  const DType compute = compute_type(workload);
  Result<ParameterStore> store =
      ParameterStore::make(parameters_of_rank(model, workload.layout, options_.rank), compute, options_.backend,
                           state_division(workload.layout, options_.rank));
  if (!store.ok()) return store.error();
  store_ = std::make_unique<ParameterStore>(std::move(store).value());
  initialise(*store_, model.layer_count(), options_.seed, options_.backend);

  const ActivationSizes sizes{model, workload.layout, workload.batch, compute};
  Arena counting;
  (void)Activations::carve(sizes, counting);
  Result<std::unique_ptr<DeviceMemory>> memory = options_.backend.allocate(counting.used());
  if (!memory.ok()) return memory.error();
  activations_ = std::move(memory).value();
  Arena arena(activations_->data());
  context_ = std::make_unique<StepContext>(StepContext{
      model, workload.layout, options_.rank, workload.batch, compute, options_.backend, options_.groups, *store_,
      make_parameter_views(model, *store_, workload.layout.expert,
                           workload.layout.position(Group::Expert, options_.rank)),
      Activations::carve(sizes, arena), std::vector<std::array<ExchangePlan, 2>>(model.blocks.size())});
  context_->seed = options_.seed;
  context_->gradient_clip = options_.gradient_clip;
  runner_ = std::make_unique<StepRunner>(*context_, options_.faults, options_.on_failure);
  executor_ = make_executor(options_.backend, options_.clock);
  return {};
}

Result<StepOutcome> RankTrainer::run(const StepPlan& plan, const TokenBatch& batch, std::int64_t step,
                                     const AdamWStep& optimizer, OperatorRunner* watcher) {
  prepare(plan, batch, optimizer);
  context_->step = step;
  runner_->begin_step(step);
  OperatorRunner& runner = watcher != nullptr ? *watcher : *runner_;
  Result<std::vector<Span>> spans = executor_->run_step(plan, runner, static_cast<std::int32_t>(step), options_.rank);
  if (!spans.ok()) return spans.error();
  // On a device a collective may have failed after it was queued.
  if (options_.backend.asynchronous()) RETURN_IF_ERROR(options_.groups.check());
  StepOutcome outcome = read_outcome();
  outcome.spans = std::move(spans).value();
  if (!options_.backend.asynchronous()) leave_out_stall(plan, outcome.spans);
  return outcome;
}

/// The update waited for a copy before it began: in the timeline the lane idles, and the operator is as long as it is.
void RankTrainer::leave_out_stall(const StepPlan& plan, std::vector<Span>& spans) const {
  for (Span& span : spans) {
    if (plan.operators[span.op.index()].kind == OpKind::Optimizer) span.start += runner_->stall();
  }
}

void RankTrainer::prepare(const StepPlan& plan, const TokenBatch& batch, const AdamWStep& optimizer) {
  StepContext& context = *context_;
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  ASSERT(tokens == context.states.ids.element_count() && batch.targets.size() == batch.ids.size(),
         "{} tokens in a batch of {}", tokens, context.states.ids.element_count());
  context.backend.upload(kLane, context.states.ids, batch.ids.data());
  context.backend.upload(kLane, context.states.targets, batch.targets.data());
  context.backend.synchronize(kLane);
  context.optimizer = optimizer;
  context.split_expert_backward = splits_expert_backward(plan);
  context.chunk_count = plan.schedule.chunk_count;
  for (std::size_t block = 0; block < context.model.blocks.size(); ++block) {
    const std::optional<MoeFfn>& moe = context.model.blocks[block].moe;
    const bool planned = context.exchanges[block][0].chunks.size() == static_cast<std::size_t>(context.chunk_count);
    if (moe && moe->capacity_factor && !planned) plan_fixed_exchange(context, block);
  }
}

StepOutcome RankTrainer::read_outcome() {
  StepOutcome outcome;
  outcome.gradient_norm = context_->gradient_norm;
  outcome.routed.resize(context_->model.blocks.size());
  outcome.processed.resize(context_->model.blocks.size());
  outcome.dropped.resize(context_->model.blocks.size());
  read_losses(outcome);
  for (std::size_t block = 0; block < context_->model.blocks.size(); ++block) {
    if (context_->model.blocks[block].moe) read_routing(block, outcome);
  }
  return outcome;
}

template <typename Use>
void RankTrainer::for_values(const Tensor& values, Use use) {
  staging_.resize(static_cast<std::size_t>(values.bytes().count()));
  context_->backend.download(kLane, staging_.data(), values);
  context_->backend.synchronize(kLane);
  for (std::int64_t i = 0; i < values.element_count(); ++i) {
    use(i, values.dtype == DType::F64 ? reinterpret_cast<const double*>(staging_.data())[i]
                                      : static_cast<double>(reinterpret_cast<const float*>(staging_.data())[i]));
  }
}

void RankTrainer::read_losses(StepOutcome& outcome) {
  const Activations& states = context_->states;
  outcome.token_count = states.head.loss.element_count();
  outcome.loss_sum = sum_of(states.head.loss);
  for (const BlockState& block : states.blocks) {
    if (block.routed.balance_loss.empty()) continue;
    const double routings = block.second.balance_loss.empty() ? 1 : 2;
    const double share = 1 / (routings * static_cast<double>(context_->batch.micro_batch_count));
    for (const RoutedState* routed : {&block.routed, &block.second}) {
      if (!routed->balance_loss.empty()) outcome.balance_loss += share * sum_of(routed->balance_loss);
      if (!routed->losses.empty()) add_losses(routed->losses, share, outcome.router_losses);
    }
  }
}

/// `losses` is [M,3].
void RankTrainer::add_losses(const Tensor& losses, double share, RouterLosses& sum) {
  const std::array<double*, 3> each = {&sum.importance, &sum.load, &sum.z};
  for_values(losses, [&](std::int64_t i, double value) { *each[static_cast<std::size_t>(i % 3)] += share * value; });
}

void RankTrainer::read_routing(std::size_t block, StepOutcome& outcome) {
  const MoeFfn& moe = context_->moe(block);
  const auto choices = static_cast<std::size_t>(moe.choice_count());
  outcome.routed[block].assign(choices, 0);
  outcome.processed[block].assign(static_cast<std::size_t>(moe.expert_count), 0);
  add_counts(context_->states.blocks[block].routed.count, moe, block, outcome);
  if (moe.double_gate) add_counts(context_->states.blocks[block].second.count, moe, block, outcome);
}

/// `counts` is [M,A]; zero experts, the last of A, drop nothing.
void RankTrainer::add_counts(const Tensor& counts, const MoeFfn& moe, std::size_t block, StepOutcome& outcome) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(counts.element_count()));
  context_->backend.download(kLane, values.data(), counts);
  context_->backend.synchronize(kLane);
  const std::size_t choices = outcome.routed[block].size(), computing = outcome.processed[block].size();
  const std::optional<std::int64_t> capacity = moe.capacity(context_->tokens());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t expert = i % choices;
    outcome.routed[block][expert] += values[i];
    if (expert >= computing) continue;
    const std::int64_t kept = capacity ? std::min<std::int64_t>(values[i], *capacity) : values[i];
    outcome.processed[block][expert] += kept;
    outcome.dropped[block] += values[i] - kept;
  }
}

double RankTrainer::sum_of(const Tensor& values) {
  double sum = 0;
  for_values(values, [&](std::int64_t, double value) { sum += value; });
  return sum;
}

}  // namespace moecast
