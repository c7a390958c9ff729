#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "models/huggingface_reader.h"

namespace moecast {

// Keys as in the configuration classes of huggingface/transformers, models/<family>/configuration_<family>.py, and in
// the published config.json files.

namespace {

using Config = HuggingFaceReader;

constexpr std::int64_t kMostBlocks = 100'000;  // so that a wrong number cannot fill the memory

void read_norms_and_positions(Config& config, MoeModel& model) {
  model.norm = NormKind::RmsNorm;
  model.position = PositionKind::Rope;
  model.activation = Activation::SwiGlu;
  model.bias = false;
  model.norm_epsilon = config.number("rms_norm_eps", model.norm_epsilon);
  model.rope_theta = config.number("rope_theta", model.rope_theta);
  model.tie_embeddings = config.boolean("tie_word_embeddings", false);
}

void read_sizes(Config& config, MoeModel& model) {
  read_norms_and_positions(config, model);
  model.d_model = config.count({"hidden_size"});
  model.vocabulary = config.count({"vocab_size"});
  model.max_sequence = config.count({"max_position_embeddings"});
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu") config.problem("hidden_act", "\"silu\" (SwiGLU)", activation);
}

void read_heads(Config& config, MoeModel& model) {
  Attention& attention = model.attention;
  attention.heads = config.count({"num_attention_heads"});
  attention.kv_heads = config.count({"num_key_value_heads"}, attention.heads);
  attention.head_dim = config.count({"head_dim"}, std::max<std::int64_t>(1, model.d_model / attention.heads));
  attention.qkv_bias = config.boolean("attention_bias", false);
}

/// A window as wide as the longest sequence is none.
void set_window(MoeModel& model, std::int64_t window) {
  if (window < model.max_sequence) model.attention.window = window;
}

std::int64_t layer_count(Config& config, Config::Names names) {
  const std::int64_t layers = config.count(names);
  if (layers <= kMostBlocks) return layers;
  config.problem(*names.begin(), fmt::format("at most {} layers", kMostBlocks), std::to_string(layers));
  return 1;
}

void every_block(Config& config, MoeModel& model, const MoeFfn& moe) {
  model.blocks.assign(static_cast<std::size_t>(layer_count(config, {"num_hidden_layers"})), Block{0, moe});
}

MoeFfn local_experts(Config& config) {
  MoeFfn moe;
  moe.expert_count = config.count({"num_local_experts", "num_experts"});
  moe.gate.top_k = config.count({"num_experts_per_tok", "experts_per_token"});
  moe.expert_width = config.count({"intermediate_size"});
  moe.balance_loss_coefficient = config.number("router_aux_loss_coef", 0);
  return moe;
}

void read_mixtral(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  if (config.has("sliding_window")) set_window(model, config.count({"sliding_window"}));
  every_block(config, model, local_experts(config));
}

void read_olmoe(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  static_cast<void>(config.has("clip_qkv"));  // clamps values
  model.attention.qk_norm = QkNorm::Width;
  MoeFfn moe = local_experts(config);
  moe.gate.renormalize = config.boolean("norm_topk_prob", false);
  every_block(config, model, moe);
}

void read_phimoe(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  model.norm = NormKind::LayerNorm;
  if (config.has("sliding_window")) set_window(model, config.count({"sliding_window"}));
  MoeFfn moe = local_experts(config);
  moe.gate.router = RouterKind::SparseMixer;
  every_block(config, model, moe);
}

/// The published conversion of xai-org/grok-1.
void read_grok(Config& config, MoeModel& model) {
  read_norms_and_positions(config, model);
  model.d_model = config.count({"hidden_size"});
  model.vocabulary = config.count({"vocab_size"});
  model.max_sequence = config.count({"max_position_embeddings"});
  static_cast<void>(config.has("hidden_act"));
  static_cast<void>(config.has("max_attn_value"));  // bounds the scores
  model.activation = Activation::GeGlu;
  model.tie_embeddings = config.boolean("tie_word_embeddings", true);
  read_heads(config, model);
  MoeFfn moe = local_experts(config);
  moe.gate.renormalize = false;
  every_block(config, model, moe);
}

/// Positions i with i % every == offset, if these are those of `full`.
void set_full_layers(Config& config, const std::vector<std::string>& types, Attention& attention) {
  std::vector<std::int64_t> full;
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "full_attention") full.push_back(static_cast<std::int64_t>(i));
    if (types[i] != "full_attention" && types[i] != "sliding_attention") {
      return config.problem("layer_types", "full_attention and sliding_attention only", types[i]);
    }
  }
  if (full.empty()) return;
  attention.full_offset = full.front();
  attention.full_every = full.size() > 1 ? full[1] - full[0] : static_cast<std::int64_t>(types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (attention.window_of(static_cast<std::int64_t>(i)).has_value() != (types[i] == "sliding_attention")) {
      return config.problem("layer_types", "full attention in every n-th layer", fmt::format("another at {}", i));
    }
  }
}

