#include "models/moe_model_json.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/forward_chain.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

// Upper ends of the ranges: beyond every published model, and small enough that no count of bytes overflows 63 bits.
constexpr std::int64_t kMaxModelWidth = 65'536;
constexpr std::int64_t kMaxFfnWidth = 262'144;
constexpr std::int64_t kMaxExperts = 4'096;
constexpr std::int64_t kMaxBlocks = 1'024;
constexpr std::int64_t kMaxHeads = 4'096;
constexpr std::int64_t kMaxTokens = 16'777'216;  // vocabulary, sequence

const EnumNames<Activation> kActivations = {
    {"gelu", Activation::Gelu}, {"relu", Activation::Relu}, {"swiglu", Activation::SwiGlu}};
const EnumNames<NormKind> kNorms = {{"layer_norm", NormKind::LayerNorm}, {"rms_norm", NormKind::RmsNorm}};
const EnumNames<PositionKind> kPositions = {{"learned", PositionKind::Learned}, {"rope", PositionKind::Rope}};
const EnumNames<RouterKind> kRouters = {{"softmax_top_k", RouterKind::SoftmaxTopK},
                                        {"top_k_softmax", RouterKind::TopKSoftmax}};
const EnumNames<Shortcut> kShortcuts = {
    {"none", Shortcut::None}, {"pos1", Shortcut::Pos1}, {"pos2", Shortcut::Pos2}, {"pos3", Shortcut::Pos3}};
const EnumNames<CoefficientGate> kCoefficientGates = {{"direct_add", CoefficientGate::DirectAdd},
                                                      {"cg1", CoefficientGate::Cg1}};

/// `d_model` has no value where it could not be read.
Attention read_attention(JsonReader& model, std::optional<std::int64_t> d_model, PositionKind position) {
  const std::size_t before = model.problem_count();
  JsonReader reader = model.object("attention");
  Attention attention;
  attention.heads = reader.integer("heads", 1, kMaxHeads);
  attention.kv_heads = reader.integer("kv_heads", 1, kMaxHeads, attention.heads);
  const bool given = reader.has("head_dim");
  const std::int64_t even_share = d_model.value_or(0) / attention.heads;
  attention.head_dim = reader.integer("head_dim", 1, kMaxModelWidth, std::max<std::int64_t>(even_share, 1));
  if (model.problem_count() != before) return attention;
  if (!given && d_model && attention.heads * even_share != *d_model) {
    reader.problem("heads", "out-of-range", fmt::format("a divisor of d_model {} (or give head_dim)", *d_model),
                   std::to_string(attention.heads));
  }
  if (attention.heads % attention.kv_heads != 0) {
    reader.problem("kv_heads", "out-of-range", fmt::format("a divisor of the {} heads", attention.heads),
                   std::to_string(attention.kv_heads));
  }
  if (position == PositionKind::Rope && (given || d_model) && attention.head_dim % 2 != 0) {
    reader.problem(given ? "head_dim" : "heads", "out-of-range", "an even head_dim (rope turns pairs)",
                   fmt::format("head_dim {}", attention.head_dim));
  }
  return attention;
}

GateRule read_gate(JsonReader& moe, std::int64_t expert_count) {
  const std::size_t before = moe.problem_count();
  JsonReader reader = moe.object("router");
  GateRule gate;
  gate.router = reader.choice("kind", kRouters, std::optional(gate.router));
  gate.top_k = reader.integer("top_k", 1, kMaxExperts);
  gate.renormalize = reader.boolean("renormalize", gate.renormalize);
  if (moe.problem_count() == before && gate.top_k > expert_count) {
    reader.problem("top_k", "out-of-range", fmt::format("at most the {} experts", expert_count),
                   std::to_string(gate.top_k));
  }
  return gate;
}

/// Exactly one of "capacity_factor": x and "dropless": true.
std::optional<double> read_capacity_factor(JsonReader& moe) {
  const bool dropless = moe.boolean("dropless", false);
  if (!moe.has("capacity_factor")) {
    if (!dropless)
      moe.problem("capacity_factor", "missing-key", "\"capacity_factor\" or \"dropless\": true", "neither");
    return std::nullopt;
  }
  const double factor = moe.number("capacity_factor", 0.01, 1000);
  if (dropless) moe.problem("dropless", "conflict", "\"capacity_factor\" or \"dropless\": true", "both");
  return factor;
}

/// `reader` stands on the "moe" object.
MoeFfn read_moe(JsonReader& reader) {
  MoeFfn moe;
  const std::size_t before = reader.problem_count();
  moe.expert_count = reader.integer("experts", 1, kMaxExperts);
  const bool experts_known = reader.problem_count() == before;
  moe.expert_width = reader.integer("expert_width", 1, kMaxFfnWidth);
  const std::size_t before_shared = reader.problem_count();
  moe.shared_expert_width = reader.integer("shared_expert_width", 0, kMaxFfnWidth, moe.shared_expert_width);
  const bool shared_known = reader.problem_count() == before_shared;
  moe.gate = read_gate(reader, experts_known ? moe.expert_count : kMaxExperts);
  moe.capacity_factor = read_capacity_factor(reader);
  moe.shortcut = reader.choice("shortcut", kShortcuts, std::optional(moe.shortcut));
  moe.coefficient_gate = reader.choice("coefficient_gate", kCoefficientGates, std::optional(moe.coefficient_gate));
  moe.balance_loss_coefficient = reader.number("balance_loss", 0, 1000, moe.balance_loss_coefficient);
  if (shared_known && moe.coefficient_gate != CoefficientGate::DirectAdd && moe.shared_expert_width == 0) {
    reader.problem("coefficient_gate", "conflict", "direct_add, or a shared_expert_width above 0",
                   fmt::format("\"{}\" without a shared expert", name_of(kCoefficientGates, moe.coefficient_gate)));
  }
  return moe;
}

