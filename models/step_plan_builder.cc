#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "models/forward_chain.h"
#include "models/operator_work.h"
#include "models/step_plan.h"
#include "models/timeline.h"

namespace moecast {
namespace {

using Ids = std::vector<OpId>;

struct Slots {
  std::int64_t forward = 1;
  std::int64_t backward = 1;
};

/// Appends the operators of one step. Methods that emit return the ids that later operators depend on.
class PlanBuilder {
 public:
  PlanBuilder(const StepPlanRequest& request, const ForwardChain& chain, Slots slots)
      : request_(request), work_(request), chain_(chain), slots_(slots) {
    plan_.schedule = request.schedule;
    plan_.schedule.forward_slot = slots.forward;
    plan_.schedule.backward_slot = slots.backward;
    plan_.bytes_per_element = request.bytes_per_element;
  }

  StepPlan build() && {
    for (std::int64_t m = 0; m < request_.batch.micro_batch_count; ++m) {
      micro_batch_ = static_cast<std::int32_t>(m);
      forward();
      backward();
    }
    micro_batch_ = 0;
    update();
    if (request_.schedule.kind == ScheduleKind::Sequential) chain_operators();
    return std::move(plan_);
  }

 private:
  [[nodiscard]] const MoeFfn& moe(LayerId layer) const { return *request_.model.blocks[layer.index()].moe; }
  [[nodiscard]] bool shortcut() const { return request_.schedule.kind == ScheduleKind::Shortcut; }

  OpId emit(Operator op, Ids dependencies) {
    op.id = OpId(static_cast<std::int32_t>(plan_.operators.size()));
    op.micro_batch = micro_batch_;
    std::sort(dependencies.begin(), dependencies.end());
    dependencies.erase(std::unique(dependencies.begin(), dependencies.end()), dependencies.end());
    op.dependencies = std::move(dependencies);
    plan_.operators.push_back(std::move(op));
    return plan_.operators.back().id;
  }
  OpId compute(OpKind kind, Phase phase, std::optional<LayerId> layer, std::vector<Work> work, Ids dependencies) {
    Operator op;
    op.kind = kind;
    op.phase = phase;
    op.layer = layer;
    op.work = std::move(work);
    return emit(std::move(op), std::move(dependencies));
  }
  OpId communicate(OpKind kind, Phase phase, std::optional<LayerId> layer, Communication communication,
                   Ids dependencies) {
    Operator op;
    op.kind = kind;
    op.phase = phase;
    op.lane = Lane::Comm;
    op.layer = layer;
    op.communication = communication;
    return emit(std::move(op), std::move(dependencies));
  }

  [[nodiscard]] std::vector<Work> item_work(const ChainItem& item, Phase phase) const;
  [[nodiscard]] const MoeSite* site_at_source(std::size_t item) const;

  void forward();
  void forward_moe(const MoeSite& site);
  void emit_forward(std::size_t item, Ids more = {});
  void backward();
  void backward_moe(const MoeSite& site);
  void emit_backward(std::size_t item, Ids more = {});
  void update();
  void chain_operators();

  [[nodiscard]] Ids exchange(OpKind kind, Phase phase, LayerId layer, const std::vector<Ids>& after);
  [[nodiscard]] Ids experts(Phase phase, LayerId layer, const Ids& after);

