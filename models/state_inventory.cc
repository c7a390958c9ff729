#include "models/state_inventory.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "models/checkpoint/sharding.h"
#include "models/stage_parts.h"

namespace moecast {

namespace {

using Shape = std::vector<std::int64_t>;
using TensorAxis = std::optional<std::size_t>;

/// Appends parameters under a prefix ("blocks.3.mlp") of one layer.
class Lister {
 public:
  /// Of each layer's experts the share of one of `degree` positions.
  Lister(const MoeModel& model, std::vector<Parameter>& out, std::int64_t degree = 1, std::int64_t position = 0)
      : model_(model), out_(out), degree_(degree), position_(position) {}

  void matrix(const std::string& name, Shape shape, TensorAxis axis = {}) {
    add(name, std::move(shape), true, std::nullopt, axis);
  }
  void undecayed(const std::string& name, Shape shape, TensorAxis axis = {}) {
    add(name, std::move(shape), false, std::nullopt, axis);
  }
  void untrained(const std::string& name, Shape shape) {
    undecayed(name, std::move(shape));
    out_.back().trained = false;
  }
  void bias(const std::string& name, std::int64_t width, TensorAxis axis = {}) {
    if (model_.bias) undecayed(name, {width}, axis);
  }
  /// The RMSNorm of a narrow tensor inside an operator.
  void inner_norm(const std::string& prefix, std::int64_t width) { undecayed(prefix + ".gain", {width}); }
  void norm(const std::string& prefix) {
    undecayed(prefix + ".gain", {model_.d_model});
    if (model_.norm == NormKind::LayerNorm) undecayed(prefix + ".bias", {model_.d_model});
  }
  /// Norm, W1, b1, W2, b2 of a dense FFN or a shared expert.
  void ffn(const std::string& prefix, std::int64_t width) {
    const std::int64_t columns = model_.ffn_input_columns(width);
    norm(prefix + ".norm");
    matrix(prefix + ".w1", {model_.d_model, columns}, 1);
    bias(prefix + ".b1", columns, 0);
    matrix(prefix + ".w2", {width, model_.d_model}, 0);
    bias(prefix + ".b2", model_.d_model);
  }
  /// One tensor of every expert, experts ascending.
  void expert_tensor(const std::string& prefix, const std::string& name, std::int64_t experts, const Shape& shape,
                     bool decay) {
    ASSERT(experts % degree_ == 0, "{} experts over {} ranks", experts, degree_);
    const std::int64_t local = experts / degree_;
    for (std::int64_t e = position_ * local; e < (position_ + 1) * local; ++e) {
      add(fmt::format("{}.{}.{}", prefix, e, name), shape, decay, ExpertId(static_cast<std::int32_t>(e)), {});
    }
  }
  void experts(const std::string& prefix, const MoeFfn& moe) {
    const std::int64_t columns = model_.ffn_input_columns(moe.expert_width);
    expert_tensor(prefix, "w1", moe.expert_count, {model_.d_model, columns}, true);
    if (model_.bias) expert_tensor(prefix, "b1", moe.expert_count, {columns}, false);
    expert_tensor(prefix, "w2", moe.expert_count, {moe.expert_width, model_.d_model}, true);
    if (model_.bias) expert_tensor(prefix, "b2", moe.expert_count, {model_.d_model}, false);
  }
  void in_layer(std::optional<LayerId> layer) { layer_ = layer; }

 private:
  void add(std::string name, Shape shape, bool decay, std::optional<ExpertId> expert, TensorAxis axis) {
    out_.push_back({std::move(name), std::move(shape), layer_, expert, decay, axis});
  }