/// Where every block was read: does each shortcut find the block that it begins in?
void check_shortcuts(JsonReader& reader, std::string_view key, const MoeModel& model) {
  if (const Result<ForwardChain> chain = forward_chain(model, whole_model(model)); !chain.ok()) {
    reader.problem(key, "conflict", "a dense block before every MoE block with shortcut pos2 or pos3",
                   chain.error().text());
  }
}

/// "layers" and, if there is one, "moe".
std::vector<Block> read_pattern(JsonReader& model) {
  const bool has_moe = model.has("moe");
  const std::size_t before = model.problem_count();
  JsonReader layers = model.object("layers");
  const std::int64_t count = layers.integer("count", 1, kMaxBlocks);
  const std::int64_t every = has_moe ? layers.integer("moe_every", 1, kMaxBlocks, 1) : 1;
  const std::int64_t offset = has_moe ? layers.integer("moe_offset", 0, kMaxBlocks - 1, every - 1) : 0;
  const bool any_dense = !has_moe || every > 1;
  const std::int64_t dense_width =
      layers.integer("dense_width", 1, kMaxFfnWidth, any_dense ? std::nullopt : std::optional<std::int64_t>(1));
  if (!has_moe) return std::vector<Block>(static_cast<std::size_t>(count), Block{dense_width, std::nullopt});

  if (layers.problem_count() == before && (offset >= every || offset >= count)) {
    layers.problem("moe_offset", "out-of-range",
                   fmt::format("less than moe_every {} and count {}: else no block has a MoE", every, count),
                   std::to_string(offset));
  }
  JsonReader reader = model.object("moe");
  const MoeFfn moe = read_moe(reader);
  std::vector<Block> blocks;
  for (std::int64_t i = 0; i < count; ++i) {
    blocks.push_back(i % every == offset ? Block{0, moe} : Block{dense_width, std::nullopt});
  }
  return blocks;
}

/// "blocks": runs of alike blocks.
std::vector<Block> read_runs(JsonReader& model) {
  const std::size_t before = model.problem_count();
  std::vector<Block> blocks;
  for (JsonReader& run : model.objects("blocks")) {
    const std::int64_t repeat = run.integer("repeat", 1, kMaxBlocks, 1);
    const std::size_t end = blocks.size() + static_cast<std::size_t>(repeat);
    if (run.has("moe")) {
      JsonReader moe = run.object("moe");
      blocks.resize(end, Block{0, read_moe(moe)});
    } else {
      blocks.resize(end, Block{run.integer("dense_width", 1, kMaxFfnWidth), std::nullopt});
    }
  }
  if (model.problem_count() == before && (blocks.empty() || blocks.size() > kMaxBlocks)) {
    model.problem("blocks", "out-of-range", fmt::format("1 to {} blocks together", kMaxBlocks),
                  std::to_string(blocks.size()));
  }
  return blocks;
}

Json moe_json(const MoeFfn& moe) {
  Json json;
  json["experts"] = moe.expert_count;
  json["expert_width"] = moe.expert_width;
  json["shared_expert_width"] = moe.shared_expert_width;
  json["router"] = {
      {"kind", name_of(kRouters, moe.gate.router)}, {"top_k", moe.gate.top_k}, {"renormalize", moe.gate.renormalize}};
  if (moe.capacity_factor) {
    json["capacity_factor"] = *moe.capacity_factor;
  } else {
    json["dropless"] = true;
  }
  json["shortcut"] = name_of(kShortcuts, moe.shortcut);
  json["coefficient_gate"] = name_of(kCoefficientGates, moe.coefficient_gate);
  json["balance_loss"] = moe.balance_loss_coefficient;
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

MoeModel read_moe_model(JsonReader& reader) {
  MoeModel model;
  model.name = reader.text("name");
  const std::size_t before = reader.problem_count();
  model.d_model = reader.integer("d_model", 1, kMaxModelWidth);
  const bool d_model_known = reader.problem_count() == before;
  model.vocabulary = reader.integer("vocabulary", 1, kMaxTokens);
  model.max_sequence = reader.integer("max_sequence", 1, kMaxTokens);
  model.activation = reader.choice("activation", kActivations, std::optional(model.activation));
  model.norm = reader.choice("norm", kNorms, std::optional(model.norm));
  model.position = reader.choice("position", kPositions, std::optional(model.position));
  model.bias = reader.boolean("bias", model.bias);
  model.tie_embeddings = reader.boolean("tie_embeddings", model.tie_embeddings);
  model.norm_epsilon = reader.number("norm_epsilon", 0, 1, model.norm_epsilon);
  model.rope_theta = reader.number("rope_theta", 1, 1e12, model.rope_theta);
  model.attention = read_attention(reader, d_model_known ? std::optional(model.d_model) : std::nullopt, model.position);
  const std::size_t before_blocks = reader.problem_count();
  const bool runs = reader.has("blocks");
  model.blocks = runs ? read_runs(reader) : read_pattern(reader);
  if (reader.problem_count() == before_blocks) check_shortcuts(reader, runs ? "blocks" : "moe", model);
  return model;
}

Result<MoeModel> load_moe_model(const std::filesystem::path& path) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  MoeModel model = read_moe_model(reader);
  RETURN_IF_ERROR(reader.finish());
  return model;
}

Json to_json(const MoeModel& model) {
  Json json;
  json["name"] = model.name;
  json["d_model"] = model.d_model;
  json["vocabulary"] = model.vocabulary;
  json["max_sequence"] = model.max_sequence;
  json["attention"] = {
      {"heads", model.attention.heads}, {"kv_heads", model.attention.kv_heads}, {"head_dim", model.attention.head_dim}};
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
