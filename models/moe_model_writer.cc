#include "models/moe_model_json.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "models/moe_model_names.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

Json attention_json(const Attention& attention) {
  Json json = {{"heads", attention.heads}};
  if (attention.latent) {
    const LatentAttention& latent = *attention.latent;
    Json& inner = json["latent"] = Json::object();
    if (latent.query_rank) inner["query_rank"] = *latent.query_rank;
    inner["kv_rank"] = latent.kv_rank;
    inner["nope_dim"] = latent.nope_dim;
    inner["rope_dim"] = latent.rope_dim;
    inner["value_dim"] = latent.value_dim;
  } else {
    json["kv_heads"] = attention.kv_heads;
    json["head_dim"] = attention.head_dim;
    if (attention.qk_norm != QkNorm::None) json["qk_norm"] = name_of(kQkNorms, attention.qk_norm);
    if (attention.qkv_bias) json["qkv_bias"] = true;
  }
  if (!attention.window) return json;
  json["window"] = *attention.window;
  if (attention.full_every == 0) return json;
  json["full_every"] = attention.full_every;
  json["full_offset"] = attention.full_offset;
  return json;
}

Json router_json(const GateRule& gate) {
  Json json = {{"kind", name_of(kRouters, gate.router)}, {"top_k", gate.top_k}, {"renormalize", gate.renormalize}};
  if (gate.selection_bias) {
    json["selection_bias"] = true;
    json["bias_rate"] = gate.bias_rate;
  }
  if (gate.groups > 1) {
    json["groups"] = gate.groups;
    json["top_groups"] = gate.top_groups;
  }
  if (gate.scale != 1) json["scale"] = gate.scale;
  return json;
}

Json moe_json(const MoeFfn& moe) {
  Json json;
  json["experts"] = moe.expert_count;
  json["expert_width"] = moe.expert_width;
  if (moe.zero_expert_count > 0) json["zero_experts"] = moe.zero_expert_count;
  json["shared_expert_width"] = moe.shared_expert_width;
  json["router"] = router_json(moe.gate);
  if (moe.capacity_factor) {
    json["capacity_factor"] = *moe.capacity_factor;
  } else {
    json["dropless"] = true;
  }
  json["shortcut"] = name_of(kShortcuts, moe.shortcut);
  if (moe.double_gate) json["double_gate"] = true;
  json["coefficient_gate"] = name_of(kCoefficientGates, moe.coefficient_gate);
  json["balance_loss"] = moe.balance_loss_coefficient;
  if (moe.loss_coefficients.importance > 0) json["importance_loss"] = moe.loss_coefficients.importance;
  if (moe.loss_coefficients.load > 0) json["load_loss"] = moe.loss_coefficients.load;
  if (moe.loss_coefficients.z > 0) json["z_loss"] = moe.loss_coefficients.z;
  return json;
}

struct Pattern {
  std::size_t every = 1, offset = 0;
};

/// The pattern of "layers" that gives these blocks, if there is one. All dense: every = 0.
std::optional<Pattern> pattern_of(const std::vector<Block>& blocks) {
  const auto is_moe = [](const Block& block) { return block.moe.has_value(); };
  const auto first = std::find_if(blocks.begin(), blocks.end(), is_moe);
  const auto dense = std::find_if_not(blocks.begin(), blocks.end(), is_moe);
  Pattern pattern{0, 0};
  if (first != blocks.end()) {
    const auto second = std::find_if(first + 1, blocks.end(), is_moe);
    pattern.offset = static_cast<std::size_t>(first - blocks.begin());
    pattern.every = second != blocks.end() ? static_cast<std::size_t>(second - first) : blocks.size();
    if (pattern.offset >= pattern.every) return std::nullopt;
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const bool expected = pattern.every > 0 && i % pattern.every == pattern.offset;
    if (is_moe(blocks[i]) != expected || blocks[i] != (expected ? *first : *dense)) return std::nullopt;
  }
  return pattern;
}

void write_blocks(Json& json, const std::vector<Block>& blocks) {
  if (const std::optional<Pattern> pattern = pattern_of(blocks)) {
    Json& layers = json["layers"];
    layers["count"] = blocks.size();
    for (const Block& block : blocks) {
      if (!block.moe) layers["dense_width"] = block.dense_width;
    }
    if (pattern->every == 0) return;
    layers["moe_every"] = pattern->every;
    layers["moe_offset"] = pattern->offset;
    json["moe"] = moe_json(*blocks[pattern->offset].moe);
    return;
  }
  Json& runs = json["blocks"] = Json::array();
  for (std::size_t i = 0, end = 0; i < blocks.size(); i = end) {
    while (end < blocks.size() && blocks[end] == blocks[i]) ++end;
    Json run = {{"repeat", end - i}};
    if (blocks[i].moe) {
      run["moe"] = moe_json(*blocks[i].moe);
    } else {
      run["dense_width"] = blocks[i].dense_width;
    }
    runs.push_back(std::move(run));
  }
}

}  // namespace

Json to_json(const MoeModel& model) {
  Json json;
  json["name"] = model.name;
  if (!model.source.empty()) json["source"] = model.source;
  json["d_model"] = model.d_model;
  json["vocabulary"] = model.vocabulary;
  json["max_sequence"] = model.max_sequence;
  json["attention"] = attention_json(model.attention);
  json["activation"] = name_of(kActivations, model.activation);
  json["norm"] = name_of(kNorms, model.norm);
  json["position"] = name_of(kPositions, model.position);
  json["bias"] = model.bias;
  json["tie_embeddings"] = model.tie_embeddings;
  json["norm_epsilon"] = model.norm_epsilon;
  json["rope_theta"] = model.rope_theta;
  write_blocks(json, model.blocks);
  return json;
}

}  // namespace moecast