void read_gpt_oss(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  static_cast<void>(config.has("swiglu_limit"));  // clamps values
  model.attention.qkv_bias = false;
  model.bias = config.boolean("attention_bias", true);  // and in the experts
  if (config.has("sliding_window")) set_window(model, config.count({"sliding_window"}));
  if (model.attention.window) set_full_layers(config, config.texts("layer_types"), model.attention);
  MoeFfn moe = local_experts(config);
  moe.gate.router = RouterKind::TopKSoftmax;
  every_block(config, model, moe);
}

/// Qwen: layer i has experts if it is not in mlp_only_layers and (i + 1) % decoder_sparse_step == 0.
void read_qwen_blocks(Config& config, MoeModel& model, const MoeFfn& moe) {
  const std::int64_t step = config.count({"decoder_sparse_step"}, 1);
  const std::vector<std::int64_t> dense = config.counts("mlp_only_layers");
  const std::int64_t dense_width = config.count({"intermediate_size"}, 1);
  const std::int64_t layers = layer_count(config, {"num_hidden_layers"});
  for (std::int64_t i = 0; i < layers; ++i) {
    const bool only_mlp = std::find(dense.begin(), dense.end(), i) != dense.end();
    model.blocks.push_back(!only_mlp && (i + 1) % step == 0 ? Block{0, moe} : Block{dense_width, std::nullopt});
  }
}

MoeFfn read_qwen_experts(Config& config) {
  MoeFfn moe;
  moe.expert_count = config.count({"num_experts"});
  moe.gate.top_k = config.count({"num_experts_per_tok"});
  moe.expert_width = config.count({"moe_intermediate_size"});
  moe.gate.renormalize = config.boolean("norm_topk_prob", false);
  moe.balance_loss_coefficient = config.number("router_aux_loss_coef", 0);
  return moe;
}

void read_qwen_window(Config& config, MoeModel& model) {
  const bool used = config.boolean("use_sliding_window", false);
  const std::int64_t window = config.count({"sliding_window"}, model.max_sequence);
  const std::int64_t lower = config.count({"max_window_layers"}, 0);
  if (used && lower > 0) {
    return config.problem("use_sliding_window", "false, or max_window_layers 0", "windows in the upper layers only");
  }
  if (used) set_window(model, window);
}

void read_qwen2_moe(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  model.attention.qkv_bias = config.boolean("qkv_bias", true);
  read_qwen_window(config, model);
  MoeFfn moe = read_qwen_experts(config);
  moe.shared_expert_width = config.count({"shared_expert_intermediate_size"});
  moe.coefficient_gate = CoefficientGate::Cg1;
  read_qwen_blocks(config, model, moe);
}

void read_qwen3_moe(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  model.attention.qk_norm = QkNorm::Head;
  read_qwen_window(config, model);
  read_qwen_blocks(config, model, read_qwen_experts(config));
}

void read_latent(Config& config, MoeModel& model) {
  LatentAttention latent;
  if (config.has("q_lora_rank")) latent.query_rank = config.count({"q_lora_rank"});
  latent.kv_rank = config.count({"kv_lora_rank"});
  latent.nope_dim = config.count({"qk_nope_head_dim"}, 0);
  latent.rope_dim = config.count({"qk_rope_head_dim"});
  latent.value_dim = config.count({"v_head_dim"});
  Attention& attention = model.attention;
  attention.heads = attention.kv_heads = config.count({"num_attention_heads"});
  attention.head_dim = latent.nope_dim + latent.rope_dim;
  attention.latent = latent;
  for (const char* said_above : {"num_key_value_heads", "head_dim", "qk_head_dim"}) {
    static_cast<void>(config.has(said_above));
  }
  if (config.boolean("attention_bias", false)) config.problem("attention_bias", "false with latent attention", "true");
}

void read_groups(Config& config, GateRule& gate) {
  const std::int64_t groups = config.count({"n_group"}, 1), chosen = config.count({"topk_group"}, 1);
  const std::string method = config.text("topk_method", gate.selection_bias ? "noaux_tc" : "greedy");
  if (method != "greedy" && method != "group_limited_greedy" && method != "noaux_tc") {
    config.problem("topk_method", "greedy, group_limited_greedy or noaux_tc", method);
  }
  gate.selection_bias = method == "noaux_tc";
  if (method == "greedy" || groups == 1) return;
  gate.groups = groups;
  gate.top_groups = chosen;
}

