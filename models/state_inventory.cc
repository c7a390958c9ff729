#include "models/state_inventory.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {

namespace {

using Shape = std::vector<std::int64_t>;

/// Appends parameters under a prefix ("blocks.3.mlp") of one layer.
class Lister {
 public:
  Lister(const MoeModel& model, std::vector<Parameter>& out) : model_(model), out_(out) {}

  void matrix(const std::string& name, Shape shape) { add(name, std::move(shape), true, std::nullopt); }
  void undecayed(const std::string& name, Shape shape) { add(name, std::move(shape), false, std::nullopt); }
  void bias(const std::string& name, std::int64_t width) {
    if (model_.bias) undecayed(name, {width});
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
    matrix(prefix + ".w1", {model_.d_model, columns});
    bias(prefix + ".b1", columns);
    matrix(prefix + ".w2", {width, model_.d_model});
    bias(prefix + ".b2", model_.d_model);
  }
  /// One tensor of every expert, experts ascending.
  void expert_tensor(const std::string& prefix, const std::string& name, std::int64_t experts, const Shape& shape,
                     bool decay) {
    for (std::int64_t e = 0; e < experts; ++e) {
      add(fmt::format("{}.{}.{}", prefix, e, name), shape, decay, ExpertId(static_cast<std::int32_t>(e)));
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
  void add(std::string name, Shape shape, bool decay, std::optional<ExpertId> expert) {
    out_.push_back({std::move(name), std::move(shape), layer_, expert, decay});
  }

  const MoeModel& model_;
  std::vector<Parameter>& out_;
  std::optional<LayerId> layer_ = std::nullopt;
};

void list_latent(Lister& list, const std::string& prefix, const MoeModel& model) {
  const LatentAttention& latent = *model.attention.latent;
  const std::int64_t heads = model.attention.heads;
  if (latent.query_rank) {
    list.matrix(prefix + ".wq_down", {model.d_model, *latent.query_rank});
    list.inner_norm(prefix + ".q_norm", *latent.query_rank);
  }
  list.matrix(prefix + ".wq", {latent.query_rank.value_or(model.d_model), model.attention.query_width()});
  list.matrix(prefix + ".wkv_down", {model.d_model, latent.kv_rank + latent.rope_dim});
  list.inner_norm(prefix + ".kv_norm", latent.kv_rank);
  list.matrix(prefix + ".wkv", {latent.kv_rank, heads * (latent.nope_dim + latent.value_dim)});
}

void list_queries_keys_values(Lister& list, const std::string& prefix, const MoeModel& model) {
  const Attention& attention = model.attention;
  list.matrix(prefix + ".wqkv", {model.d_model, attention.qkv_width()});
  if (model.bias || attention.qkv_bias) list.undecayed(prefix + ".bqkv", {attention.qkv_width()});
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
  list.matrix(prefix + ".wo", {model.attention.output_width(), model.d_model});
  list.bias(prefix + ".bo", model.d_model);
}

void list_gate(Lister& list, const std::string& prefix, const MoeModel& model, const MoeFfn& moe) {
  list.norm(prefix + ".norm");
  if (!moe.gate.has_weights()) return;
  list.matrix(prefix + ".w", {model.d_model, moe.choice_count()});
  if (moe.gate.router == RouterKind::NoisyTopK) list.matrix(prefix + ".w_noise", {model.d_model, moe.choice_count()});
  if (moe.gate.selection_bias) list.undecayed(prefix + ".selection_bias", {moe.choice_count()});
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

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

std::int64_t Parameter::element_count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::vector<Parameter> parameters(const MoeModel& model) {
  std::vector<Parameter> out;
  Lister list(model, out);
  list.matrix("embedding.token", {model.vocabulary, model.d_model});
  if (model.position == PositionKind::Learned) {
    list.undecayed("embedding.position", {model.max_sequence, model.d_model});
  }
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string block = fmt::format("blocks.{}", i);
    list.in_layer(LayerId(static_cast<std::int32_t>(i)));
    list_attention(list, block + ".attention", model);
    if (model.blocks[i].moe) {
      list_moe(list, block, model, *model.blocks[i].moe);
    } else {
      list.ffn(block + ".mlp", model.blocks[i].dense_width);
    }
  }
  list.in_layer(std::nullopt);
  list.norm("final_norm");
  if (!model.tie_embeddings) list.matrix("output.w", {model.d_model, model.vocabulary});
  return out;
}

std::vector<Parameter> parameters_of_rank(const MoeModel& model, const ParallelLayout& layout, Rank rank) {
  ASSERT(layout.tensor == 1 && layout.pipeline == 1, "tensor {} pipeline {}: not divided yet", layout.tensor,
         layout.pipeline);
  const std::int64_t position = layout.position(Group::Expert, rank);
  std::vector<Parameter> own;
  for (Parameter& parameter : parameters(model)) {
    if (parameter.expert) {
      const std::int64_t experts = model.blocks[parameter.layer->index()].moe->expert_count;
      ASSERT(experts % layout.expert == 0, "{} experts over {} ranks", experts, layout.expert);
      if (parameter.expert->value() / (experts / layout.expert) != position) continue;
    }
    own.push_back(std::move(parameter));
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
  std::int64_t shared = 0;
  std::int64_t expert = 0;
  for (const Parameter& parameter : parameters_of_rank(model, layout, rank)) {
    (parameter.expert ? expert : shared) += parameter.element_count();
  }
  // ZeRO (arXiv 1910.02054, section 5): from its stage on, a component is cut evenly over the ranks that would
  // otherwise each hold a copy.
  const auto elements = [&](int sharded_from_stage) {
    if (layout.zero_stage < sharded_from_stage) return shared + expert;
    return ceil_divide(shared, layout.group_size(Group::Data)) +
           ceil_divide(expert, layout.group_size(Group::ExpertData));
  };
  RankMemory memory;
  memory.weight = Bytes(elements(3) * precision.weight);
  memory.master = Bytes(elements(1) * precision.master);
  memory.moments = Bytes(elements(1) * (precision.first_moment + precision.second_moment));
  memory.gradient = Bytes(elements(2) * precision.gradient);
  return memory;
}

}  // namespace moecast
