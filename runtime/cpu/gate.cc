#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/gate_call.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

template <typename T>
GateCall<T> gate_call(const GateRule& rule, const GateInput& input, const GateTensors& tensors) {
  ASSERT(rule.router != RouterKind::SparseMixer, "the trainer refuses sparse_mixer");
  GateCall<T> call;
  call.rule = rule;
  call.draws = input.draws;
  call.tokens = tensors.scores.rows();
  call.experts = tensors.scores.columns();
  call.computing = call.experts - input.zero_expert_count;
  call.choices = rule.choices(call.experts);
  ASSERT(1 <= rule.top_k && rule.top_k <= call.experts, "{} of {} experts", rule.top_k, call.experts);
  const std::int64_t cells = call.tokens * call.experts, chosen = call.tokens * call.choices;
  if (rule.has_weights()) call.logits = elements<T>(input.logits, cells);
  if (call.noisy()) call.noise_logits = elements<T>(input.noise_logits, cells);
  if (rule.selection_bias) call.bias = elements<T>(input.bias, call.experts);
  if (rule.router == RouterKind::Hash) call.ids = elements<std::int32_t>(input.ids, call.tokens);
  call.taken = optional_elements<std::int32_t>(input.taken, call.tokens * rule.top_k);
  call.scores = elements<T>(tensors.scores, cells);
  call.expert = elements<std::int32_t>(tensors.expert, chosen);
  call.weight = elements<T>(tensors.weight, chosen);
  call.row = elements<std::int32_t>(tensors.row, chosen);
  call.count = elements<std::int32_t>(tensors.count, call.experts);
  call.balance_loss = elements<T>(tensors.balance_loss, 1);
  call.losses = optional_elements<T>(tensors.losses, 3);
  if (input.zero_expert_count > 0) call.zero_weight = elements<T>(tensors.zero_weight, call.tokens);
  return call;
}

}  // namespace

void CpuBackend::gate(Lane, const GateRule& rule, std::optional<std::int64_t> capacity, const GateInput& input,
                      const GateTensors& out) {
  with_scalar(out.scores.dtype, [&]<typename T>(const Kernels<T>&) {
    const GateCall<T> call = gate_call<T>(rule, input, out);
    choose_experts(call, capacity);
    add_up_losses(call);
  });
}

void CpuBackend::gate_backward(Lane, const GateRule& rule, const GateInput& input, const GateTensors& saved,
                               const GateLossScales& scales, const GateGradients& gradients) {
  ASSERT(rule.has_weights(), "a router without weights has no gradient");
  with_scalar(saved.scores.dtype, [&]<typename T>(const Kernels<T>&) {
    const GateCall<T> call = gate_call<T>(rule, input, saved);
    const std::int64_t cells = call.tokens * call.experts;
    GateBackwardCall<T> out;
    out.dweight = elements<T>(gradients.dweight, call.tokens * call.choices);
    out.dzero = optional_elements<T>(gradients.dzero, call.tokens);
    out.dlogits = elements<T>(gradients.dlogits, cells);
    if (call.noisy()) out.dnoise = elements<T>(gradients.dnoise, cells);
    if (rule.selection_bias) out.load = elements<T>(gradients.load, call.experts);
    run_gate_backward(call, scales, out);
  });
}

}  // namespace moecast::cpu
