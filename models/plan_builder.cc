#include "models/plan_builder.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

PlanBuilder::PlanBuilder(const StepPlanRequest& request, const std::vector<ForwardChain>& chains, std::int64_t stage,
                         Slots slots)
    : request_(request),
      chains_(chains),
      stage_(stage),
      work_(request, stage),
      slots_(slots),
      states_(chains.size(), std::vector<PassState>(static_cast<std::size_t>(request.batch.micro_batch_count))) {
  plan_.schedule = request.schedule;
  plan_.schedule.forward_slot = slots.forward;
  plan_.schedule.backward_slot = slots.backward;
  plan_.bytes_per_element = request.bytes_per_element;
}

StepPlan PlanBuilder::build() && {
  const bool training = request_.task == StepTask::Training;
  for (const PipelinePass& pass : pipeline_order(request_.layout, stage_, request_.batch.micro_batch_count)) {
    if (training || pass.kind == PipelinePass::Kind::Forward) run(pass);
  }
  micro_batch_ = 0;
  if (training) update();
  if (request_.schedule.kind == ScheduleKind::Sequential) chain_operators();
  return std::move(plan_);
}

OpId PlanBuilder::emit(Operator op, Ids dependencies) {
  op.id = OpId(static_cast<std::int32_t>(plan_.operators.size()));
  op.micro_batch = micro_batch_;
  op.second_routing |= second_routing_;
  std::sort(dependencies.begin(), dependencies.end());
  dependencies.erase(std::unique(dependencies.begin(), dependencies.end()), dependencies.end());
  op.dependencies = std::move(dependencies);
  plan_.operators.push_back(std::move(op));
  return plan_.operators.back().id;
}

OpId PlanBuilder::compute(Operator op, Ids dependencies) {
  add_weight_gathers(op, dependencies);
  last_compute_ = emit(std::move(op), std::move(dependencies));
  return last_compute_;
}

OpId PlanBuilder::communicate(OpKind kind, Phase phase, std::optional<LayerId> layer, Communication communication,
                              Ids dependencies, std::optional<OpKind> part_of) {
  Operator op;
  op.kind = kind;
  op.phase = phase;
  const bool on_tensor_lane = communication.group == Group::Context || communication.group == Group::Tensor;
  op.lane = on_tensor_lane && phase != Phase::Update ? Lane::Tensor : Lane::Comm;
  op.layer = layer;
  op.communication = communication;
  op.part_of = part_of;
  return emit(std::move(op), std::move(dependencies));
}

OpId PlanBuilder::point_to_point(OpKind kind, Phase phase, std::optional<LayerId> layer, std::int64_t peer, Bytes bytes,
                                 Ids dependencies) {
  Operator op;
  op.kind = kind;
  op.phase = phase;
  op.lane = kind == OpKind::Send ? Lane::Send : Lane::Receive;
  op.layer = layer;
  op.communication = Communication{Collective::PointToPoint, Group::Pipeline, bytes, static_cast<std::int32_t>(peer)};
  return emit(std::move(op), std::move(dependencies));
}

/// Sequential: every operator waits for the one before it, whatever its lane.
void PlanBuilder::chain_operators() {
  for (std::size_t i = 1; i < plan_.operators.size(); ++i) {
    Ids& dependencies = plan_.operators[i].dependencies;
    const OpId previous(static_cast<std::int32_t>(i) - 1);
    if (dependencies.empty() || dependencies.back() != previous) dependencies.push_back(previous);
  }
}

void PlanBuilder::run(const PipelinePass& pass) {
  micro_batch_ = static_cast<std::int32_t>(pass.micro_batch);
  chain_ = &chains_[static_cast<std::size_t>(pass.part)];
  state_ = &states_[static_cast<std::size_t>(pass.part)][static_cast<std::size_t>(pass.micro_batch)];
  begin_pass();
  switch (pass.kind) {
    case PipelinePass::Kind::Forward:
      if (request_.layout.pipeline > 1) stream_.reset();
      forward();
      state_->forward_end = stream_;
      break;
    case PipelinePass::Kind::Backward:
      stream_ = state_->forward_end;
      backward();
      break;
    case PipelinePass::Kind::WeightGradient:
      late_weight_gradients();
      break;
  }
}

void PlanBuilder::late_weight_gradients() {
  const std::vector<LateGradient> late = std::exchange(state_->late, {});
  std::map<std::optional<LayerId>, std::size_t> left;
  for (const LateGradient& gradient : late) ++left[gradient.op.layer];
  for (const LateGradient& gradient : late) {
    const std::optional<LayerId> layer = gradient.op.layer;
    compute(gradient.op, collectives_before(gradient.op.kind, layer, Phase::WeightGradient, {gradient.after}));
    if (--left[layer] == 0 && layer) reduce({OpKind::Attention, layer});
  }
  close_ends();
}

std::vector<Work> PlanBuilder::item_work(const ChainItem& item, Phase phase) const {
  switch (item.kind) {
    case OpKind::Embed:
      return work_.embed(phase);
    case OpKind::Attention:
      return work_.attention(phase, *item.layer, splits_weights());
    case OpKind::Mlp:
      return work_.mlp(phase, request_.model.blocks[item.layer->index()].dense_width, splits_weights());
    case OpKind::SharedExpert:
      return work_.shared_expert(phase, moe(*item.layer), splits_weights());
    case OpKind::Decode:
      return work_.decode(phase, moe(*item.layer));
    case OpKind::Head:
      return work_.head(phase, splits_weights());
    default:
      break;
  }
  ASSERT(false, "{} computes nothing", to_text(item.kind));
}

