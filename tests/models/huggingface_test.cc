#include "models/huggingface.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "models/moe_model_json.h"
#include "models/workload.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kZoo = std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo";

/// The keys and values of a published config.json that describe the model, and the zoo's description of the same model.
struct Fixture {
  const char* zoo;
  const char* config;
};

const Fixture kFixtures[] = {
    {"mixtral_8x7b", R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
      "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
      "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
      "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null,
      "tie_word_embeddings": false, "vocab_size": 32000, "torch_dtype": "bfloat16", "use_cache": true})"},
    {"qwen15_moe_a27b", R"({"model_type": "qwen2_moe", "decoder_sparse_step": 1, "hidden_size": 2048,
      "intermediate_size": 5632, "max_position_embeddings": 8192, "max_window_layers": 21,
      "moe_intermediate_size": 1408, "norm_topk_prob": false, "num_attention_heads": 16, "num_experts": 60,
      "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 16, "rms_norm_eps": 1e-06,
      "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 5632,
      "sliding_window": 32768, "use_sliding_window": false, "vocab_size": 151936})"},
    {"qwen3_30b_a3b", R"({"model_type": "qwen3_moe", "attention_bias": false, "decoder_sparse_step": 1, "head_dim": 128,
      "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
      "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
      "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
      "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "use_sliding_window": false,
      "vocab_size": 151936})"},
    {"deepseek_moe_16b", R"({"model_type": "deepseek", "first_k_dense_replace": 1, "hidden_size": 2048,
      "intermediate_size": 10944, "max_position_embeddings": 4096, "moe_intermediate_size": 1408, "moe_layer_freq": 1,
      "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16,
      "num_experts_per_tok": 6, "num_hidden_layers": 28, "num_key_value_heads": 16, "rms_norm_eps": 1e-06,
      "aux_loss_alpha": 0.001, "scoring_func": "softmax", "vocab_size": 102400})"},
    {"deepseek_v2_lite", R"({"model_type": "deepseek_v2", "aux_loss_alpha": 0.001, "first_k_dense_replace": 1,
      "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
      "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
      "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
      "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
      "rope_theta": 10000, "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-06, "scoring_func": "softmax",
      "topk_group": 1, "topk_method": "greedy", "v_head_dim": 128, "vocab_size": 102400})"},
    {"deepseek_v2", R"({"model_type": "deepseek_v2", "aux_loss_alpha": 0.003, "first_k_dense_replace": 1,
      "hidden_size": 5120, "intermediate_size": 12288, "kv_lora_rank": 512, "max_position_embeddings": 163840,
      "moe_intermediate_size": 1536, "n_group": 8, "n_routed_experts": 160, "n_shared_experts": 2,
      "norm_topk_prob": false, "num_attention_heads": 128, "num_experts_per_tok": 6, "num_hidden_layers": 60,
      "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_theta": 10000,
      "routed_scaling_factor": 16.0, "scoring_func": "softmax", "topk_group": 3, "topk_method": "group_limited_greedy",
      "v_head_dim": 128, "vocab_size": 102400})"},
    {"deepseek_v3", R"({"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
      "aux_loss_alpha": 0.0001, "ep_size": 1, "first_k_dense_replace": 3, "hidden_size": 7168,
      "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "moe_intermediate_size": 2048,
      "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
      "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
      "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
      "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "rms_norm_eps": 1e-06,
      "rope_scaling": {"factor": 40, "type": "yarn"}, "rope_theta": 10000, "routed_scaling_factor": 2.5,
      "scoring_func": "sigmoid", "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
      "v_head_dim": 128, "vocab_size": 129280})"},
    {"kimi_k2", R"({"model_type": "kimi_k2", "aux_loss_alpha": 0.001, "first_k_dense_replace": 1, "hidden_size": 7168,
      "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 131072, "moe_intermediate_size": 2048,
      "n_group": 1, "n_routed_experts": 384, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 64,
      "num_experts_per_tok": 8, "num_hidden_layers": 61, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
      "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_theta": 50000.0, "routed_scaling_factor": 2.827,
      "scoring_func": "sigmoid", "seq_aux": true, "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 128,
      "vocab_size": 163840})"},
    {"glm45", R"({"model_type": "glm4_moe", "attention_bias": true, "first_k_dense_replace": 3, "head_dim": 128,
      "hidden_size": 5120, "intermediate_size": 12288, "max_position_embeddings": 131072, "moe_intermediate_size": 1536,
      "n_group": 1, "n_routed_experts": 160, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 96,
      "num_experts_per_tok": 8, "num_hidden_layers": 92, "num_key_value_heads": 8, "num_nextn_predict_layers": 1,
      "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_theta": 1000000, "routed_scaling_factor": 2.5,
      "topk_group": 1, "use_qk_norm": true, "vocab_size": 151552})"},
    {"olmoe_1b_7b", R"({"model_type": "olmoe", "attention_bias": false, "clip_qkv": null, "hidden_size": 2048,
      "intermediate_size": 1024, "max_position_embeddings": 4096, "norm_topk_prob": false, "num_attention_heads": 16,
      "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16, "num_key_value_heads": 16,
      "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "router_aux_loss_coef": 0.01, "vocab_size": 50304})"},
    {"dbrx", R"({"model_type": "dbrx", "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "model_type": "",
      "rope_theta": 500000}, "d_model": 6144, "emb_pdrop": 0.0, "ffn_config": {"ffn_hidden_size": 10752,
      "moe_jitter_eps": 0.01, "moe_loss_weight": 0.05, "moe_num_experts": 16, "moe_top_k": 4}, "max_seq_len": 32768,
      "n_heads": 48, "n_layers": 40, "router_aux_loss_coef": 0.05, "tie_word_embeddings": false,
      "vocab_size": 100352})"},
    {"grok_1", R"({"model_type": "grok-1", "attn_output_multiplier": 0.088, "embedding_multiplier_scale": 78.38,
      "hidden_size": 6144, "intermediate_size": 32768, "max_attn_value": 30.0, "max_position_embeddings": 8192,
      "num_attention_heads": 48, "num_experts": 8, "num_experts_per_tok": 2, "num_hidden_layers": 64,
      "num_key_value_heads": 8, "output_multiplier_scale": 0.577, "rms_norm_eps": 1e-05, "rope_theta": 10000,
      "router_aux_loss_coef": 0.001, "tie_word_embeddings": true, "vocab_size": 131072})"},
    {"phi35_moe", R"({"model_type": "phimoe", "attention_bias": true, "hidden_size": 4096, "input_jitter_noise": 0.01,
      "intermediate_size": 6400, "lm_head_bias": true, "max_position_embeddings": 131072, "num_attention_heads": 32,
      "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 16,
      "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "router_aux_loss_coef": 0.0, "router_jitter_noise": 0.01,
      "sliding_window": 131072, "vocab_size": 32064})"},
    {"llama4_scout", R"({"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
      "boi_token_index": 200080, "text_config": {"model_type": "llama4_text", "attention_bias": false,
      "attention_chunk_size": 8192, "attn_scale": 0.1, "floor_scale": 8192, "head_dim": 128, "hidden_act": "silu",
      "hidden_size": 5120, "interleave_moe_layer_step": 1, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
      "max_position_embeddings": 10485760, "no_rope_layers": [], "num_attention_heads": 40, "num_experts_per_tok": 1,
      "num_hidden_layers": 48, "num_key_value_heads": 8, "num_local_experts": 16, "rms_norm_eps": 1e-05,
      "rope_theta": 500000.0, "router_aux_loss_coef": 0.001, "use_qk_norm": true, "vocab_size": 202048},
      "vision_config": {"hidden_size": 1408, "num_hidden_layers": 34}})"},
    {"llama4_maverick", R"({"model_type": "llama4_text", "attention_chunk_size": 8192, "head_dim": 128,
      "hidden_size": 5120, "interleave_moe_layer_step": 2, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
      "max_position_embeddings": 1048576, "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48,
      "num_key_value_heads": 8, "num_local_experts": 128, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "router_aux_loss_coef": 0.001, "use_qk_norm": false, "vocab_size": 202048})"},
    {"gpt_oss_20b", R"({"model_type": "gpt_oss", "attention_bias": true, "experts_per_token": 4, "head_dim": 64,
      "hidden_size": 2880, "initial_context_length": 4096, "intermediate_size": 2880,
      "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention",
      "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
      "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
      "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
      "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
      "max_position_embeddings": 131072, "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
      "num_key_value_heads": 8, "num_local_experts": 32, "rms_norm_eps": 1e-05, "rope_theta": 150000,
      "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 201088})"},
    {"longcat_flash", R"({"architectures": ["LongcatFlashForCausalLM"], "attention_bias": false,
      "attention_method": "MLA", "expert_ffn_hidden_size": 2048, "ffn_hidden_size": 12288, "hidden_size": 6144,
      "kv_lora_rank": 512, "max_position_embeddings": 131072, "mla_scale_kv_lora": true, "mla_scale_q_lora": true,
      "moe_topk": 12, "n_routed_experts": 512, "num_attention_heads": 64, "num_layers": 28, "q_lora_rank": 1536,
      "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05, "rope_theta": 10000000.0,
      "routed_scaling_factor": 6.0, "router_bias": false, "v_head_dim": 128, "vocab_size": 131072,
      "zero_expert_num": 256, "zero_expert_type": "identity"})"},
};

