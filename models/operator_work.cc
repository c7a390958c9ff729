#include "models/operator_work.h"

#include <algorithm>
#include <cmath>

#include "models/checkpoint/sharding.h"

namespace moecast {

bool splits_expert_weights(const StepPlanRequest& request) {
  return request.schedule.kind == ScheduleKind::Shortcut ||
         request.layout.pipeline_schedule == PipelineSchedule::ZeroBubble;
}

StateBucket bucket_of(const Parameter& parameter) {
  if (parameter.layer) return {OpKind::Attention, parameter.layer};
  return {parameter.name.starts_with("embedding.") ? OpKind::Embed : OpKind::Head, std::nullopt};
}

OperatorWork::OperatorWork(const StepPlanRequest& request, std::int64_t stage)
    : model_(request.model),
      layout_(request.layout),
      task_(request.task),
      batch_(request.task == StepTask::Decode ? Batch{request.batch.micro_batch, request.batch.micro_batch_count, 1}
                                              : request.batch),
      tensor_(request.layout.tensor),
      tokens_(batch_.tokens() / request.layout.context),
      local_(request.layout.sequence_parallel ? tokens_ / tensor_ : tokens_),
      element_(request.bytes_per_element),
      state_(std::max<std::int64_t>(4, request.bytes_per_element)),
      cached_(request.task == StepTask::Decode ? request.batch.sequence : 0),
      head_rows_(request.task == StepTask::Training ? tokens_ : batch_.micro_batch) {
  count_parameters(stage);
}

/// Experts are divided evenly, so every rank of the stage has as much as its first (but for a last, shorter shard).
void OperatorWork::count_parameters(std::int64_t stage) {
  for (const Parameter& parameter : parameters_of_rank(model_, layout_, layout_.first_rank(stage))) {
    const bool expert = parameter.expert.has_value();
    const std::int64_t count = parameter.element_count();
    const std::int64_t parts = layout_.group_size(expert ? Group::ExpertData : Group::Data);
    const std::int64_t shard = even_share(count, parts, 0).count();
    Counts& counts = expert ? expert_ : non_expert_;
    counts.full += count;
    const std::int64_t updated = sharded(expert) ? shard : count;
    (!parameter.trained ? counts.untrained : parameter.decay ? counts.decay : counts.no_decay) += updated;
    if (!parameter.trained) {
      const std::int64_t experts = model_.blocks[parameter.layer->index()].moe->expert_count;
      selection_biases_.push_back(std::min(updated, experts));
    }

    const StateBucket bucket = bucket_of(parameter);
    auto place = std::find(bucket_list_.begin(), bucket_list_.end(), bucket);
    if (place == bucket_list_.end()) place = bucket_list_.insert(place, bucket);
    for (Counts* each : {&non_expert_, &expert_}) each->bucket_shards.resize(bucket_list_.size());
    counts.bucket_shards[static_cast<std::size_t>(place - bucket_list_.begin())] += shard;

    if (!expert && !parameter.tensor_axis && tensor_ > 1) tensor_replicated_ += count;
    const bool tied = model_.tie_embeddings && layout_.pipeline > 1 && parameter.name == "embedding.token";
    if (tied) tied_ = count;
  }
}

bool OperatorWork::sharded(bool expert) const {
  return layout_.zero_stage >= 1 && layout_.group_size(expert ? Group::ExpertData : Group::Data) > 1;
}

std::int64_t OperatorWork::bucket_elements(const StateBucket& bucket, bool expert) const {
  const auto place = std::find(bucket_list_.begin(), bucket_list_.end(), bucket);
  if (place == bucket_list_.end()) return 0;
  const Counts& counts = expert ? expert_ : non_expert_;
  return counts.bucket_shards[static_cast<std::size_t>(place - bucket_list_.begin())] *
         layout_.group_size(expert ? Group::ExpertData : Group::Data);
}

Bytes OperatorWork::bucket_gradient(const StateBucket& bucket, bool expert) const {
  return Bytes(bucket_elements(bucket, expert) * state_);
}
Bytes OperatorWork::bucket_weight(const StateBucket& bucket, bool expert) const {
  return Bytes(bucket_elements(bucket, expert) * element_);
}

Bytes OperatorWork::key_value_bytes() const {
  const Attention& attention = model_.attention;
  const std::int64_t width = attention.kv_heads / tensor_ * (attention.head_dim + attention.value_dim());
  return Bytes(batch_.tokens() * width * element_);
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
  return memory(MemoryKernel::NormBackward, local_, model_.d_model, accumulate ? 4 : 3);
}

AttentionWork OperatorWork::core(LayerId layer, bool backward) const {
  const Attention& attention = model_.attention;
  AttentionWork work{
      batch_.micro_batch, batch_.sequence, attention.heads / tensor_,         attention.kv_heads / tensor_,
      attention.head_dim, backward,        attention.window_of(layer.value())};
  if (attention.latent) work.value_dim = attention.latent->value_dim;
  work.context = layout_.context;
  if (cached_ == 0) return work;
  work.cached = cached_;
  work.cache_element = element_;
  if (attention.latent) {
    work.kv_heads = 1;
    work.head_dim = attention.latent->kv_rank + attention.latent->rope_dim;
    work.value_dim = attention.latent->kv_rank;
    work.values_in_keys = true;
  }
  return work;
}

std::vector<Work> OperatorWork::embed(Phase phase) const {
  const std::int64_t d = model_.d_model;
  const bool positions = model_.position == PositionKind::Learned;
  const std::int64_t position_rows = positions ? batch_.sequence / layout_.context : 0;
  if (phase == Phase::Forward) {
    const std::int64_t moved = (2 * tokens_ + position_rows) * d * element_;
    return {MemoryWork{MemoryKernel::Embedding, tokens_, d, Bytes(moved)}};
  }
  const std::int64_t moved = tokens_ * d * element_ + 2 * (tokens_ + position_rows) * d * state_;
  return {MemoryWork{MemoryKernel::EmbeddingBackward, tokens_, d, Bytes(moved)}};
}

void OperatorWork::add_queries_keys_values(std::vector<Work>& work) const {
  const Attention& attention = model_.attention;
  const std::int64_t T = tokens_, qkv = attention.qkv_width() / tensor_,
                     rotated = (attention.query_width() + attention.kv_width()) / tensor_;
  work.push_back(GemmWork{T, qkv, model_.d_model});
  if (model_.bias || attention.qkv_bias) work.push_back(memory(MemoryKernel::Bias, T, qkv, 2));
  if (attention.qk_norm != QkNorm::None) work.push_back(memory(MemoryKernel::Norm, T, rotated, 2));
  if (model_.position == PositionKind::Rope) work.push_back(memory(MemoryKernel::Rope, T, rotated, 2));
}

void OperatorWork::add_queries_keys_values_gradients(std::vector<Work>& work, bool inputs, bool weights) const {
  const Attention& attention = model_.attention;
  const std::int64_t T = tokens_, d = model_.d_model, qkv = attention.qkv_width() / tensor_,
                     rotated = (attention.query_width() + attention.kv_width()) / tensor_;
  const bool rope = model_.position == PositionKind::Rope;
  if (inputs && rope) work.push_back(memory(MemoryKernel::RopeBackward, T, rotated, 2));
  if (inputs && attention.qk_norm != QkNorm::None) {
    work.push_back(memory(MemoryKernel::NormBackward, T, rotated, 3));
  }
  if (weights && (model_.bias || attention.qkv_bias)) work.push_back(memory(MemoryKernel::BiasGradient, T, qkv, 1));
  if (inputs) work.push_back(GemmWork{T, d, qkv});
  if (weights) work.push_back(GemmWork{d, qkv, T});
}

std::vector<Work> OperatorWork::attention(Phase phase, LayerId layer, bool split) const {
  const std::int64_t T = tokens_, d = model_.d_model, out = model_.attention.output_width() / tensor_;
  const bool latent = model_.attention.latent.has_value();
  std::vector<Work> work;
  if (phase == Phase::Forward || phase == Phase::Recompute) {
    work.push_back(memory(MemoryKernel::Norm, local_, d, 2));
    latent ? add_latent(work) : add_queries_keys_values(work);
    work.push_back(core(layer, false));
    work.push_back(GemmWork{T, d, out});
    if (model_.bias) work.push_back(memory(MemoryKernel::Bias, local_, d, 2));
    work.push_back(memory(MemoryKernel::Add, local_, d, 3));
    return work;
  }
  const bool inputs = phase == Phase::Backward, weights = !inputs || !split;
  if (weights && model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, local_, d, 1));
  if (inputs) work.push_back(GemmWork{T, out, d});
  if (weights) work.push_back(GemmWork{out, d, T});
  if (inputs) work.push_back(core(layer, true));
  latent ? add_latent_gradients(work, inputs, weights) : add_queries_keys_values_gradients(work, inputs, weights);
  if (inputs) work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::attention_core(LayerId layer) const { return {core(layer, false)}; }

void OperatorWork::add_ffn(std::vector<Work>& work, std::int64_t width) const {
  const std::int64_t T = tokens_, d = model_.d_model, inner = model_.ffn_input_columns(width);
  work.push_back(memory(MemoryKernel::Norm, local_, d, 2));
  work.push_back(GemmWork{T, inner, d});
  if (model_.bias) work.push_back(memory(MemoryKernel::Bias, T, inner, 2));
  work.push_back(MemoryWork{MemoryKernel::Activation, T, width, Bytes((inner + width) * T * element_)});
  work.push_back(GemmWork{T, d, width});
  if (model_.bias) work.push_back(memory(MemoryKernel::Bias, local_, d, 2));
}

void OperatorWork::add_ffn_gradients(std::vector<Work>& work, std::int64_t width, bool inputs, bool weights) const {
  const std::int64_t T = tokens_, d = model_.d_model, inner = model_.ffn_input_columns(width);
  if (weights && model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, local_, d, 1));
  if (inputs) work.push_back(GemmWork{T, width, d});
  if (weights) work.push_back(GemmWork{width, d, T});
  if (inputs) {
    work.push_back(MemoryWork{MemoryKernel::ActivationBackward, T, width, Bytes((2 * inner + width) * T * element_)});
  }
  if (weights && model_.bias) work.push_back(memory(MemoryKernel::BiasGradient, T, inner, 1));
  if (inputs) work.push_back(GemmWork{T, d, inner});
  if (weights) work.push_back(GemmWork{d, inner, T});
}

