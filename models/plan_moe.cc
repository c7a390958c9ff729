#include <utility>

#include "models/plan_builder.h"

namespace moecast {
namespace {

std::vector<std::vector<OpId>> each_alone(const std::vector<OpId>& ids) {
  std::vector<std::vector<OpId>> lists;
  for (const OpId id : ids) lists.push_back({id});
  return lists;
}

Operator routing_operator(OpKind kind, Phase phase, LayerId layer, std::vector<Work> work) {
  Operator op;
  op.kind = kind;
  op.phase = phase;
  op.layer = layer;
  op.work = std::move(work);
  return op;
}

void set_chunk(Operator& op, std::int64_t chunk, std::int64_t count) {
  op.chunk = static_cast<std::int32_t>(chunk);
  op.chunk_count = static_cast<std::int32_t>(count);
}

}  // namespace

/// One collective for each chunk; chunk i waits for after[i].
PlanBuilder::Ids PlanBuilder::exchange(OpKind kind, Phase phase, LayerId layer, const std::vector<Ids>& after) {
  const auto count = static_cast<std::int64_t>(after.size());
  Ids ids;
  for (std::int64_t chunk = 0; chunk < count; ++chunk) {
    const ExpertShare share = work_.share(moe(layer), chunk, count);
    const Bytes buffer(share.send_rows * request_.model.d_model * request_.bytes_per_element);
    Operator op = routing_operator(kind, phase, layer, {});
    op.lane = Lane::Comm;
    set_chunk(op, chunk, count);
    op.communication = Communication{Collective::AllToAll, Group::Expert, buffer};
    ids.push_back(emit(std::move(op), after[static_cast<std::size_t>(chunk)]));
  }
  return ids;
}

/// One operator for each chunk; chunk i waits for after[i]. Weight gradients may be put off: none are returned.
PlanBuilder::Ids PlanBuilder::experts(Phase phase, LayerId layer, const Ids& after) {
  const auto count = static_cast<std::int64_t>(after.size());
  const bool split = shortcut() || zero_bubble();
  Ids ids;
  for (std::int64_t chunk = 0; chunk < count; ++chunk) {
    Operator op = routing_operator(OpKind::Expert, phase, layer,
                                   work_.expert(phase, moe(layer), work_.share(moe(layer), chunk, count), split));
    set_chunk(op, chunk, count);
    const OpId ready = after[static_cast<std::size_t>(chunk)];
    if (phase == Phase::WeightGradient) {
      weight_gradient(std::move(op), ready);
    } else {
      ids.push_back(compute(std::move(op), {ready}));
    }
  }
  return ids;
}

/// Everything from Gate to Decode, the window included.
void PlanBuilder::forward_moe(const MoeSite& site, Phase phase) {
  const LayerId layer = site.layer;
  const OpId source = made_[site.source];
  std::size_t next = site.source + 1;
  const auto window_until = [&](std::size_t end) {
    while (next < end) emit_forward(next++, phase);
  };
  if (!shortcut()) window_until(site.decode);

  const OpId gate =
      compute(routing_operator(OpKind::Gate, phase, layer, work_.gate(phase, moe(layer), false)), {source});
  const OpId encode = compute(routing_operator(OpKind::Encode, phase, layer, work_.encode(phase, moe(layer))), {gate});
  Ids ready = {encode};
  if (!moe(layer).capacity_factor && phase == Phase::Forward) {  // computed again, the counts are known
    const Bytes counts(moe(layer).expert_count * 4);
    ready.push_back(communicate(OpKind::Counts, phase, layer, {Collective::AllToAll, Group::Expert, counts}, {gate}));
  }
  const std::vector<Ids> chunks(static_cast<std::size_t>(request_.schedule.chunk_count), ready);
  const Ids dispatched = exchange(OpKind::Dispatch, phase, layer, chunks);
  if (shortcut()) window_until(site.source + static_cast<std::size_t>(slots_.forward));
  const Ids computed = experts(phase, layer, dispatched);
  Ids combined = exchange(OpKind::Combine, phase, layer, each_alone(computed));
  window_until(site.decode);
  emit_forward(site.decode, phase, std::move(combined));
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
  if (shortcut() || zero_bubble()) (void)experts(Phase::WeightGradient, layer, computed);
  window_until(site.source + 1);
  const OpId encode =
      compute(routing_operator(OpKind::Encode, Phase::Backward, layer, work_.encode(Phase::Backward, moe(layer))),
              std::move(dispatched));
  Operator gate =
      routing_operator(OpKind::Gate, Phase::Backward, layer, work_.gate(Phase::Backward, moe(layer), zero_bubble()));
  stream_ = compute(gate, {encode, *stream_});
  if (zero_bubble()) {
    gate.phase = Phase::WeightGradient;
    gate.work = work_.gate(Phase::WeightGradient, moe(layer), true);
    weight_gradient(std::move(gate), *stream_);
  }
  close(layer);
}

}  // namespace moecast