Result<HuggingFaceModel> read(const std::string& text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "config.json");
  if (!document.ok()) return document.error();
  EXPECT_TRUE(is_huggingface_config(*document));
  return read_huggingface_config(*document);
}

Json fixture(const std::string& zoo) {
  for (const Fixture& each : kFixtures) {
    if (each.zoo == zoo) return Json::parse(each.config);
  }
  ADD_FAILURE() << zoo;
  return {};
}

std::vector<std::string> problems(const Json& config) {
  const Result<HuggingFaceModel> found = read(config.dump());
  std::vector<std::string> out;
  if (found.ok()) return out;
  for (const Problem& problem : found.error().problems) out.push_back(problem.pointer + " " + problem.code);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(HuggingFace, EveryFamilyGivesTheModelOfTheZoo) {
  for (const Fixture& each : kFixtures) {
    Result<HuggingFaceModel> found = read(each.config);
    ASSERT_TRUE(found.ok()) << each.zoo << "\n" << found.error().text();
    MoeModel expected = *load_moe_model(kZoo / (std::string(each.zoo) + ".json"));
    EXPECT_FALSE(found->model.source.empty());
    expected.name = found->model.name;
    expected.source = found->model.source;
    EXPECT_EQ(found->model, expected) << each.zoo << to_json(found->model).dump(2);
  }
}

TEST(HuggingFace, WhatChangesNoShapeIsListedAsIgnored) {
  const HuggingFaceModel found = *read(fixture("deepseek_v3").dump());
  EXPECT_EQ(found.ignored, (std::vector<std::string>{"architectures", "model_type", "ep_size", "quantization_config",
                                                     "rope_scaling"}));
  EXPECT_NE(found.model.source.find("without its 1 multi-token prediction"), std::string::npos) << found.model.source;
}

TEST(HuggingFace, KeysThatMatterAndHaveNoPlaceAreProblems) {
  Json config = fixture("mixtral_8x7b");
  config["num_shared_experts"] = 2;
  config["linear_attention_layers"] = Json::array({1, 2});
  config["some_new_switch"] = true;     // says nothing of shape
  config["moe_latent_size"] = nullptr;  // absent
  config["use_expert_bias"] = false;    // absent in effect
  EXPECT_EQ(problems(config),
            (std::vector<std::string>{"/linear_attention_layers unplaced", "/num_shared_experts unplaced"}));
}

TEST(HuggingFace, EveryProblemIsReportedTogether) {
  Json config = fixture("deepseek_v3");
  config.erase("n_routed_experts");
  config["kv_lora_rank"] = "wide";
  config["scoring_func"] = "sqrtsoftplus";
  config["topk_method"] = "auction";
  config["hidden_act"] = "gelu";
  EXPECT_EQ(problems(config), (std::vector<std::string>{"/hidden_act unsupported", "/kv_lora_rank wrong-type",
                                                        "/n_routed_experts missing-key", "/scoring_func unsupported",
                                                        "/topk_method unsupported"}));
}

TEST(HuggingFace, NothingThatCannotBeDescribedIsGuessed) {
  Json layers = fixture("gpt_oss_20b");
  layers["layer_types"][5] = "sliding_attention";  // no longer every second
  EXPECT_EQ(problems(layers), std::vector<std::string>{"/layer_types unsupported"});
  Json upper = fixture("qwen3_30b_a3b");
  upper["use_sliding_window"] = true;
  upper["sliding_window"] = 4096;
  EXPECT_EQ(problems(upper), std::vector<std::string>{"/use_sliding_window unsupported"});
  Json zero = fixture("longcat_flash");
  zero["zero_expert_type"] = "copy";
  EXPECT_EQ(problems(zero), std::vector<std::string>{"/zero_expert_type unsupported"});
}

TEST(HuggingFace, TheModelIsCheckedAsOneOfOurs) {
  Json config = fixture("mixtral_8x7b");
  config["num_key_value_heads"] = 5;
  config["num_experts_per_tok"] = 9;
  const Result<HuggingFaceModel> found = read(config.dump());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(problems(config),
            (std::vector<std::string>{"/attention/kv_heads out-of-range", "/moe/router/top_k out-of-range"}));
  EXPECT_NE(found.error().text().find("config.json"), std::string::npos);
}

TEST(HuggingFace, AnUnknownFamilyNamesTheKnownOnesAndTheKeysWithoutAPlace) {
  Json config = fixture("mixtral_8x7b");
  config["model_type"] = "jamba";
  config["mamba_d_state"] = 16;
  const Result<HuggingFaceModel> found = read(config.dump());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(problems(config), std::vector<std::string>{"/model_type unknown-value"});
  const std::string text = found.error().text();
  for (const char* part : {"mixtral", "deepseek_v3", "longcat_flash", "\"jamba\"", "mamba_d_state"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  }
  EXPECT_EQ(text.find("num_local_experts"), std::string::npos) << text;  // has a place in Mixtral
}

TEST(HuggingFace, MixedLayersFollowTheirLists) {
  Json qwen = fixture("qwen3_30b_a3b");
  qwen["num_hidden_layers"] = 6;
  qwen["decoder_sparse_step"] = 2;
  qwen["mlp_only_layers"] = Json::array({3});
  const MoeModel model = read(qwen.dump())->model;
  std::string kinds;
  for (const Block& block : model.blocks) kinds += block.moe ? 'M' : 'D';
  EXPECT_EQ(kinds, "DMDDDM");
  EXPECT_EQ(model.blocks[0].dense_width, 6144);
}

TEST(HuggingFace, AWorkloadMayNameAConfig) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "moecast_huggingface_test";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(write_file_atomically(folder / "config.json", fixture("olmoe_1b_7b").dump()).ok());
  ASSERT_TRUE(write_file_atomically(folder / "workload.json",
                                    R"({"workload": {"model": "config.json", "batch": {"sequence": 128}}})")
                  .ok());
  const Result<JsonDocument> document = JsonDocument::read(folder / "workload.json");
  ASSERT_TRUE(document.ok());
  JsonReader reader(*document);
  const Workload workload = read_workload(reader);
  ASSERT_TRUE(reader.finish().ok());
  EXPECT_EQ(workload.model.layer_count(), 16);
  EXPECT_EQ(workload.model.name, "olmoe");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace moecast
