#include "runtime/trainer/layers.h"

namespace moecast {
namespace {

constexpr Lane kLane = Lane::Compute;

/// The first elements of a temporary that layers of several sizes share.
Tensor part(const Tensor& temporary, std::int64_t rows, std::int64_t columns) {
  return Tensor(temporary.data, temporary.dtype, {rows, columns});
}

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

ExpertRows expert_rows(const StepContext& context, std::size_t block, std::size_t chunk) {
  return {context.exchanges[block].chunks[chunk]};
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
  GateTensors tensors;
  tensors.scores = state.scores;
  tensors.expert = state.expert;
  tensors.weight = state.weight;
  tensors.row = state.row;
  tensors.count = state.count.slice(micro_batch, micro_batch + 1).reshaped({state.count.shape[1]});
  tensors.balance_loss = state.balance_loss.slice(micro_batch, micro_batch + 1);
  return tensors;
}

const Tensor& shortcut_tensor(const StepContext& context, std::size_t block) {
  const std::vector<BlockState>& blocks = context.states.blocks;
  switch (context.moe(block).shortcut) {
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

void gate_forward(StepContext& context, std::size_t block, std::int64_t micro_batch) {
  const RoutedView& view = context.parameters.blocks[block].routed;
  const RoutedState& state = context.states.blocks[block].routed;
  const MoeFfn& moe = context.moe(block);
  norm_forward(context, view.norm, shortcut_tensor(context, block), state.norm);
  context.backend.gemm(kLane, false, false, state.norm.y, view.gate.w, state.logits, false);
  context.backend.gate(kLane, moe.gate, moe.capacity(context.tokens()), state.logits, gate_tensors(state, micro_batch));
}

void gate_backward(StepContext& context, std::size_t block, std::int64_t micro_batch) {
  const RoutedView& view = context.parameters.blocks[block].routed;
  const RoutedState& state = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  const MoeFfn& moe = context.moe(block);
  const Tensor dweight = part(temporary.dweight, context.tokens(), moe.gate.top_k);
  Tensor dlogits = part(temporary.gate_dlogits, context.tokens(), moe.expert_count);
  context.backend.gate_backward(kLane, moe.gate, gate_tensors(state, micro_batch), dweight, context.balance_scale(moe),
                                dlogits);
  if (dlogits.dtype != context.compute) {
    const Tensor narrow = part(temporary.compute_dlogits, context.tokens(), moe.expert_count);
    context.backend.cast(kLane, narrow, dlogits);
    dlogits = narrow;
  }
  context.backend.gemm(kLane, false, true, dlogits, view.gate.w, temporary.drouted, true);
  context.backend.gemm(kLane, true, false, state.norm.y, dlogits, view.gate.dw, true);
  norm_backward(context, view.norm, temporary.drouted, shortcut_tensor(context, block), state.norm, temporary.g, true);
}

void encode_forward(StepContext& context, std::size_t block) {
  const RoutedState& state = context.states.blocks[block].routed;
  context.backend.permute(kLane, state.norm.y, state.row, send_part(context.states.temporary.send, state));
}

void encode_backward(StepContext& context, std::size_t block) {
  const RoutedState& state = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  context.backend.permute_backward(kLane, send_part(temporary.dsend, state), state.row, temporary.drouted, false);
}

void decode_forward(StepContext& context, std::size_t block) {
  const BlockState& state = context.states.blocks[block];
  const Tensor& y = block_output(context, block);
  context.backend.copy(kLane, y, state.h);
  if (!state.routed.shared.empty()) {
    context.backend.add_scaled_rows(kLane, y, state.routed.shared, state.routed.coefficient);
  }
  context.backend.unpermute(kLane, state.routed.rows, state.routed.row, state.routed.weight, y, true);
}

void decode_backward(StepContext& context, std::size_t block) {
  const RoutedState& state = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  if (!state.coefficient.empty()) {
    context.backend.scaled_rows_backward(kLane, temporary.g, state.shared, state.coefficient, temporary.dshared,
                                         temporary.dcoefficient);
  }
  const Tensor dweight = part(temporary.dweight, context.tokens(), context.moe(block).gate.top_k);
  context.backend.unpermute_backward(kLane, temporary.g, state.rows, state.row, state.weight,
                                     send_part(temporary.drows, state), dweight);
}

void expert_forward(StepContext& context, std::size_t block, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[block].routed;
  const RoutedState& state = context.states.blocks[block].routed;
  const ExpertRows rows = expert_rows(context, block, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  grouped_linear(context, view.in, rows.of(state.received), offsets, rows.of(state.pre));
  context.backend.activation(kLane, context.model.activation, rows.of(state.pre), rows.of(state.active));
  grouped_linear(context, view.out, rows.of(state.active), offsets, rows.of(context.states.temporary.expert_out));
}

void expert_backward(StepContext& context, std::size_t block, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[block].routed;
  const RoutedState& state = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  const ExpertRows rows = expert_rows(context, block, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  const Tensor dactive = rows.of(temporary.expert_dactive, state.active.shape[1]);
  const Tensor dpre = rows.of(temporary.expert_dpre, state.pre.shape[1]);
  context.backend.grouped_gemm(kLane, rows.of(temporary.dexpert_out), view.out.w, true, offsets, dactive);
  context.backend.activation_backward(kLane, context.model.activation, rows.of(state.pre), dactive, dpre);
  context.backend.grouped_gemm(kLane, dpre, view.in.w, true, offsets, rows.of(temporary.dreceived));
  if (!context.split_expert_backward) expert_weight_gradient(context, block, chunk);
}

void expert_weight_gradient(StepContext& context, std::size_t block, std::size_t chunk) {
  const RoutedView& view = context.parameters.blocks[block].routed;
  const RoutedState& state = context.states.blocks[block].routed;
  const Temporaries& temporary = context.states.temporary;
  const ExpertRows rows = expert_rows(context, block, chunk);
  const std::vector<std::int64_t>& offsets = rows.chunk.offsets;
  const Tensor dpre = rows.of(temporary.expert_dpre, state.pre.shape[1]);
  grouped_weight_gradient(context, view.out, rows.of(state.active), offsets, rows.of(temporary.dexpert_out));
  grouped_weight_gradient(context, view.in, rows.of(state.received), offsets, dpre);
}

}  // namespace moecast