/// DeepSeekMoE and what follows its keys.
MoeFfn read_deepseek_experts(Config& config, RouterKind router) {
  MoeFfn moe;
  moe.expert_count = config.count({"n_routed_experts"});
  moe.expert_width = config.count({"moe_intermediate_size"});
  moe.shared_expert_width = moe.expert_width * config.count({"n_shared_experts"}, 0);
  moe.gate.router = router;
  moe.gate.top_k = config.count({"num_experts_per_tok"});
  moe.gate.renormalize = config.boolean("norm_topk_prob", false);
  moe.gate.scale = config.number("routed_scaling_factor", 1);
  moe.gate.selection_bias = router == RouterKind::SigmoidTopK;
  moe.balance_loss_coefficient = config.number("aux_loss_alpha", 0);
  static_cast<void>(config.has("seq_aux"));
  const std::string scoring = config.text("scoring_func", router == RouterKind::SigmoidTopK ? "sigmoid" : "softmax");
  if (scoring == "sigmoid" || scoring == "softmax") {
    moe.gate.router = scoring == "sigmoid" ? RouterKind::SigmoidTopK : RouterKind::SoftmaxTopK;
  } else {
    config.problem("scoring_func", "softmax or sigmoid", scoring);
  }
  read_groups(config, moe.gate);
  return moe;
}

void leave_out_prediction(Config& config, MoeModel& model) {
  const std::int64_t extra = config.count({"num_nextn_predict_layers"}, 0);
  if (extra > 0) model.source += fmt::format("; without its {} multi-token prediction layer(s)", extra);
}

/// Layer i has experts if i >= first_k_dense_replace and i % moe_layer_freq == 0.
void read_deepseek_blocks(Config& config, MoeModel& model, const MoeFfn& moe) {
  const std::int64_t layers = layer_count(config, {"num_hidden_layers"});
  const std::int64_t dense_width = config.count({"intermediate_size"});
  const std::int64_t first = config.count({"first_k_dense_replace"}, 0), every = config.count({"moe_layer_freq"}, 1);
  for (std::int64_t i = 0; i < layers; ++i) {
    model.blocks.push_back(i >= first && i % every == 0 ? Block{0, moe} : Block{dense_width, std::nullopt});
  }
  leave_out_prediction(config, model);
}

void read_deepseek(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  read_deepseek_blocks(config, model, read_deepseek_experts(config, RouterKind::SoftmaxTopK));
}

void read_deepseek_v2(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_latent(config, model);
  read_deepseek_blocks(config, model, read_deepseek_experts(config, RouterKind::SoftmaxTopK));
}

void read_deepseek_v3(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_latent(config, model);
  read_deepseek_blocks(config, model, read_deepseek_experts(config, RouterKind::SigmoidTopK));
}

void read_glm4_moe(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  if (config.boolean("use_qk_norm", false)) model.attention.qk_norm = QkNorm::Head;
  read_deepseek_blocks(config, model, read_deepseek_experts(config, RouterKind::SigmoidTopK));
}

void read_dbrx(Config& config, MoeModel& model) {
  read_norms_and_positions(config, model);
  model.norm = NormKind::LayerNorm;
  model.d_model = config.count({"d_model"});
  model.vocabulary = config.count({"vocab_size"});
  model.max_sequence = config.count({"max_seq_len"});
  Config attention = config.object("attn_config"), ffn = config.object("ffn_config");
  model.attention.heads = config.count({"n_heads"});
  model.attention.kv_heads = attention.count({"kv_n_heads"});
  model.attention.head_dim = std::max<std::int64_t>(1, model.d_model / model.attention.heads);
  model.rope_theta = attention.number("rope_theta", model.rope_theta);
  MoeFfn moe;
  moe.expert_count = ffn.count({"moe_num_experts"});
  moe.expert_width = ffn.count({"ffn_hidden_size"});
  moe.gate.top_k = ffn.count({"moe_top_k"});
  moe.gate.renormalize = !ffn.has("moe_normalize_expert_weights") || ffn.number("moe_normalize_expert_weights", 1) == 1;
  moe.balance_loss_coefficient = ffn.number("moe_loss_weight", config.number("router_aux_loss_coef", 0));
  for (const char* clamp_or_function : {"clip_qkv", "ffn_act_fn"}) {
    static_cast<void>(attention.has(clamp_or_function) || ffn.has(clamp_or_function));
  }
  std::vector<std::string> ignored;
  attention.place_the_rest(ignored);
  ffn.place_the_rest(ignored);
  model.blocks.assign(static_cast<std::size_t>(layer_count(config, {"n_layers"})), Block{0, moe});
}