std::vector<Work> OperatorWork::mlp(Phase phase, std::int64_t width, bool split) const {
  std::vector<Work> work;
  if (phase == Phase::Forward || phase == Phase::Recompute) {
    add_ffn(work, width / tensor_);
    work.push_back(memory(MemoryKernel::Add, local_, model_.d_model, 3));
    return work;
  }
  const bool inputs = phase == Phase::Backward;
  add_ffn_gradients(work, width / tensor_, inputs, !inputs || !split);
  if (inputs) work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::shared_expert(Phase phase, const MoeFfn& moe, bool split) const {
  const std::int64_t T = local_, d = model_.d_model, width = moe.shared_expert_width / tensor_;
  const std::int64_t coefficients = coefficient_count(moe.coefficient_gate);
  std::vector<Work> work;
  if (phase == Phase::Forward || phase == Phase::Recompute) {
    add_ffn(work, width);
    if (coefficients > 0) {  // CG-2: a row of each of its two coefficients
      work.push_back(coefficients == 1 ? GemmWork{T, 1, d} : GemmWork{coefficients, T, d});
      work.push_back(flat(MemoryKernel::Sigmoid, coefficients * T, 2 * state_));
    }
    return work;
  }
  const bool inputs = phase == Phase::Backward, weights = !inputs || !split;
  add_ffn_gradients(work, width, inputs, weights);
  if (coefficients > 0) {
    if (inputs) work.push_back(flat(MemoryKernel::SigmoidBackward, coefficients * T, 3 * state_));
    if (inputs) work.push_back(GemmWork{T, d, coefficients});
    if (weights) work.push_back(GemmWork{d, coefficients, T});
  }
  if (inputs) work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::gate(Phase phase, const MoeFfn& moe, bool split) const {
  const std::int64_t T = local_, d = model_.d_model, E = moe.choice_count(), k = moe.choices();
  const int products = !moe.gate.has_weights() ? 0 : moe.gate.router == RouterKind::NoisyTopK ? 2 : 1;
  std::vector<Work> work;
  // Forward: logits and scores [T,E]; backward: scores and dlogits. Both: expert, weight, and row or gradient [T,k].
  const Bytes moved((2 * products * T * E + 3 * T * k) * state_);
  if (phase == Phase::Forward || phase == Phase::Recompute) {
    work.push_back(memory(MemoryKernel::Norm, local_, d, 2));
    for (int i = 0; i < products; ++i) work.push_back(GemmWork{T, E, d});
    work.push_back(MemoryWork{MemoryKernel::Gate, T, E, moved});
    return work;
  }
  const bool inputs = phase == Phase::Backward, weights = !inputs || !split;
  if (inputs && products > 0) work.push_back(MemoryWork{MemoryKernel::GateBackward, T, E, moved});
  for (int i = 0; i < products; ++i) {
    const bool casts = inputs && element_ < state_;
    if (casts) work.push_back(MemoryWork{MemoryKernel::Cast, T, E, Bytes(T * E * (state_ + element_))});
    if (inputs) work.push_back(GemmWork{T, d, E});
    if (weights) work.push_back(GemmWork{d, E, T});
  }
  if (inputs) work.push_back(norm_backward(true));
  return work;
}

std::vector<Work> OperatorWork::encode(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = local_, d = model_.d_model, rows = send_rows(moe), chosen = moe.routed_rows(T);
  if (phase == Phase::Forward || phase == Phase::Recompute) {
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
    case Phase::Recompute:
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
    case Phase::Update:
      break;
  }
  return work;
}

std::vector<Work> OperatorWork::decode(Phase phase, const MoeFfn& moe) const {
  const std::int64_t T = local_, d = model_.d_model, rows = send_rows(moe), chosen = moe.routed_rows(T);
  const bool shared = moe.shared_expert_width > 0;
  const std::int64_t coefficients = shared ? coefficient_count(moe.coefficient_gate) : 0;
  std::vector<Work> work;
  if (phase == Phase::Forward || phase == Phase::Recompute) {
    work.push_back(memory(MemoryKernel::Copy, T, d, 2));
    if (shared) work.push_back(memory(MemoryKernel::ScaleRows, T, d, 3));
    for (std::int64_t routing = 0; routing < moe.routing_count(); ++routing) {
      work.push_back(MemoryWork{MemoryKernel::Unpermute, T, d, Bytes((chosen + 2 * T) * d * element_)});
    }
    if (moe.zero_expert_count > 0) work.push_back(memory(MemoryKernel::ScaleRows, T, d, 3));  // their input, weighed
    if (coefficients == 2) work.push_back(memory(MemoryKernel::ScaleRows, T, d, 3));          // the routed sum
    return work;
  }
  if (coefficients > 0) work.push_back(memory(MemoryKernel::ScaleRowsBackward, T, d, 3));
  if (coefficients == 2) work.push_back(memory(MemoryKernel::ScaleRowsBackward, T, d, 3));
  if (moe.zero_expert_count > 0) work.push_back(memory(MemoryKernel::ScaleRowsBackward, T, d, 3));
  for (std::int64_t routing = 0; routing < moe.routing_count(); ++routing) {
    work.push_back(MemoryWork{MemoryKernel::UnpermuteBackward, rows, d, Bytes((T + chosen + rows) * d * element_)});
  }
  return work;
}

std::vector<Work> OperatorWork::head(Phase phase, bool split) const {
  const std::int64_t T = tokens_, d = model_.d_model, V = (model_.vocabulary + tensor_ - 1) / tensor_;
  if (task_ != StepTask::Training) {
    return {memory(MemoryKernel::Norm, head_rows_, d, 2), GemmWork{head_rows_, V, d}};
  }
  if (phase == Phase::Forward) {
    return {memory(MemoryKernel::Norm, local_, d, 2), GemmWork{T, V, d}, memory(MemoryKernel::CrossEntropy, T, V, 2)};
  }
  const Work weights = model_.tie_embeddings ? GemmWork{V, d, T} : GemmWork{d, V, T};
  if (phase == Phase::WeightGradient) return {weights};
  std::vector<Work> work = {GemmWork{T, d, V}};
  if (!split) work.push_back(weights);
  work.push_back(norm_backward(false));
  return work;
}

std::vector<Work> OperatorWork::gradient_norm() const {
  std::vector<Work> work;
  for (const Counts& counts : {non_expert_, expert_}) {
    if (counts.trained() > 0) work.push_back(flat(MemoryKernel::SquaredNorm, counts.trained(), state_));
  }
  return work;
}

std::vector<Work> OperatorWork::optimizer() const {
  // Master, both moments read and written, gradient read; the compute weight written where it is a copy of its own.
  const std::int64_t each = 7 * state_ + (element_ < state_ ? element_ : 0);
  std::vector<Work> work;
  for (const std::int64_t count : {non_expert_.decay, non_expert_.no_decay, expert_.decay, expert_.no_decay}) {
    if (count > 0) work.push_back(flat(MemoryKernel::AdamW, count, each));
  }
  for (const std::int64_t count : selection_biases_) work.push_back(flat(MemoryKernel::Add, count, 3 * state_));
  // Gradients begin the next step at zero: what the backward adds to, which are the shards from ZeRO 2 on.
  for (const bool expert : {false, true}) {
    const Counts& counts = expert ? expert_ : non_expert_;
    const std::int64_t count = layout_.zero_stage >= 2 && sharded(expert) ? counts.shard() : counts.full;
    if (count > 0) work.push_back(flat(MemoryKernel::Fill, count, state_));
  }
  return work;
}

Bytes OperatorWork::chosen_expert_weights(const MoeFfn& moe) const {
  const std::int64_t d = model_.d_model, width = moe.expert_width, inner = model_.ffn_input_columns(width);
  const std::int64_t each = (d * inner + width * d + (model_.bias ? inner + d : 0)) * element_;
  const double share = static_cast<double>(moe.routed_rows(local_)) / static_cast<double>(local_ * moe.expert_count);
  const double missed = std::pow(1 - share, static_cast<double>(local_ * layout_.expert));
  const double chosen = static_cast<double>(moe.expert_count / layout_.expert) * (1 - missed);
  return Bytes(std::llround(chosen * static_cast<double>(each)));
}

std::int64_t OperatorWork::send_rows(const MoeFfn& moe) const {
  const std::optional<std::int64_t> capacity = moe.capacity(local_);
  return capacity ? moe.expert_count * *capacity : moe.routed_rows(local_);
}

ExpertShare OperatorWork::share(const MoeFfn& moe, std::int64_t chunk, std::int64_t count) const {
  const std::int64_t local = moe.expert_count / layout_.expert;
  const std::optional<std::int64_t> capacity = moe.capacity(local_);
  if (!capacity) {
    const std::int64_t chosen = moe.routed_rows(local_);
    return {local, static_cast<double>(chosen * layout_.expert) / static_cast<double>(moe.expert_count), chosen};
  }
  const std::int64_t slots = (chunk + 1) * *capacity / count - chunk * *capacity / count;
  return {local, static_cast<double>(layout_.expert * slots), moe.expert_count * slots};
}

}  // namespace moecast
