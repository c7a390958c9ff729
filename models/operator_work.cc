#include "models/operator_work.h"

#include <algorithm>
#include <cmath>

#include "models/state_inventory.h"

namespace moecast {

OperatorWork::OperatorWork(const StepPlanRequest& request)
    : model_(request.model),
      layout_(request.layout),
      batch_(request.batch),
      tokens_(request.batch.tokens()),
      element_(request.bytes_per_element),
      state_(std::max<std::int64_t>(4, request.bytes_per_element)) {
  // Experts are divided evenly, so every rank has as much as rank 0.
  for (const Parameter& parameter : parameters_of_rank(model_, layout_, Rank(0))) {
    Counts& counts = parameter.expert ? expert_ : non_expert_;
    (parameter.decay ? counts.decay : counts.no_decay) += parameter.element_count();
  }
}

/// A kernel over [rows, columns] that reads and writes `operands` tensors of that size in X.
Work OperatorWork::memory(MemoryKernel kernel, std::int64_t rows, std::int64_t columns, double operands) const {
  const double count = operands * static_cast<double>(rows * columns * element_);
  return MemoryWork{kernel, rows, columns, Bytes(std::llround(count))};
}

Work OperatorWork::flat(MemoryKernel kernel, std::int64_t elements, std::int64_t element_bytes) const {
  return MemoryWork{kernel, 1, elements, Bytes(elements * element_bytes)};
}

Work OperatorWork::norm_backward(bool accumulate) const {  // dy, x, dx
  return memory(MemoryKernel::NormBackward, tokens_, model_.d_model, accumulate ? 4 : 3);
}

AttentionWork OperatorWork::core(bool backward) const {
  const Attention& attention = model_.attention;
  return {batch_.micro_batch, batch_.sequence, attention.heads, attention.kv_heads, attention.head_dim, backward};
}

std::vector<Work> OperatorWork::embed(Phase phase) const {
  const std::int64_t d = model_.d_model;
  const bool positions = model_.position == PositionKind::Learned;
  const std::int64_t position_rows = positions ? batch_.sequence : 0;
  if (phase == Phase::Forward) {
    const std::int64_t moved = (2 * tokens_ + position_rows) * d * element_;
    return {MemoryWork{MemoryKernel::Embedding, tokens_, d, Bytes(moved)}};
  }
  const std::int64_t moved = tokens_ * d * element_ + 2 * (tokens_ + position_rows) * d * state_;
  return {MemoryWork{MemoryKernel::EmbeddingBackward, tokens_, d, Bytes(moved)}};
}

std::vector<Work> OperatorWork::attention(Phase phase) const {
  const std::int64_t T = tokens_, d = model_.d_model, qkv = model_.attention.qkv_width(),
                     out = model_.attention.query_width();
  const std::int64_t rotated = (model_.attention.heads + model_.attention.kv_heads) * model_.attention.head_dim;
  const bool rope = model_.position == PositionKind::Rope;
  std::vector<Work> work;
  if (phase == Phase::Forward) {
    work.push_back(memory(MemoryKernel::Norm, T, d, 2));
    work.push_back(GemmWork{T, qkv, d});
    if (model_.bias) work.push_back(memory(MemoryKernel::Bias, T, qkv, 2));
    if (rope) work.push_back(memory(MemoryKernel::Rope, T, rotated, 2));
    work.push_back(core(false));
    work.push_back(GemmWork{T, d, out});
    if (model_.bias) work.push_back(memory(MemoryKernel::Bias, T, d, 2));
    work.push_back(memory(MemoryKernel::Add, T, d, 3));
    return work;
  }
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, T, d, 1));
  work.push_back(GemmWork{T, out, d});
  work.push_back(GemmWork{out, d, T});
  work.push_back(core(true));
  if (rope) work.push_back(memory(MemoryKernel::RopeBackward, T, rotated, 2));
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, T, qkv, 1));
  work.push_back(GemmWork{T, d, qkv});
  work.push_back(GemmWork{d, qkv, T});
  work.push_back(norm_backward(true));
  return work;
}

void OperatorWork::add_ffn(std::vector<Work>& work, std::int64_t width) const {
  const std::int64_t T = tokens_, d = model_.d_model, inner = model_.ffn_input_columns(width);
  work.push_back(memory(MemoryKernel::Norm, T, d, 2));
  work.push_back(GemmWork{T, inner, d});
  if (model_.bias) work.push_back(memory(MemoryKernel::Bias, T, inner, 2));
  work.push_back(MemoryWork{MemoryKernel::Activation, T, width, Bytes((inner + width) * T * element_)});
  work.push_back(GemmWork{T, d, width});
  if (model_.bias) work.push_back(memory(MemoryKernel::Bias, T, d, 2));
}

