#include "base/random.h"
#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

Tensor send_part(const Tensor& temporary, const RoutedState& state) {
  return part(temporary, state.rows.shape[0], state.rows.shape[1]);
}

/// The rows of one chunk and how they are grouped by local expert.
struct ExpertRows {
  const ChunkExchange& chunk;
  [[nodiscard]] Tensor of(const Tensor& buffer) const {
    return buffer.slice(chunk.first_row, chunk.first_row + chunk.row_count);
  }
  [[nodiscard]] Tensor of(const Tensor& temporary, std::int64_t columns) const {
    return of(part(temporary, chunk.first_row + chunk.row_count, columns));
  }
};

ExpertRows expert_rows(const StepContext& context, Routing routing, std::size_t chunk) {
  return {exchange_of(context, routing).chunks[chunk]};
}

Tensor dweight_of(StepContext& context, Routing routing) {
  return part(routed_temporaries(context, routing).dweight, context.tokens(), context.moe(routing.block).choices());
}

/// Draws differ from step to step and layer to layer; a hash table does not change.
GateDraws draws_of(const StepContext& context, Routing routing, std::int64_t micro_batch) {
  const bool table = context.moe(routing.block).gate.router == RouterKind::Hash;
  const CounterRandom random(context.seed, stream_of("routers"));
  GateDraws draws;
  draws.seed = random.bits(table ? 0 : static_cast<std::uint64_t>(context.step) + 1, routing.block);
  draws.stream = routing.index();
  if (table) return draws;
  const std::int64_t before = context.layout.position(Group::Data, context.rank) * context.batch.micro_batch_count;
  draws.first_token = static_cast<std::uint64_t>((before + micro_batch) * context.tokens());
  draws.explores = !context.validates;
  return draws;
}

GateInput gate_input(const StepContext& context, Routing routing, std::int64_t micro_batch) {
  const RoutedState& state = routed_state(context, routing);
  const MoeFfn& moe = context.moe(routing.block);
  GateInput input;
  input.logits = state.logits;
  input.noise_logits = state.noise_logits;
  input.bias = context.parameters.blocks[routing.block].routed.selection_bias;
  input.ids = context.states.ids.slice(micro_batch, micro_batch + 1).reshaped({context.tokens()});
  if (routing.second) input.taken = routed_state(context, {routing.block, false}).expert;
  input.zero_expert_count = moe.zero_expert_count;
  input.draws = draws_of(context, routing, micro_batch);
  return input;
}

/// dx += dlogits w^T; the weight's gradient grows.
void router_backward(StepContext& context, const LinearView& linear, const Tensor& x, Tensor dlogits,
                     const Tensor& dx) {
  if (dlogits.dtype != context.compute) {
    const Tensor narrow = part(context.states.temporary.compute_dlogits, dlogits.rows(), dlogits.columns());
    context.backend.cast(kLane, narrow, dlogits);
    dlogits = narrow;
  }
  context.backend.gemm(kLane, false, true, dlogits, linear.w, dx, true);
  context.backend.gemm(kLane, true, false, x, dlogits, linear.dw, true);
}

/// One row of a coefficient gate's values, or of their gradients: [T].
Tensor coefficient_row(const Tensor& coefficients, std::int64_t index, std::int64_t tokens) {
  return part(coefficients, coefficients.element_count() / tokens, tokens).slice(index, index + 1).reshaped({tokens});
}

void grouped_linear(StepContext& context, const LinearView& linear, const Tensor& x,
                    const std::vector<std::int64_t>& offsets, const Tensor& y) {
  context.backend.grouped_gemm(kLane, x, linear.w, false, offsets, y);
  if (!linear.b.empty()) context.backend.bias_add(kLane, y, linear.b, offsets);
}

void grouped_weight_gradient(StepContext& context, const LinearView& linear, const Tensor& x,
                             const std::vector<std::int64_t>& offsets, const Tensor& dy) {
  context.backend.grouped_gemm_weight(kLane, x, dy, offsets, linear.dw);
  if (!linear.b.empty()) context.backend.bias_gradient(kLane, dy, offsets, linear.db);
}

}  // namespace

GateTensors gate_tensors(const RoutedState& state, std::int64_t micro_batch) {
  const auto of = [&](const Tensor& all) { return all.slice(micro_batch, micro_batch + 1); };
  GateTensors tensors;
  tensors.scores = state.scores;
  tensors.expert = state.expert;
  tensors.weight = state.weight;
  tensors.row = state.row;
  tensors.count = of(state.count).reshaped({state.count.shape[1]});
  tensors.balance_loss = of(state.balance_loss);
  if (!state.losses.empty()) tensors.losses = of(state.losses).reshaped({3});
  tensors.zero_weight = state.zero_weight;
  return tensors;
}