  const MoeModel& model_;
  std::vector<Parameter>& out_;
  std::int64_t degree_, position_;
  std::optional<LayerId> layer_ = std::nullopt;
};

void list_latent(Lister& list, const std::string& prefix, const MoeModel& model) {
  const LatentAttention& latent = *model.attention.latent;
  const std::int64_t heads = model.attention.heads;
  if (latent.query_rank) {
    list.matrix(prefix + ".wq_down", {model.d_model, *latent.query_rank});
    list.inner_norm(prefix + ".q_norm", *latent.query_rank);
  }
  list.matrix(prefix + ".wq", {latent.query_rank.value_or(model.d_model), model.attention.query_width()}, 1);
  list.matrix(prefix + ".wkv_down", {model.d_model, latent.kv_rank + latent.rope_dim});
  list.inner_norm(prefix + ".kv_norm", latent.kv_rank);
  list.matrix(prefix + ".wkv", {latent.kv_rank, heads * (latent.nope_dim + latent.value_dim)}, 1);
}

void list_queries_keys_values(Lister& list, const std::string& prefix, const MoeModel& model) {
  const Attention& attention = model.attention;
  list.matrix(prefix + ".wqkv", {model.d_model, attention.qkv_width()}, 1);
  if (model.bias || attention.qkv_bias) list.undecayed(prefix + ".bqkv", {attention.qkv_width()}, 0);
  if (attention.qk_norm == QkNorm::None) return;
  const bool head = attention.qk_norm == QkNorm::Head;
  list.inner_norm(prefix + ".q_norm", head ? attention.head_dim : attention.query_width());
  list.inner_norm(prefix + ".k_norm", head ? attention.head_dim : attention.kv_width());
}

void list_attention(Lister& list, const std::string& prefix, const MoeModel& model) {
  list.norm(prefix + ".norm");
  if (model.attention.latent) {
    list_latent(list, prefix, model);
  } else {
    list_queries_keys_values(list, prefix, model);
  }
  list.matrix(prefix + ".wo", {model.attention.output_width(), model.d_model}, 0);
  list.bias(prefix + ".bo", model.d_model);
}

void list_gate(Lister& list, const std::string& prefix, const MoeModel& model, const MoeFfn& moe) {
  list.norm(prefix + ".norm");
  if (!moe.gate.has_weights()) return;
  list.matrix(prefix + ".w", {model.d_model, moe.choice_count()});
  if (moe.gate.router == RouterKind::NoisyTopK) list.matrix(prefix + ".w_noise", {model.d_model, moe.choice_count()});
  if (moe.gate.selection_bias) list.untrained(prefix + ".selection_bias", {moe.choice_count()});
}

void list_moe(Lister& list, const std::string& block, const MoeModel& model, const MoeFfn& moe) {
  if (moe.shared_expert_width > 0) {
    list.ffn(block + ".shared", moe.shared_expert_width);
    const std::int64_t columns = coefficient_count(moe.coefficient_gate);
    if (columns > 0) list.matrix(block + ".coefficient.w", {model.d_model, columns});
  }
  list_gate(list, block + ".gate", model, moe);
  list.experts(block + ".experts", moe);
}

void list_embeddings(Lister& list, const MoeModel& model, bool positions) {
  list.in_layer(std::nullopt);
  list.matrix("embedding.token", {model.vocabulary, model.d_model}, 0);
  if (positions && model.position == PositionKind::Learned) {
    list.undecayed("embedding.position", {model.max_sequence, model.d_model});
  }
}

void list_block(Lister& list, const MoeModel& model, std::size_t index) {
  const std::string block = fmt::format("blocks.{}", index);
  list.in_layer(LayerId(static_cast<std::int32_t>(index)));
  list_attention(list, block + ".attention", model);
  if (model.blocks[index].moe) {
    list_moe(list, block, model, *model.blocks[index].moe);
  } else {
    list.ffn(block + ".mlp", model.blocks[index].dense_width);
  }
}

void list_head(Lister& list, const MoeModel& model) {
  list.in_layer(std::nullopt);
  list.norm("final_norm");
  if (!model.tie_embeddings) list.matrix("output.w", {model.d_model, model.vocabulary}, 1);
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

std::int64_t Parameter::element_count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::vector<Parameter> parameters(const MoeModel& model) {
  std::vector<Parameter> out;
  Lister list(model, out);
  list_embeddings(list, model, true);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) list_block(list, model, i);
  list_head(list, model);
  return out;
}

std::vector<Parameter> parameters_of_rank(const MoeModel& model, const ParallelLayout& layout, Rank rank) {
  std::vector<Parameter> own;
  Lister list(model, own, layout.expert, layout.position(Group::Expert, rank));
  const std::int64_t stage = layout.stage_of(rank);
  const bool first_stage = stage == 0, last_stage = stage + 1 == layout.pipeline;
  if (first_stage || (last_stage && model.tie_embeddings)) list_embeddings(list, model, first_stage);
  for (const ModelPart& part : parts_of_stage(model, layout, stage)) {
    for (auto i = static_cast<std::size_t>(part.first_block); i < static_cast<std::size_t>(part.end_block); ++i) {
      list_block(list, model, i);
    }
  }
  if (last_stage) list_head(list, model);
  for (Parameter& parameter : own) {
    if (!parameter.tensor_axis) continue;
    std::int64_t& size = parameter.shape[*parameter.tensor_axis];
    size = ceil_divide(size, layout.tensor);
  }
  return own;
}

ParameterCount count_parameters(const MoeModel& model) {
  ParameterCount count;
  std::vector<std::int64_t> expert(model.blocks.size(), 0);  // of one block
  for (const Parameter& parameter : parameters(model)) {
    const std::int64_t elements = parameter.element_count();
    count.total += elements;
    (parameter.expert ? expert[parameter.layer->index()] : count.active) += elements;
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    if (!model.blocks[i].moe) continue;
    const MoeFfn& moe = *model.blocks[i].moe;
    count.expert += expert[i];
    const auto each = static_cast<double>(expert[i] / moe.expert_count);  // all experts of a layer have one shape
    count.active += std::llround(each * moe.computing_choices() * static_cast<double>(moe.routing_count()));
  }
  return count;
}

Precision precision_of(std::int64_t bytes_per_element) {
  const std::int64_t state = std::max<std::int64_t>(4, bytes_per_element);
  return {bytes_per_element, bytes_per_element < state ? state : 0, state, state, state};
}

RankMemory rank_memory(const MoeModel& model, const ParallelLayout& layout, Rank rank, const Precision& precision) {
  std::int64_t whole = 0, shares = 0;
  for (const Parameter& parameter : parameters_of_rank(model, layout, rank)) {
    const std::int64_t replicas = layout.group_size(parameter.expert ? Group::ExpertData : Group::Data);
    whole += parameter.element_count();
    shares += even_share(parameter.element_count(), replicas, 0).count();
  }
  // ZeRO (arXiv 1910.02054, section 5): from its stage on, a component is cut evenly over the ranks that would
  // otherwise each hold a copy.
  const auto elements = [&](int sharded_from_stage) { return layout.zero_stage < sharded_from_stage ? whole : shares; };
  RankMemory memory;
  memory.weight = Bytes(elements(3) * precision.weight);
  memory.master = Bytes(elements(1) * precision.master);
  memory.moments = Bytes(elements(1) * (precision.first_moment + precision.second_moment));
  memory.gradient = Bytes(elements(2) * precision.gradient);
  return memory;
}

}  // namespace moecast