void OperatorWork::add_ffn_backward(std::vector<Work>& work, std::int64_t width) const {
  const std::int64_t T = tokens_, d = model_.d_model, inner = model_.ffn_input_columns(width);
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, T, d, 1));
  work.push_back(GemmWork{T, width, d});
  work.push_back(GemmWork{width, d, T});
  work.push_back(MemoryWork{MemoryKernel::ActivationBackward, T, width, Bytes((2 * inner + width) * T * element_)});
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, T, inner, 1));
  work.push_back(GemmWork{T, d, inner});
  work.push_back(GemmWork{d, inner, T});
}

std::vector<Work> OperatorWork::mlp(Phase phase, std::int64_t width) const {
  std::vector<Work> work;
  if (phase == Phase::Forward) {
    add_ffn(work, width);
    work.push_back(memory(MemoryKernel::Add, tokens_, model_.d_model, 3));
    return work;
  }
  add_ffn_backward(work, width);
  work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::shared_expert(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = tokens_, d = model_.d_model;
  const bool gated = moe.coefficient_gate == CoefficientGate::Cg1;
  std::vector<Work> work;
  if (phase == Phase::Forward) {
    add_ffn(work, moe.shared_expert_width);
    if (gated) {
      work.push_back(GemmWork{T, 1, d});
      work.push_back(flat(MemoryKernel::Sigmoid, T, 2 * state_));
    }
    return work;
  }
  add_ffn_backward(work, moe.shared_expert_width);
  if (gated) {
    work.push_back(flat(MemoryKernel::SigmoidBackward, T, 3 * state_));
    work.push_back(GemmWork{T, d, 1});
    work.push_back(GemmWork{d, 1, T});
  }
  work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::gate(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = tokens_, d = model_.d_model, E = moe.expert_count, k = moe.gate.top_k;
  if (phase == Phase::Forward) {
    // logits and scores [T,E]; expert, weight and row [T,k]
    const Bytes moved((2 * T * E + 3 * T * k) * state_);
    return {memory(MemoryKernel::Norm, T, d, 2), GemmWork{T, E, d}, MemoryWork{MemoryKernel::Gate, T, E, moved}};
  }
  const Bytes moved((2 * T * E + 3 * T * k) * state_);  // scores, dlogits; expert, weight and its gradient
  std::vector<Work> work = {MemoryWork{MemoryKernel::GateBackward, T, E, moved}};
  if (element_ < state_) work.push_back(MemoryWork{MemoryKernel::Cast, T, E, Bytes(T * E * (state_ + element_))});
  work.push_back(GemmWork{T, d, E});
  work.push_back(GemmWork{d, E, T});
  work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::encode(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = tokens_, d = model_.d_model, rows = send_rows(moe), chosen = T * moe.gate.top_k;
  if (phase == Phase::Forward) {
    return {MemoryWork{MemoryKernel::Permute, rows, d, Bytes((chosen + rows) * d * element_)}};
  }
  return {MemoryWork{MemoryKernel::PermuteBackward, T, d, Bytes((chosen + T) * d * element_)}};
}

void OperatorWork::add_expert_weights(std::vector<Work>& work, const MoeFfn& moe, const ExpertShare& share) const {
  const std::int64_t d = model_.d_model, width = moe.expert_width, inner = model_.ffn_input_columns(width);
  const auto rows = static_cast<std::int64_t>(std::llround(share.rows));
  const std::int64_t all_rows = std::llround(share.rows * static_cast<double>(share.groups));
  work.push_back(GroupedGemmWork{share.groups, static_cast<double>(width), d, rows});
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, all_rows, d, 1));
  work.push_back(GroupedGemmWork{share.groups, static_cast<double>(d), inner, rows});
  if (model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, all_rows, inner, 1));
}