const ExchangePlan& exchange_of(const StepContext& context, Routing routing) {
  return context.exchanges[routing.block][routing.index()];
}

RoutedTemporaries& routed_temporaries(StepContext& context, Routing routing) {
  return context.states.temporary.routed[routing.index()];
}

const RoutedState& routed_state(const StepContext& context, Routing routing) {
  const BlockState& state = context.states.blocks[routing.block];
  return routing.second ? state.second : state.routed;
}

const Tensor& routed_tensor(const StepContext& context, Routing routing) {
  const std::vector<BlockState>& blocks = context.states.blocks;
  const std::size_t block = routing.block;
  switch (routing.second ? Shortcut::None : context.moe(block).shortcut) {
    case Shortcut::None:
      return blocks[block].h;
    case Shortcut::Pos1:
      return blocks[block].x;
    case Shortcut::Pos2:
      return blocks[block - 1].h;
    case Shortcut::Pos3:
      return blocks[block - 1].x;
  }
  ASSERT(false, "no such shortcut");
}

const Tensor& block_output(const StepContext& context, std::size_t block) {
  const std::vector<BlockState>& blocks = context.states.blocks;
  return block + 1 < blocks.size() ? blocks[block + 1].x : context.states.x_last;
}

void gate_forward(StepContext& context, Routing routing, std::int64_t micro_batch) {
  const RoutedView& view = context.parameters.blocks[routing.block].routed;
  const RoutedState& state = routed_state(context, routing);
  const MoeFfn& moe = context.moe(routing.block);
  norm_forward(context, view.norm, routed_tensor(context, routing), state.norm);
  if (!view.gate.w.empty()) context.backend.gemm(kLane, false, false, state.norm.y, view.gate.w, state.logits, false);
  if (!view.noise.w.empty()) {
    context.backend.gemm(kLane, false, false, state.norm.y, view.noise.w, state.noise_logits, false);
  }
  context.backend.gate(kLane, moe.gate, moe.capacity(context.tokens()), gate_input(context, routing, micro_batch),
                       gate_tensors(state, micro_batch));
}

void gate_backward(StepContext& context, Routing routing, std::int64_t micro_batch) {
  const RoutedView& view = context.parameters.blocks[routing.block].routed;
  const RoutedState& state = routed_state(context, routing);
  const Temporaries& temporary = context.states.temporary;
  const Tensor& drouted = routed_temporaries(context, routing).drouted;
  const MoeFfn& moe = context.moe(routing.block);
  if (moe.gate.has_weights()) {
    const double share = context.gate_loss_share(moe);
    const RouterLosses& others = moe.loss_coefficients;
    const GateLossScales scales{share * moe.balance_loss_coefficient,
                                {share * others.importance, share * others.load, share * others.z}};
    GateGradients gradients;
    gradients.dweight = dweight_of(context, routing);
    if (moe.zero_expert_count > 0) gradients.dzero = temporary.dzero;
    gradients.dlogits = part(temporary.gate_dlogits, context.tokens(), moe.choice_count());
    if (!view.noise.w.empty()) gradients.dnoise = part(temporary.gate_dnoise, context.tokens(), moe.choice_count());
    gradients.load = view.load;
    context.backend.gate_backward(kLane, moe.gate, gate_input(context, routing, micro_batch),
                                  gate_tensors(state, micro_batch), scales, gradients);
    router_backward(context, view.gate, state.norm.y, gradients.dlogits, drouted);
    if (!view.noise.w.empty()) router_backward(context, view.noise, state.norm.y, gradients.dnoise, drouted);
  }
  norm_backward(context, view.norm, drouted, routed_tensor(context, routing), state.norm, temporary.g, true);
}

void encode_forward(StepContext& context, Routing routing) {
  const RoutedState& state = routed_state(context, routing);
  context.backend.permute(kLane, state.norm.y, state.row, send_part(routed_temporaries(context, routing).send, state));
}

/// With zero experts the gradient that goes through them is there already.
void encode_backward(StepContext& context, Routing routing) {
  const RoutedState& state = routed_state(context, routing);
  const RoutedTemporaries& temporary = routed_temporaries(context, routing);
  context.backend.permute_backward(kLane, send_part(temporary.dsend, state), state.row, temporary.drouted,
                                   context.moe(routing.block).zero_expert_count > 0);
}

