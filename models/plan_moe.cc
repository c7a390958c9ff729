#include <functional>
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
PlanBuilder::Ids PlanBuilder::experts(Phase phase, LayerId layer, const Ids& after, std::optional<OpId> fetched) {
  const auto count = static_cast<std::int64_t>(after.size());
  const bool split = splits_expert_weights(request_);
  Ids ids;
  for (std::int64_t chunk = 0; chunk < count; ++chunk) {
    Operator op = routing_operator(OpKind::Expert, phase, layer,
                                   work_.expert(phase, moe(layer), work_.share(moe(layer), chunk, count), split));
    set_chunk(op, chunk, count);
    const OpId ready = after[static_cast<std::size_t>(chunk)];
    if (phase == Phase::WeightGradient) {
      weight_gradient(std::move(op), ready);
    } else {
      Ids dependencies = {ready};
      if (fetched) dependencies.push_back(*fetched);
      ids.push_back(compute(std::move(op), std::move(dependencies)));
    }
  }
  return ids;
}

/// Gate to Dispatch of one routing; `after` has the tensor that is routed.
PlanBuilder::Routed PlanBuilder::dispatch_from(LayerId layer, Phase phase, Ids after) {
  const OpId gate =
      compute(routing_operator(OpKind::Gate, phase, layer, work_.gate(phase, moe(layer), false)), std::move(after));
  const std::optional<OpId> fetched =
      request_.experts_on_host ? std::optional(fetch_experts(layer, gate)) : std::nullopt;
  const OpId encode = compute(routing_operator(OpKind::Encode, phase, layer, work_.encode(phase, moe(layer))), {gate});
  Ids ready = {encode};
  if (!moe(layer).capacity_factor && phase == Phase::Forward) {  // computed again, the counts are known
    const Bytes counts(moe(layer).expert_count * 4);
    ready.push_back(communicate(OpKind::Counts, phase, layer, {Collective::AllToAll, Group::Expert, counts}, {gate}));
  }
  const std::vector<Ids> chunks(static_cast<std::size_t>(request_.schedule.chunk_count), ready);
  return {gate, exchange(OpKind::Dispatch, phase, layer, chunks), fetched};
}

/// The weights of the experts that a Gate chose, from the host: as early as can be.
OpId PlanBuilder::fetch_experts(LayerId layer, OpId gate) {
  Operator op = routing_operator(OpKind::ExpertFetch, Phase::Forward, layer, {});
  op.lane = Lane::CopyIn;
  op.host_bytes = work_.chosen_expert_weights(moe(layer));
  return emit(std::move(op), {gate});
}

PlanBuilder::Ids PlanBuilder::combine_from(LayerId layer, Phase phase, const Routed& routed) {
  return exchange(OpKind::Combine, phase, layer, each_alone(experts(phase, layer, routed.dispatched, routed.fetched)));
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

  const Routed first = dispatch_from(layer, phase, {source});
  if (shortcut()) window_until(site.source + static_cast<std::size_t>(slots_.forward));
  std::optional<Routed> second;
  const auto dispatch_second = [&] {  // once, as soon as the window is through
    if (!moe(layer).double_gate || second || next < site.decode) return;
    second_routing_ = true;
    second = dispatch_from(layer, phase, {made_[site.decode - 1], first.gate});
    second_routing_ = false;
  };
  dispatch_second();
  Ids combined = combine_from(layer, phase, first);
  window_until(site.decode);
  dispatch_second();
  second_routing_ = second.has_value();
  const Ids more = second ? combine_from(layer, phase, *second) : Ids();
  second_routing_ = false;
  combined.insert(combined.end(), more.begin(), more.end());
  emit_forward(site.decode, phase, std::move(combined));
}

/// One routing's experts to its Gate; `meanwhile` emits what may run while the gradient travels back.
void PlanBuilder::route_back(LayerId layer, const Ids& combined, const std::function<void()>& meanwhile) {
  const Ids computed = experts(Phase::Backward, layer, combined);
  Ids dispatched = exchange(OpKind::Dispatch, Phase::Backward, layer, each_alone(computed));
  if (splits_expert_weights(request_)) (void)experts(Phase::WeightGradient, layer, computed);
  meanwhile();
  const OpId encode =
      compute(routing_operator(OpKind::Encode, Phase::Backward, layer, work_.encode(Phase::Backward, moe(layer))),
              std::move(dispatched));
  Operator gate =
      routing_operator(OpKind::Gate, Phase::Backward, layer, work_.gate(Phase::Backward, moe(layer), zero_bubble()));
  stream_ = compute(gate, {encode, *stream_});
  if (!zero_bubble()) return;
  gate.phase = Phase::WeightGradient;
  gate.work = work_.gate(Phase::WeightGradient, moe(layer), true);
  weight_gradient(std::move(gate), *stream_);
}

/// Everything from Decode back to Gate, the window included: then the gradient of the residual stream is complete at S.
void PlanBuilder::backward_moe(const MoeSite& site) {
  const LayerId layer = site.layer;
  emit_backward(site.decode);
  const std::vector<Ids> chunks(static_cast<std::size_t>(request_.schedule.chunk_count), Ids{*stream_});
  std::size_t left = site.decode;  // window items from left - 1 down to source + 1 are still to come
  const auto window_until = [&](std::size_t end) {
    while (left > end) emit_backward(--left);
  };
  const auto combine = [&] { return exchange(OpKind::Combine, Phase::Backward, layer, chunks); };
  second_routing_ = moe(layer).double_gate;
  const Ids second = second_routing_ ? combine() : Ids();
  second_routing_ = false;
  Ids first = shortcut() ? combine() : Ids();
  if (!second.empty()) {
    second_routing_ = true;
    route_back(layer, second, [] {});
    second_routing_ = false;
  }
  window_until(shortcut() ? site.decode + 1 - static_cast<std::size_t>(slots_.backward) : site.source + 1);
  if (!shortcut()) first = combine();
  route_back(layer, first, [&] { window_until(site.source + 1); });
  close(layer);
}

}  // namespace moecast