std::vector<Work> OperatorWork::expert(Phase phase, const MoeFfn& moe, const ExpertShare& share, bool split) const {
  const std::int64_t d = model_.d_model, width = moe.expert_width, inner = model_.ffn_input_columns(width);
  const std::int64_t rows = std::llround(share.rows * static_cast<double>(share.groups));
  std::vector<Work> work;
  switch (phase) {
    case Phase::Forward:
      work.push_back(GroupedGemmWork{share.groups, share.rows, inner, d});
      if (model_.bias) work.push_back(memory(MemoryKernel::Bias, rows, inner, 2));
      work.push_back(MemoryWork{MemoryKernel::Activation, rows, width, Bytes((inner + width) * rows * element_)});
      work.push_back(GroupedGemmWork{share.groups, share.rows, d, width});
      if (model_.bias) work.push_back(memory(MemoryKernel::Bias, rows, d, 2));
      break;
    case Phase::Backward:
      work.push_back(GroupedGemmWork{share.groups, share.rows, width, d});
      work.push_back(
          MemoryWork{MemoryKernel::ActivationBackward, rows, width, Bytes((2 * inner + width) * rows * element_)});
      work.push_back(GroupedGemmWork{share.groups, share.rows, d, inner});
      if (!split) add_expert_weights(work, moe, share);
      break;
    case Phase::WeightGradient:
      add_expert_weights(work, moe, share);
      break;
    case Phase::Recompute:
    case Phase::Update:
      break;
  }
  return work;
}

std::vector<Work> OperatorWork::decode(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = tokens_, d = model_.d_model, rows = send_rows(moe), chosen = T * moe.gate.top_k;
  const bool shared = moe.shared_expert_width > 0;
  std::vector<Work> work;
  if (phase == Phase::Forward) {
    work.push_back(memory(MemoryKernel::Copy, T, d, 2));
    if (shared) work.push_back(memory(MemoryKernel::ScaleRows, T, d, 3));
    work.push_back(MemoryWork{MemoryKernel::Unpermute, T, d, Bytes((chosen + 2 * T) * d * element_)});
    return work;
  }
  if (shared && moe.coefficient_gate == CoefficientGate::Cg1) {
    work.push_back(memory(MemoryKernel::ScaleRowsBackward, T, d, 3));
  }
  work.push_back(MemoryWork{MemoryKernel::UnpermuteBackward, rows, d, Bytes((T + chosen + rows) * d * element_)});
  return work;
}

std::vector<Work> OperatorWork::head(Phase phase) const {
  const std::int64_t T = tokens_, d = model_.d_model, V = model_.vocabulary;
  if (phase == Phase::Forward) {
    return {memory(MemoryKernel::Norm, T, d, 2), GemmWork{T, V, d}, memory(MemoryKernel::CrossEntropy, T, V, 2)};
  }
  const Work weights = model_.tie_embeddings ? GemmWork{V, d, T} : GemmWork{d, V, T};
  return {GemmWork{T, d, V}, weights, norm_backward(false)};
}

std::vector<Work> OperatorWork::gradient_norm() const {
  std::vector<Work> work = {flat(MemoryKernel::SquaredNorm, non_expert_.total(), state_)};
  if (expert_.total() > 0) work.push_back(flat(MemoryKernel::SquaredNorm, expert_.total(), state_));
  return work;
}

std::vector<Work> OperatorWork::optimizer() const {
  // Master, both moments read and written, gradient read; the compute weight written where it is a copy of its own.
  const std::int64_t each = 7 * state_ + (element_ < state_ ? element_ : 0);
  std::vector<Work> work;
  for (const std::int64_t count : {non_expert_.decay, non_expert_.no_decay, expert_.decay, expert_.no_decay}) {
    if (count > 0) work.push_back(flat(MemoryKernel::AdamW, count, each));
  }
  for (const std::int64_t count : {non_expert_.total(), expert_.total()}) {
    if (count > 0) work.push_back(flat(MemoryKernel::Fill, count, state_));
  }
  return work;
}

std::int64_t OperatorWork::send_rows(const MoeFfn& moe) const {
  const std::optional<std::int64_t> capacity = moe.capacity(tokens_);
  return capacity ? moe.expert_count * *capacity : tokens_ * moe.gate.top_k;
}

ExpertShare OperatorWork::share(const MoeFfn& moe, std::int64_t chunk, std::int64_t count) const {
  const std::int64_t local = moe.expert_count / layout_.expert;
  const std::optional<std::int64_t> capacity = moe.capacity(tokens_);
  if (!capacity) {
    const std::int64_t chosen = tokens_ * moe.gate.top_k;
    return {local, static_cast<double>(chosen * layout_.expert) / static_cast<double>(moe.expert_count), chosen};
  }
  const std::int64_t slots = (chunk + 1) * *capacity / count - chunk * *capacity / count;
  return {local, static_cast<double>(layout_.expert * slots), moe.expert_count * slots};
}

Bytes OperatorWork::non_expert_gradient() const { return Bytes(non_expert_.total() * state_); }
Bytes OperatorWork::expert_gradient() const { return Bytes(expert_.total() * state_); }

}  // namespace moecast
