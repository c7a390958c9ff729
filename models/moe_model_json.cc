#include "models/moe_model_json.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "models/forward_chain.h"
#include "models/huggingface.h"
#include "models/moe_model_names.h"

namespace moecast {

namespace {

// Upper ends of the ranges: beyond every published model, and small enough that no count of bytes overflows 63 bits.
constexpr std::int64_t kMaxModelWidth = 65'536;
constexpr std::int64_t kMaxFfnWidth = 262'144;
constexpr std::int64_t kMaxExperts = 4'096;
constexpr std::int64_t kMaxBlocks = 1'024;
constexpr std::int64_t kMaxHeads = 4'096;
constexpr std::int64_t kMaxTokens = 16'777'216;  // vocabulary, sequence

/// "latent": its heads have a query and key of nope_dim + rope_dim columns each.
void read_latent(JsonReader& attention, Attention& out) {
  JsonReader reader = attention.object("latent");
  LatentAttention latent;
  if (reader.has("query_rank")) latent.query_rank = reader.integer("query_rank", 1, kMaxModelWidth);
  latent.kv_rank = reader.integer("kv_rank", 1, kMaxModelWidth);
  latent.nope_dim = reader.integer("nope_dim", 0, kMaxModelWidth);
  latent.rope_dim = reader.integer("rope_dim", 1, kMaxModelWidth);
  latent.value_dim = reader.integer("value_dim", 1, kMaxModelWidth);
  out.latent = latent;
  out.kv_heads = out.heads;
  out.head_dim = latent.nope_dim + latent.rope_dim;
}

/// `d_model` has no value where it could not be read; `before` counts the problems before `attention` was begun.
void read_heads(JsonReader& reader, std::optional<std::int64_t> d_model, PositionKind position, std::size_t before,
                Attention& attention) {
  attention.kv_heads = reader.integer("kv_heads", 1, kMaxHeads, attention.heads);
  const bool given = reader.has("head_dim");
  const std::int64_t even_share = d_model.value_or(0) / attention.heads;
  attention.head_dim = reader.integer("head_dim", 1, kMaxModelWidth, std::max<std::int64_t>(even_share, 1));
  attention.qk_norm = reader.choice("qk_norm", kQkNorms, std::optional(attention.qk_norm));
  attention.qkv_bias = reader.boolean("qkv_bias", attention.qkv_bias);
  if (reader.problem_count() != before) return;
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
}

void read_window(JsonReader& reader, Attention& attention) {
  if (!reader.has("window")) return;  // full_every without it is an unknown key
  attention.window = reader.integer("window", 1, kMaxTokens);
  if (!reader.has("full_every")) return;
  const std::size_t before = reader.problem_count();
  attention.full_every = reader.integer("full_every", 1, kMaxBlocks);
  attention.full_offset = reader.integer("full_offset", 0, kMaxBlocks - 1, attention.full_every - 1);
  if (reader.problem_count() == before && attention.full_offset >= attention.full_every) {
    reader.problem("full_offset", "out-of-range", fmt::format("less than full_every {}", attention.full_every),
                   std::to_string(attention.full_offset));
  }
}

Attention read_attention(JsonReader& model, std::optional<std::int64_t> d_model, PositionKind position) {
  const std::size_t before = model.problem_count();
  JsonReader reader = model.object("attention");
  Attention attention;
  attention.heads = reader.integer("heads", 1, kMaxHeads);
  if (reader.has("latent")) {
    read_latent(reader, attention);
  } else {
    read_heads(reader, d_model, position, before, attention);
  }
  read_window(reader, attention);
  return attention;
}

/// Experts in equal groups of which a token uses the best few.
void read_groups(JsonReader& reader, std::int64_t expert_count, GateRule& gate) {
  if (!reader.has("groups")) return;  // top_groups without it is an unknown key
  const std::size_t before = reader.problem_count();
  gate.groups = reader.integer("groups", 1, kMaxExperts);
  gate.top_groups = reader.integer("top_groups", 1, kMaxExperts, gate.groups);
  if (reader.problem_count() != before) return;
  if (expert_count % gate.groups != 0) {
    reader.problem("groups", "out-of-range", fmt::format("a divisor of the {} experts", expert_count),
                   std::to_string(gate.groups));
  } else if (gate.top_groups > gate.groups || gate.top_groups * (expert_count / gate.groups) < gate.top_k) {
    reader.problem("top_groups", "out-of-range",
                   fmt::format("at most the {} groups, and together {} experts or more", gate.groups, gate.top_k),
                   std::to_string(gate.top_groups));
  }
}

/// `choice_count`: experts and zero experts, where they are known.
GateRule read_gate(JsonReader& moe, std::optional<std::int64_t> choice_count) {
  const std::size_t before = moe.problem_count();
  JsonReader reader = moe.object("router");
  GateRule gate;
  gate.router = reader.choice("kind", kRouters, std::optional(gate.router));
  gate.top_k = reader.integer("top_k", 1, kMaxExperts);
  gate.renormalize = reader.boolean("renormalize", gate.renormalize);
  gate.selection_bias = reader.boolean("selection_bias", gate.selection_bias);
  if (gate.selection_bias) gate.bias_rate = reader.number("bias_rate", 0, 1, gate.bias_rate);
  gate.scale = reader.number("scale", 1e-6, 1e6, gate.scale);
  if (moe.problem_count() != before) return gate;
  if (choice_count && gate.top_k > *choice_count) {
    reader.problem("top_k", "out-of-range", fmt::format("at most the {} experts", *choice_count),
                   std::to_string(gate.top_k));
  }
  if (choice_count) read_groups(reader, *choice_count, gate);
  const bool ranks_experts = gate.router == RouterKind::SoftmaxTopK || gate.router == RouterKind::TopKSoftmax ||
                             gate.router == RouterKind::SigmoidTopK;
  for (const auto& [key, given] : {std::pair("selection_bias", gate.selection_bias), {"groups", gate.groups > 1}}) {
    if (!given || ranks_experts) continue;
    reader.problem(key, "conflict", "a router that ranks its experts: softmax_top_k, top_k_softmax, sigmoid_top_k",
                   fmt::format("\"{}\"", name_of(kRouters, gate.router)));
  }
  const bool pair = gate.router == RouterKind::RandomSecond || gate.router == RouterKind::SparseMixer;
  if (pair && gate.top_k != 2) {
    reader.problem("top_k", "conflict", fmt::format("2 with the router {}", name_of(kRouters, gate.router)),
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

/// Losses beside the balance loss.
void read_router_losses(JsonReader& reader, MoeFfn& moe) {
  RouterLosses& losses = moe.loss_coefficients;
  losses.importance = reader.number("importance_loss", 0, 1000, losses.importance);
  losses.load = reader.number("load_loss", 0, 1000, losses.load);
  losses.z = reader.number("z_loss", 0, 1000, losses.z);
  const std::string router = fmt::format("0 with the router {}", name_of(kRouters, moe.gate.router));
  if (losses.load > 0 && moe.gate.router != RouterKind::NoisyTopK) {
    reader.problem("load_loss", "conflict", router + " (noisy_top_k has an expected load)",
                   fmt::format("{}", losses.load));
  }
  for (const auto& [key, value] : {std::pair("importance_loss", losses.importance), {"z_loss", losses.z}}) {
    if (value <= 0 || moe.gate.has_weights()) continue;
    reader.problem(key, "conflict", router + ", which learns nothing", fmt::format("{}", value));
  }
}

/// Conditions on what experts there are to choose from.
void check_choices(JsonReader& reader, const MoeFfn& moe) {
  const bool expert_choice = moe.gate.router == RouterKind::ExpertChoice;
  if (moe.double_gate && 2 * moe.gate.top_k > moe.choice_count()) {
    reader.problem("double_gate", "conflict", fmt::format("{} experts: twice top_k", 2 * moe.gate.top_k),
                   std::to_string(moe.choice_count()));
  } else if (moe.double_gate && (expert_choice || moe.gate.groups > 1 || moe.zero_expert_count > 0)) {
    reader.problem("double_gate", "conflict", "a router by token, without groups, and no zero_experts", "true");
  }
  if (expert_choice && moe.zero_expert_count > 0) {
    reader.problem("zero_experts", "conflict", "0: with expert_choice experts that compute choose",
                   std::to_string(moe.zero_expert_count));
  }
}

/// `reader` stands on the "moe" object.
MoeFfn read_moe(JsonReader& reader) {
  MoeFfn moe;
  const std::size_t before = reader.problem_count();
  moe.expert_count = reader.integer("experts", 1, kMaxExperts);
  moe.zero_expert_count = reader.integer("zero_experts", 0, kMaxExperts, moe.zero_expert_count);
  const bool experts_known = reader.problem_count() == before;
  moe.expert_width = reader.integer("expert_width", 1, kMaxFfnWidth);
  const std::size_t before_shared = reader.problem_count();
  moe.shared_expert_width = reader.integer("shared_expert_width", 0, kMaxFfnWidth, moe.shared_expert_width);
  const bool shared_known = reader.problem_count() == before_shared;
  moe.gate = read_gate(reader, experts_known ? std::optional(moe.choice_count()) : std::nullopt);
  moe.capacity_factor = read_capacity_factor(reader);
  moe.shortcut = reader.choice("shortcut", kShortcuts, std::optional(moe.shortcut));
  moe.double_gate = reader.boolean("double_gate", moe.double_gate);
  moe.coefficient_gate = reader.choice("coefficient_gate", kCoefficientGates, std::optional(moe.coefficient_gate));
  moe.balance_loss_coefficient = reader.number("balance_loss", 0, 1000, moe.balance_loss_coefficient);
  read_router_losses(reader, moe);
  if (shared_known && moe.coefficient_gate != CoefficientGate::DirectAdd && moe.shared_expert_width == 0) {
    reader.problem("coefficient_gate", "conflict", "direct_add, or a shared_expert_width above 0",
                   fmt::format("\"{}\" without a shared expert", name_of(kCoefficientGates, moe.coefficient_gate)));
  }
  if (moe.double_gate && (moe.shortcut == Shortcut::None || moe.shared_expert_width > 0)) {
    reader.problem("double_gate", "conflict", "a shortcut, and no shared expert", "true");
  }
  if (experts_known) check_choices(reader, moe);
  if (moe.gate.router == RouterKind::ExpertChoice && !moe.capacity_factor && reader.has("dropless")) {
    reader.problem("dropless", "conflict", "a capacity_factor: experts that choose take so many tokens each", "true");
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

/// Appends what the runs of "blocks" stand for; one block more than the most is enough to see that they are too many.
void append_runs(JsonReader& parent, std::vector<Block>& blocks) {
  for (JsonReader& run : parent.objects("blocks")) {
    const std::int64_t repeat = run.integer("repeat", 1, kMaxBlocks, 1);
    std::vector<Block> sequence;
    if (run.has("blocks")) {
      append_runs(run, sequence);
    } else if (run.has("moe")) {
      JsonReader moe = run.object("moe");
      sequence.push_back(Block{0, read_moe(moe)});
    } else {
      sequence.push_back(Block{run.integer("dense_width", 1, kMaxFfnWidth), std::nullopt});
    }
    for (std::int64_t i = 0; i < repeat && blocks.size() <= kMaxBlocks; ++i) {
      blocks.insert(blocks.end(), sequence.begin(), sequence.end());
    }
  }
}

/// "blocks": runs of a block or of a sequence of blocks.
std::vector<Block> read_runs(JsonReader& model) {
  const std::size_t before = model.problem_count();
  std::vector<Block> blocks;
  append_runs(model, blocks);
  if (model.problem_count() == before && (blocks.empty() || blocks.size() > kMaxBlocks)) {
    model.problem("blocks", "out-of-range", fmt::format("1 to {} blocks together", kMaxBlocks),
                  blocks.empty() ? std::string("none") : std::string("more"));
  }
  return blocks;
}

}  // namespace

MoeModel read_moe_model(JsonReader& reader) {
  MoeModel model;
  model.name = reader.text("name");
  model.source = reader.text("source", model.source);
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
  if (is_huggingface_config(*document)) {
    Result<HuggingFaceModel> found = read_huggingface_config(*document);
    if (!found.ok()) return found.error();
    return std::move(found).value().model;
  }
  JsonReader reader(*document);
  MoeModel model = read_moe_model(reader);
  RETURN_IF_ERROR(reader.finish());
  return model;
}

}  // namespace moecast
