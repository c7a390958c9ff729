#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/tensor_data.h"

namespace moecast::cuda {
namespace {

/// The trainer refuses by name what these kernels do not have (runtime/trainer/trainable.h).
GateArguments arguments_of(const GateRule& rule, const GateInput& input, const Tensor& scores) {
  ASSERT(rule.router == RouterKind::SoftmaxTopK || rule.router == RouterKind::TopKSoftmax, "router {}",
         static_cast<int>(rule.router));
  ASSERT(rule.groups == 1 && rule.scale == 1 && !rule.selection_bias && input.zero_expert_count == 0 &&
             input.taken.empty(),
         "a gate of groups, scale, bias, zero experts or taken experts");
  GateArguments gate;
  gate.top_k_softmax = rule.router == RouterKind::TopKSoftmax;
  gate.renormalize = !gate.top_k_softmax && rule.renormalize && rule.top_k > 1;
  gate.tokens = scores.rows();
  gate.experts = static_cast<int>(scores.columns());
  gate.top_k = static_cast<int>(rule.top_k);
  ASSERT(1 <= gate.top_k && gate.top_k <= gate.experts, "{} of {} experts", gate.top_k, gate.experts);
  return gate;
}

/// Choices of every token: row is [tokens, choices].
int choices_of(const Tensor& row, Index tokens) {
  ASSERT(row.dims == 2 && row.shape[0] == tokens, "row must be [{},k]", tokens);
  return static_cast<int>(row.shape[1]);
}

}  // namespace

void CudaBackend::gate(Lane lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
                       const GateTensors& out) {
  ASSERT(out.losses.empty(), "the CUDA gate has the balance loss alone");
  const GateArguments gate = arguments_of(rule, input, out.scores);
  const Index choices = gate.tokens * gate.top_k;
  const float* x = floats(input.logits, gate.tokens * gate.experts);
  float* scores = floats(out.scores, gate.tokens * gate.experts);
  std::int32_t* expert = integers(out.expert, choices);
  std::int32_t* row = integers(out.row, choices);
  std::int32_t* count = integers(out.count, gate.experts);
  const SlotKeys keys{expert, gate.tokens, gate.top_k, gate.experts, 0, -1};
  LaneState& state = select(lane);
  const Index slot_ints = slots_scratch(keys);
  std::int32_t* first_count = scratch<std::int32_t>(state, gate.experts + slot_ints + gate_balance_scratch(gate));
  if (first_count == nullptr) return;
  std::int32_t* slots = first_count + gate.experts;
  float* balance = reinterpret_cast<float*>(slots + slot_ints);
  note(launch_gate_choose(state.stream, gate, x, scores, expert, floats(out.weight, choices)), "gate");
  note(launch_slots(state.stream, keys, capacity.value_or(-1), slots, row, count, first_count), "gate");
  note(launch_gate_balance(state.stream, gate, scores, first_count, balance, floats(out.balance_loss, 1)), "gate");
}

void CudaBackend::gate_backward(Lane lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                                const GateLossScales& scales, const GateGradients& gradients) {
  ASSERT(!scales.others.any(), "the CUDA gate has the balance loss alone");
  const GateArguments gate = arguments_of(rule, input, saved.scores);
  const Index choices = gate.tokens * gate.top_k;
  const std::int32_t* expert = integers(saved.expert, choices);
  LaneState& state = select(lane);
  std::int32_t* first_count = scratch<std::int32_t>(state, gate.experts);
  if (first_count == nullptr) return;
  note(launch_first_choices(state.stream, gate, expert, first_count), "gate_backward");
  note(launch_gate_backward(state.stream, gate, floats(saved.scores, gate.tokens * gate.experts), expert,
                            floats(saved.weight, choices), floats(gradients.dweight, choices), first_count,
                            static_cast<float>(scales.balance), floats(gradients.dlogits, gate.tokens * gate.experts)),
       "gate_backward");
}

void CudaBackend::permute(Lane lane, Tensor x, Tensor row, Tensor out) {
  const Index tokens = x.rows();
  const Index columns = x.columns();
  const int choices = choices_of(row, tokens);
  LaneState& state = select(lane);
  std::int32_t* used = scratch<std::int32_t>(state, out.rows());
  if (used == nullptr) return;
  note(launch_permute(state.stream, real(x), x.data, integers(row, tokens * choices),
                      data_like(out, x, out.rows() * columns), used, tokens, choices, out.rows(), columns),
       "permute");
}

void CudaBackend::permute_backward(Lane lane, Tensor dout, Tensor row, Tensor dx, bool accumulate) {
  const Index tokens = dx.rows();
  const Index columns = dx.columns();
  const int choices = choices_of(row, tokens);
  note(launch_permute_backward(select(lane).stream, real(dx), data_like(dout, dx, dout.rows() * columns),
                               integers(row, tokens * choices), dx.data, accumulate, tokens, choices, columns),
       "permute_backward");
}

void CudaBackend::unpermute(Lane lane, Tensor rows, Tensor row, Tensor weight, Tensor out, bool accumulate) {
  const Index tokens = out.rows();
  const Index columns = out.columns();
  const int choices = choices_of(row, tokens);
  note(launch_unpermute(select(lane).stream, real(out), data_like(rows, out, rows.rows() * columns),
                        integers(row, tokens * choices), floats(weight, tokens * choices), out.data, accumulate, tokens,
                        choices, columns),
       "unpermute");
}

void CudaBackend::unpermute_backward(Lane lane, Tensor dout, Tensor rows, Tensor row, Tensor weight, Tensor drows,
                                     Tensor dweight) {
  const Index tokens = dout.rows();
  const Index columns = dout.columns();
  const int choices = choices_of(row, tokens);
  LaneState& state = select(lane);
  std::int32_t* used = scratch<std::int32_t>(state, rows.rows());
  if (used == nullptr) return;
  note(launch_unpermute_backward(state.stream, real(dout), dout.data, data_like(rows, dout, rows.rows() * columns),
                                 integers(row, tokens * choices), floats(weight, tokens * choices),
                                 data_like(drows, dout, rows.rows() * columns), floats(dweight, tokens * choices), used,
                                 tokens, choices, rows.rows(), columns),
       "unpermute_backward");
}

}  // namespace moecast::cuda