/// Every interleave_moe_layer_step-th layer has experts and a shared expert of the same width. Layers see chunks of
/// attention_chunk_size tokens, at most as many as a window of that width, but for every fourth, which sees all.
void read_llama4(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_heads(config, model);
  static_cast<void>(config.has("use_qk_norm"));  // without gains
  static_cast<void>(config.has("no_rope_layers"));
  if (config.has("attention_chunk_size")) set_window(model, config.count({"attention_chunk_size"}));
  if (model.attention.window) {
    model.attention.full_every = config.count({"no_rope_layer_interval"}, 4);
    model.attention.full_offset = model.attention.full_every - 1;
  }
  MoeFfn moe = local_experts(config);
  moe.gate.router = RouterKind::SigmoidTopK;
  moe.gate.renormalize = false;
  moe.shared_expert_width = moe.expert_width;
  const std::int64_t step = config.count({"interleave_moe_layer_step"});
  const std::int64_t dense_width = config.count({"intermediate_size_mlp"});
  const std::int64_t layers = layer_count(config, {"num_hidden_layers"});
  static_cast<void>(config.has("moe_layers"));  // follow from the step
  for (std::int64_t i = 0; i < layers; ++i) {
    model.blocks.push_back((i + 1) % step == 0 ? Block{0, moe} : Block{dense_width, std::nullopt});
  }
}

/// A layer has two attentions and two dense FFNs; the experts read what the first FFN reads and are added after the
/// second (arXiv 2509.01322, section 2.2): ScMoE's Pos-2 with the second FFN as shared expert, so two of our blocks.
void read_longcat_flash(Config& config, MoeModel& model) {
  read_sizes(config, model);
  read_latent(config, model);
  const std::int64_t dense_width = config.count({"ffn_hidden_size", "intermediate_size"});
  MoeFfn moe;
  moe.expert_count = config.count({"n_routed_experts"});
  moe.zero_expert_count = config.count({"zero_expert_num"}, 0);
  moe.expert_width = config.count({"expert_ffn_hidden_size"});
  moe.shared_expert_width = dense_width;
  moe.shortcut = Shortcut::Pos2;
  moe.gate.top_k = config.count({"moe_topk"});
  moe.gate.renormalize = config.boolean("norm_topk_prob", false);
  moe.gate.selection_bias = true;
  moe.gate.scale = config.number("routed_scaling_factor", 1);
  moe.balance_loss_coefficient = 0;
  const std::string zero = config.text("zero_expert_type", "identity");
  if (zero != "identity") config.problem("zero_expert_type", "identity", zero);
  static_cast<void>(config.boolean("router_bias", false));
  static_cast<void>(config.has("num_hidden_layers"));  // attentions: twice num_layers
  const std::int64_t layers = layer_count(config, {"num_layers"});
  for (std::int64_t i = 0; i < layers; ++i) {
    model.blocks.push_back(Block{dense_width, std::nullopt});
    model.blocks.push_back(Block{0, moe});
  }
  leave_out_prediction(config, model);
}

}  // namespace

const std::vector<HuggingFaceFamily>& huggingface_families() {
  static const std::vector<HuggingFaceFamily> families = {
      {"mixtral", "MixtralForCausalLM", read_mixtral},
      {"qwen2_moe", "Qwen2MoeForCausalLM", read_qwen2_moe},
      {"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe},
      {"qwen3_vl_moe_text", "Qwen3VLMoeForConditionalGeneration", read_qwen3_moe},
      {"deepseek", "DeepseekForCausalLM", read_deepseek},
      {"deepseek_v2", "DeepseekV2ForCausalLM", read_deepseek_v2},
      {"deepseek_v3", "DeepseekV3ForCausalLM", read_deepseek_v3},
      {"kimi_k2", "DeepseekV3ForCausalLM", read_deepseek_v3},
      {"glm4_moe", "Glm4MoeForCausalLM", read_glm4_moe},
      {"olmoe", "OlmoeForCausalLM", read_olmoe},
      {"dbrx", "DbrxForCausalLM", read_dbrx},
      {"grok-1", "Grok1ModelForCausalLM", read_grok},
      {"phimoe", "PhiMoEForCausalLM", read_phimoe},
      {"llama4_text", "Llama4ForCausalLM", read_llama4},
      {"llama4", "Llama4ForConditionalGeneration", read_llama4},
      {"gpt_oss", "GptOssForCausalLM", read_gpt_oss},
      {"longcat_flash", "LongcatFlashForCausalLM", read_longcat_flash},
  };
  return families;
}

}  // namespace moecast