const MoeSite* PlanBuilder::site_at_source(std::size_t item) const {
  for (const MoeSite& site : chain_->sites) {
    if (site.source == item) return &site;
  }
  return nullptr;
}

void PlanBuilder::forward() {
  made_.assign(chain_->items.size(), OpId());
  emit_forward(0, Phase::Forward);
  run_items(0, chain_->items.size(), Phase::Forward);
}

/// What follows on `item` up to `end`, with the experts that hang on it.
void PlanBuilder::run_items(std::size_t item, std::size_t end, Phase phase) {
  while (item + 1 < end) {
    if (const MoeSite* site = site_at_source(item)) {
      forward_moe(*site, phase);
      item = site->decode;  // which may itself be the source of the next block's shortcut
    } else {
      emit_forward(++item, phase);
    }
  }
}

void PlanBuilder::emit_forward(std::size_t item, Phase phase, Ids more) {
  const ChainItem& what = chain_->items[item];
  const std::int64_t stages = request_.layout.pipeline;
  if (stream_) more.push_back(*stream_);
  if (what.kind == OpKind::Send) {
    made_[item] = point_to_point(OpKind::Send, phase, what.layer, (stage_ + 1) % stages, work_.boundary_bytes(), more);
    return;
  }
  if (what.kind == OpKind::Receive) {
    made_[item] = point_to_point(OpKind::Receive, phase, what.layer, (stage_ + stages - 1) % stages,
                                 work_.boundary_bytes(), std::move(more));
  } else {
    Operator op;
    op.kind = what.kind;
    op.phase = phase;
    op.layer = what.layer;
    op.work = item_work(what, phase);
    more = collectives_before(what.kind, what.layer, phase, std::move(more));
    made_[item] = collectives_after(what.kind, what.layer, phase, compute(std::move(op), std::move(more)));
  }
  stream_ = made_[item];
}

void PlanBuilder::backward() {
  for (std::size_t item = chain_->items.size(); item-- > 0;) {
    recompute_unit(item);
    const auto site = std::find_if(chain_->sites.begin(), chain_->sites.end(),
                                   [&](const MoeSite& each) { return each.decode == item; });
    if (site == chain_->sites.end()) {
      emit_backward(item);
      continue;
    }
    backward_moe(*site);
    item = site->source + 1;  // the source is next
  }
  if (!zero_bubble()) close_ends();
}

/// Full recomputation: the forward of the blocks that end in this item once more, experts and their exchanges included
/// (Korthikanti et al. 2022, arXiv 2205.05198, section 5: a checkpoint at every block's input).
void PlanBuilder::recompute_unit(std::size_t last_item) {
  if (request_.layout.recomputation != Recomputation::Full) return;
  for (const ChainUnit& unit : chain_units(*chain_)) {
    if (unit.end != last_item + 1) continue;
    made_.assign(chain_->items.size(), OpId());
    made_[unit.begin - 1] = *stream_;
    run_items(unit.begin - 1, unit.end, Phase::Recompute);
  }
}

void PlanBuilder::emit_backward(std::size_t item) {
  const ChainItem& what = chain_->items[item];
  const std::int64_t stages = request_.layout.pipeline;
  if (what.kind == OpKind::Send) {  // the next stage sends the gradient back
    stream_ =
        point_to_point(OpKind::Receive, Phase::Backward, what.layer, (stage_ + 1) % stages, work_.boundary_bytes(), {});
    return;
  }
  if (what.kind == OpKind::Receive) {
    point_to_point(OpKind::Send, Phase::Backward, what.layer, (stage_ + stages - 1) % stages, work_.boundary_bytes(),
                   {*stream_});
    return;
  }
  Operator op;
  op.kind = what.kind;
  op.layer = what.layer;
  if (what.kind == OpKind::Attention && request_.layout.recomputation == Recomputation::Selective) {
    op.phase = Phase::Recompute;
    op.work = work_.attention_core(*what.layer);
    stream_ = compute(op, {*stream_});
  }
  op.phase = Phase::Backward;
  op.work = item_work(what, Phase::Backward);
  const bool split = splits_weights() && what.kind != OpKind::Decode && what.kind != OpKind::Embed;
  Ids ready = collectives_before(what.kind, what.layer, Phase::Backward, {*stream_});
  Ids weights_ready;  // what they need of other ranks travels beside the operator, ahead of what it leaves behind
  if (split && !zero_bubble()) {
    weights_ready = collectives_before(what.kind, what.layer, Phase::WeightGradient, {*stream_});
  }
  const OpId done = compute(op, std::move(ready));
  stream_ = collectives_after(what.kind, what.layer, Phase::Backward, done);
  if (split) {
    op.phase = Phase::WeightGradient;
    op.work = item_work(what, Phase::WeightGradient);
    weight_gradient(std::move(op), done, std::move(weights_ready));
  }
  if (what.kind == OpKind::Attention) close(*what.layer);
}

/// `after` is the backward operator; `more` is not used where the operator is put off.
void PlanBuilder::weight_gradient(Operator op, OpId after, Ids more) {
  op.second_routing = second_routing_;  // also if it is put off
  if (zero_bubble()) {
    state_->late.push_back({std::move(op), after});
    return;
  }
  more.push_back(after);
  compute(std::move(op), std::move(more));
}

}  // namespace moecast