void decode_forward(StepContext& context, std::size_t block) {
  const BlockState& state = context.states.blocks[block];
  const RoutedState& routed = state.routed;
  const MoeFfn& moe = context.moe(block);
  const std::int64_t tokens = context.tokens();
  const Tensor& y = block_output(context, block);
  context.backend.copy(kLane, y, state.h);
  if (!routed.shared.empty()) {
    const Tensor c = routed.coefficient.empty() ? Tensor() : coefficient_row(routed.coefficient, 0, tokens);
    context.backend.add_scaled_rows(kLane, y, routed.shared, c);
  }
  const bool weighs_sum = !routed.mixed.empty();
  const Tensor& sum = weighs_sum ? routed.mixed : y;
  context.backend.unpermute(kLane, routed.rows, routed.row, routed.weight, sum, !weighs_sum);
  if (moe.double_gate) {
    context.backend.unpermute(kLane, state.second.rows, state.second.row, state.second.weight, sum, true);
  }
  if (moe.zero_expert_count > 0) context.backend.add_scaled_rows(kLane, sum, routed.norm.y, routed.zero_weight);
  if (weighs_sum) context.backend.add_scaled_rows(kLane, y, sum, coefficient_row(routed.coefficient, 1, tokens));
}

void decode_backward(StepContext& context, std::size_t block) {
  const RoutedState& routed = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  const MoeFfn& moe = context.moe(block);
  const std::int64_t tokens = context.tokens();
  const auto scaled = [&](std::int64_t row, const Tensor& x, const Tensor& dx) {
    const Tensor dc = part(temporary.dcoefficient, coefficient_count(moe.coefficient_gate), tokens);
    context.backend.scaled_rows_backward(kLane, temporary.g, x, coefficient_row(routed.coefficient, row, tokens), dx,
                                         coefficient_row(dc, row, tokens));
  };
  if (!routed.coefficient.empty()) scaled(0, routed.shared, temporary.dshared);
  if (!routed.mixed.empty()) scaled(1, routed.mixed, temporary.dmixed);
  const Tensor& dsum = routed.mixed.empty() ? temporary.g : temporary.dmixed;
  if (moe.zero_expert_count > 0) {
    context.backend.scaled_rows_backward(kLane, dsum, routed.norm.y, routed.zero_weight,
                                         routed_temporaries(context, {block, false}).drouted, temporary.dzero);
  }
  for (const bool second : {false, true}) {
    if (second && !moe.double_gate) continue;
    const Routing routing{block, second};
    const RoutedState& state = routed_state(context, routing);
    context.backend.unpermute_backward(kLane, dsum, state.rows, state.row, state.weight,
                                       send_part(routed_temporaries(context, routing).drows, state),
                                       dweight_of(context, routing));
  }
}

void expert_forward(StepContext& context, Routing routing, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[routing.block].routed;
  const RoutedState& state = routed_state(context, routing);
  const ExpertRows rows = expert_rows(context, routing, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  grouped_linear(context, view.in, rows.of(state.received), offsets, rows.of(state.pre));
  context.backend.activation(kLane, context.model.activation, rows.of(state.pre), rows.of(state.active));
  grouped_linear(context, view.out, rows.of(state.active), offsets,
                 rows.of(routed_temporaries(context, routing).expert_out));
}

void expert_backward(StepContext& context, Routing routing, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[routing.block].routed;
  const RoutedState& state = routed_state(context, routing);
  const RoutedTemporaries& temporary = routed_temporaries(context, routing);
  const ExpertRows rows = expert_rows(context, routing, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  const Tensor dactive = rows.of(context.states.temporary.expert_dactive, state.active.shape[1]);
  const Tensor dpre = rows.of(temporary.expert_dpre, state.pre.shape[1]);
  context.backend.grouped_gemm(kLane, rows.of(temporary.dexpert_out), view.out.w, true, offsets, dactive);
  context.backend.activation_backward(kLane, context.model.activation, rows.of(state.pre), dactive, dpre);
  context.backend.grouped_gemm(kLane, dpre, view.in.w, true, offsets, rows.of(temporary.dreceived));
  if (!context.split_expert_backward) expert_weight_gradient(context, routing, chunk);
}

void expert_weight_gradient(StepContext& context, Routing routing, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[routing.block].routed;
  const RoutedState& state = routed_state(context, routing);
  const RoutedTemporaries& temporary = routed_temporaries(context, routing);
  const ExpertRows rows = expert_rows(context, routing, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  const Tensor dpre = rows.of(temporary.expert_dpre, state.pre.shape[1]);
  grouped_weight_gradient(context, view.out, rows.of(state.active), offsets, rows.of(temporary.dexpert_out));
  grouped_weight_gradient(context, view.in, rows.of(state.received), offsets, dpre);
}

}  // namespace moecast