  const StepPlanRequest& request_;
  OperatorWork work_;
  const ForwardChain& chain_;
  Slots slots_;
  StepPlan plan_;
  std::int32_t micro_batch_ = 0;
  std::vector<OpId> made_;      // by chain item: its forward operator
  std::optional<OpId> stream_;  // the last operator that wrote the residual stream or, backward, its gradient
};

std::vector<Work> PlanBuilder::item_work(const ChainItem& item, Phase phase) const {
  switch (item.kind) {
    case OpKind::Embed:
      return work_.embed(phase);
    case OpKind::Attention:
      return work_.attention(phase);
    case OpKind::Mlp:
      return work_.mlp(phase, request_.model.blocks[item.layer->index()].dense_width);
    case OpKind::SharedExpert:
      return work_.shared_expert(phase, moe(*item.layer));
    case OpKind::Decode:
      return work_.decode(phase, moe(*item.layer));
    case OpKind::Head:
      return work_.head(phase);
    default:
      break;
  }
  ASSERT(false, "{} is not an item of the chain", to_text(item.kind));
  return {};
}

const MoeSite* PlanBuilder::site_at_source(std::size_t item) const {
  for (const MoeSite& site : chain_.sites) {
    if (site.source == item) return &site;
  }
  return nullptr;
}

/// One collective for each chunk; chunk i waits for after[i].
Ids PlanBuilder::exchange(OpKind kind, Phase phase, LayerId layer, const std::vector<Ids>& after) {
  const auto count = static_cast<std::int64_t>(after.size());
  Ids ids;
  for (std::int64_t chunk = 0; chunk < count; ++chunk) {
    const ExpertShare share = work_.share(moe(layer), chunk, count);
    const Bytes buffer(share.send_rows * request_.model.d_model * request_.bytes_per_element);
    Operator op;
    op.kind = kind;
    op.phase = phase;
    op.lane = Lane::Comm;
    op.layer = layer;
    op.chunk = static_cast<std::int32_t>(chunk);
    op.chunk_count = static_cast<std::int32_t>(count);
    op.communication = Communication{Collective::AllToAll, Group::Expert, buffer};
    ids.push_back(emit(std::move(op), after[static_cast<std::size_t>(chunk)]));
  }
  return ids;
}

Ids PlanBuilder::experts(Phase phase, LayerId layer, const Ids& after) {
  const auto count = static_cast<std::int64_t>(after.size());
  Ids ids;
  for (std::int64_t chunk = 0; chunk < count; ++chunk) {
    Operator op;
    op.kind = OpKind::Expert;
    op.phase = phase;
    op.layer = layer;
    op.chunk = static_cast<std::int32_t>(chunk);
    op.chunk_count = static_cast<std::int32_t>(count);
    op.work = work_.expert(phase, moe(layer), work_.share(moe(layer), chunk, count), shortcut());
    ids.push_back(emit(std::move(op), {after[static_cast<std::size_t>(chunk)]}));
  }
  return ids;
}

std::vector<Ids> each_alone(const Ids& ids) {
  std::vector<Ids> lists;
  for (const OpId id : ids) lists.push_back({id});
  return lists;
}

void PlanBuilder::emit_forward(std::size_t item, Ids more) {
  if (stream_) more.push_back(*stream_);
  const ChainItem& what = chain_.items[item];
  made_[item] = compute(what.kind, Phase::Forward, what.layer, item_work(what, Phase::Forward), std::move(more));
  stream_ = made_[item];
}

void PlanBuilder::forward() {
  made_.assign(chain_.items.size(), OpId());
  std::size_t item = 0;
  emit_forward(item);
  while (item + 1 < chain_.items.size()) {
    if (const MoeSite* site = site_at_source(item)) {
      forward_moe(*site);
      item = site->decode;  // which may itself be the source of the next block's shortcut
    } else {
      emit_forward(++item);
    }
  }
}

/// Everything from Gate to Decode, the window included.
void PlanBuilder::forward_moe(const MoeSite& site) {
  const LayerId layer = site.layer;
  const OpId source = made_[site.source];
  std::size_t next = site.source + 1;
  const auto window_until = [&](std::size_t end) {
    while (next < end) emit_forward(next++);
  };
  if (!shortcut()) window_until(site.decode);

  const OpId gate = compute(OpKind::Gate, Phase::Forward, layer, work_.gate(Phase::Forward, moe(layer)), {source});
  const OpId encode = compute(OpKind::Encode, Phase::Forward, layer, work_.encode(Phase::Forward, moe(layer)), {gate});
  Ids ready = {encode};
  if (!moe(layer).capacity_factor) {
    const Bytes counts(moe(layer).expert_count * 4);
    ready.push_back(
        communicate(OpKind::Counts, Phase::Forward, layer, {Collective::AllToAll, Group::Expert, counts}, {gate}));
  }
  const std::vector<Ids> chunks(static_cast<std::size_t>(request_.schedule.chunk_count), ready);
  const Ids dispatched = exchange(OpKind::Dispatch, Phase::Forward, layer, chunks);
  if (shortcut()) window_until(site.source + static_cast<std::size_t>(slots_.forward));
  const Ids computed = experts(Phase::Forward, layer, dispatched);
  Ids combined = exchange(OpKind::Combine, Phase::Forward, layer, each_alone(computed));
  window_until(site.decode);
  emit_forward(site.decode, std::move(combined));
}

void PlanBuilder::emit_backward(std::size_t item, Ids more) {
  more.push_back(*stream_);
  const ChainItem& what = chain_.items[item];
  stream_ = compute(what.kind, Phase::Backward, what.layer, item_work(what, Phase::Backward), std::move(more));
}

void PlanBuilder::backward() {
  for (std::size_t item = chain_.items.size(); item-- > 0;) {
    const auto site = std::find_if(chain_.sites.begin(), chain_.sites.end(),
                                   [&](const MoeSite& each) { return each.decode == item; });
    if (site == chain_.sites.end()) {
      emit_backward(item);
      continue;
    }
    backward_moe(*site);
    item = site->source + 1;  // the source is next
  }
}

/// Everything from Decode back to Gate, the window included: then the gradient of the residual stream is complete at S.
void PlanBuilder::backward_moe(const MoeSite& site) {
  const LayerId layer = site.layer;
  emit_backward(site.decode);
  const OpId decode = *stream_;
  std::size_t left = site.decode;  // window items from left - 1 down to source + 1 are still to come
  const auto window_until = [&](std::size_t end) {
    while (left > end) emit_backward(--left);
  };
  if (!shortcut()) window_until(site.source + 1);

  const std::vector<Ids> chunks(static_cast<std::size_t>(request_.schedule.chunk_count), Ids{decode});
  const Ids combined = exchange(OpKind::Combine, Phase::Backward, layer, chunks);
  if (shortcut()) window_until(site.decode + 1 - static_cast<std::size_t>(slots_.backward));
  const Ids computed = experts(Phase::Backward, layer, combined);
  Ids dispatched = exchange(OpKind::Dispatch, Phase::Backward, layer, each_alone(computed));
  if (shortcut()) (void)experts(Phase::WeightGradient, layer, computed);
  window_until(site.source + 1);
  const OpId encode =
      compute(OpKind::Encode, Phase::Backward, layer, work_.encode(Phase::Backward, moe(layer)), std::move(dispatched));
  stream_ = compute(OpKind::Gate, Phase::Backward, layer, work_.gate(Phase::Backward, moe(layer)), {encode, *stream_});
}

void PlanBuilder::update() {
  const ParallelLayout& layout = request_.layout;
  const Bytes expert_bytes = work_.expert_gradient();
  // The last compute operator of the backward: the lane's order puts every weight gradient before it.
  Ids ready = {*stream_};
  const auto reduce = [&](Group group, Bytes buffer) {
    if (layout.group_size(group) <= 1 || buffer.count() == 0) return;
    ready.push_back(
        communicate(OpKind::GradientReduce, Phase::Update, {}, {Collective::AllReduce, group, buffer}, {*stream_}));
  };
  reduce(Group::Data, work_.non_expert_gradient());
  reduce(Group::ExpertData, expert_bytes);
  OpId norm = compute(OpKind::GradientNorm, Phase::Update, {}, work_.gradient_norm(), ready);
  if (layout.expert > 1 && expert_bytes.count() > 0) {
    norm =
        communicate(OpKind::GradientNorm, Phase::Update, {}, {Collective::AllReduce, Group::Expert, Bytes(8)}, {norm});
  }
  compute(OpKind::Optimizer, Phase::Update, {}, work_.optimizer(), {norm});
}

/// Sequential: every operator waits for the one before it, whatever its lane.
void PlanBuilder::chain_operators() {
  for (std::size_t i = 1; i < plan_.operators.size(); ++i) {
    Ids& dependencies = plan_.operators[i].dependencies;
    const OpId previous(static_cast<std::int32_t>(i) - 1);
    if (dependencies.empty() || dependencies.back() != previous) dependencies.push_back(previous);
  }
}

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

Status check_layout(const ParallelLayout& layout) {
  RETURN_IF_ERROR(layout.check());
  if (layout.tensor != 1 || layout.pipeline != 1) {
    return bad("parallel", fmt::format("a step plan divides work over data and expert ranks; found tensor {}, pipeline "
                                       "{}, expected 1 and 1",
                                       layout.tensor, layout.pipeline));
  }
  if (layout.zero_stage != 0) {
    return bad("parallel", fmt::format("a step plan keeps the optimizer state on every rank; found zero_stage {}, "
                                       "expected 0",
                                       layout.zero_stage));
  }
  return {};
}

Status check_moe(const StepPlanRequest& request, const MoeSite& site) {
  const MoeFfn& moe = *request.model.blocks[site.layer.index()].moe;
  const std::string place = fmt::format("block {}", site.layer.value());
  const std::int64_t chunks = request.schedule.chunk_count;
  if (moe.expert_count % request.layout.expert != 0) {
    return bad(place, fmt::format("{} experts cannot be divided evenly over {} expert-parallel ranks; use a divisor of "
                                  "{}",
                                  moe.expert_count, request.layout.expert, moe.expert_count));
  }
  const std::optional<std::int64_t> capacity = moe.capacity(request.batch.tokens());
  if (!capacity && chunks > 1) return bad(place, "chunks divide the capacity, and a dropless MoE has none");
  if (capacity && *capacity < chunks) {
    return bad(place, fmt::format("the capacity of {} slots cannot be divided into {} chunks", *capacity, chunks));
  }
  if (request.schedule.kind != ScheduleKind::Shortcut) return {};
  for (const auto& [name, slot] : {std::pair("forward_slot", request.schedule.forward_slot),
                                   std::pair("backward_slot", request.schedule.backward_slot)}) {
    if (slot && (*slot < 1 || *slot > site.window() + 1)) {
      return bad(place, fmt::format("{} {} is outside the window of {} operators: expected 1..{}", name, *slot,
                                    site.window(), site.window() + 1));
    }
  }
  return {};
}

Status check(const StepPlanRequest& request, const ForwardChain& chain) {
  RETURN_IF_ERROR(check_layout(request.layout));
  const Batch& batch = request.batch;
  const Schedule& schedule = request.schedule;
  if (batch.micro_batch < 1 || batch.micro_batch_count < 1 || batch.sequence < 1) {
    return bad("batch", fmt::format("expected positive sizes, found micro_batch {}, micro_batch_count {}, sequence {}",
                                    batch.micro_batch, batch.micro_batch_count, batch.sequence));
  }
  if (batch.sequence > request.model.max_sequence) {
    return bad("batch", fmt::format("sequence {} is longer than the model's max_sequence {}", batch.sequence,
                                    request.model.max_sequence));
  }
  if (schedule.chunk_count < 1)
    return bad("schedule", fmt::format("expected 1 chunk or more, found {}", schedule.chunk_count));
  if (schedule.kind == ScheduleKind::Sequential && schedule.chunk_count > 1) {
    return bad("schedule", fmt::format("a sequential schedule has one chunk, found {}", schedule.chunk_count));
  }
  if (schedule.kind != ScheduleKind::Shortcut && (schedule.forward_slot || schedule.backward_slot)) {
    return bad("schedule", "only a shortcut schedule has expert slots");
  }
  for (const MoeSite& site : chain.sites) RETURN_IF_ERROR(check_moe(request, site));
  return {};
}

StepPlan plan_with(const StepPlanRequest& request, const ForwardChain& chain, Slots slots) {
  return PlanBuilder(request, chain, slots).build();
}

Duration wall_time(const StepPlan& plan, const OperatorTime& operator_time) {
  std::vector<Duration> durations;
  durations.reserve(plan.operators.size());
  for (const Operator& op : plan.operators) durations.push_back(operator_time(op));
  Instant end{};
  for (const Span& span : project(plan, durations).spans) end = std::max(end, span.end);
  return end - Instant{};
}

/// The slots asked for; an open one is the argmin of the step's wall time over the slots that every MoE block has,
/// smallest on ties (ScMoE section 3.2: eq 11 has the same argmin). Forward and backward do not meet, so each is chosen
/// alone.
Slots resolve_slots(const StepPlanRequest& request, const ForwardChain& chain) {
  Slots slots{request.schedule.forward_slot.value_or(1), request.schedule.backward_slot.value_or(1)};
  if (request.schedule.kind != ScheduleKind::Shortcut || chain.sites.empty()) return slots;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
  for (const MoeSite& site : chain.sites) last = std::min(last, site.window() + 1);
  const auto choose = [&](const std::optional<std::int64_t>& asked, std::int64_t& slot) {
    if (asked || last == 1) return;
    ASSERT(request.operator_time != nullptr, "an open slot needs operator times");
    std::int64_t best = 1;
    Duration best_time = Duration::max();
    for (slot = 1; slot <= last; ++slot) {
      const Duration time = wall_time(plan_with(request, chain, slots), request.operator_time);
      if (time < best_time) best = slot;
      best_time = std::min(best_time, time);
    }
    slot = best;
  };
  choose(request.schedule.forward_slot, slots.forward);
  choose(request.schedule.backward_slot, slots.backward);
  return slots;
}

}  // namespace

Result<StepPlan> build_step_plan(const StepPlanRequest& request) {
  const Result<ForwardChain> chain = forward_chain(request.model);
  RETURN_IF_ERROR(chain);
  RETURN_IF_ERROR(check(request, *chain));
  StepPlan plan = plan_with(request, *chain, resolve_slots(request, *chain));
  if (request.schedule.kind != ScheduleKind::Shortcut) {
    plan.schedule.forward_slot.reset();
    plan.schedule.backward_slot.reset();
  }
  return plan;
}

Result<std::vector<StepPlan>> build_stage_plans(const StepPlanRequest& request) {
  Result<StepPlan> plan = build_step_plan(request);
  RETURN_IF_ERROR(plan);
  return std::vector<StepPlan>{std::move(plan).value()};
}

}  // namespace moecast
