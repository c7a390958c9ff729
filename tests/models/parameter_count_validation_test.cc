// Published parameter counts of the models in the zoo.
#include <filesystem>
#include <set>

#include <gtest/gtest.h>

#include "models/moe_model_json.h"
#include "models/state_inventory.h"

namespace moecast {
namespace {

const std::filesystem::path kZoo = std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo";

MoeModel zoo(const std::string& name) {
  Result<MoeModel> model = load_moe_model(kZoo / (name + ".json"));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().text());
  return model.ok() ? std::move(model).value() : MoeModel{};
}

/// Elements of the tensors in the published checkpoint (safetensors metadata).
struct Checkpoint {
  const char* name;
  std::int64_t elements;
};
constexpr Checkpoint kCheckpoints[] = {
    {"mixtral_8x7b", 46'702'792'704},     {"mixtral_8x22b", 140'620'634'112},
    {"olmoe_1b_7b", 6'919'161'856},       {"qwen3_30b_a3b", 30'532'122'624},
    {"qwen3_235b_a22b", 235'093'634'560}, {"qwen3_coder_480b_a35b", 480'154'875'392},
    {"qwen15_moe_a27b", 14'315'784'192},  {"deepseek_moe_16b", 16'375'728'128},
    {"deepseek_v2_lite", 15'706'484'224}, {"deepseek_v3", 671'026'419'200},
    {"gpt_oss_120b", 116'829'156'672},
};

/// What our description has and the checkpoint lacks: the routed branch's norm beside that of a shared expert.
std::int64_t second_norms(const MoeModel& model) {
  std::int64_t count = 0;
  for (const Block& block : model.blocks) {
    if (block.moe && block.moe->shared_expert_width > 0) count += model.d_model;
  }
  return count;
}

/// And the other way round: gpt-oss's attention sinks and router biases.
std::int64_t left_out(const MoeModel& model) {
  if (!model.name.starts_with("gpt-oss")) return 0;
  return model.layer_count() * (model.attention.heads + model.blocks.front().moe->expert_count);
}

TEST(ParameterCount, AgreesWithPublishedCheckpointsToTheLastParameter) {
  for (const Checkpoint& checkpoint : kCheckpoints) {
    const MoeModel model = zoo(checkpoint.name);
    EXPECT_EQ(count_parameters(model).total - second_norms(model) + left_out(model), checkpoint.elements)
        << checkpoint.name;
  }
}

/// Counts in billions as papers, model cards and tables round them; no value: not published, or not of this model.
struct Published {
  const char* name;
  double total;
  std::optional<double> active;
  double tolerance = 0.02;         // of the total: two digits are within 5 %, three within 0.5 %, by rounding alone
  double active_tolerance = 0.06;  // cards differ in whether both embeddings count
};
const Published kPublished[] = {
    {"mixtral_8x7b", 47, 13},
    {"mixtral_8x22b", 141, 39},
    {"dbrx", 132, 36},
    {"grok_1", 314, 86},  // "25 % of the weights" active is rounded up
    {"deepseek_moe_2b", 2.0, 0.3},
    {"deepseek_moe_16b", 16.4, 2.8},
    {"deepseek_moe_145b", 144.6, 22.2},
    {"deepseek_v2_lite", 15.7, 2.4, 0.02, 0.12},  // 2.4 B leave both embeddings out
    {"deepseek_v2", 236, 21},
    {"deepseek_v3", 671, 37},
    {"kimi_k2", 1043, 32},
    {"qwen15_moe_a27b", 14.3, 2.7},
    {"qwen2_57b_a14b", 57, 14},
    {"qwen3_30b_a3b", 30.5, 3.3},
    {"qwen3_235b_a22b", 235, 22},
    {"qwen3_coder_480b_a35b", 480, 35},
    {"arctic", 480, 17},
    {"olmoe_1b_7b", 6.9, 1.3},
    {"skywork_moe", 146, 22},
    {"yuan2_m32", 40, 3.7},
    {"llama_moe_3b_2of16", 6.7, 3.0},
    {"llama_moe_35b_4of16", 6.7, 3.5},
    {"llama_moe_35b_2of8", 6.7, 3.5},
    {"openmoe_650m", 0.65, 0.339},
    {"openmoe_8b", 8.7, 2.6},
    {"openmoe_34b", 34, 6.8, 0.02, 0.1},        // the 6.8 B do not hold all that a token meets
    {"minicpm_moe_8x2b", 13.6, 4, 0.025, 0.1},  // without the tied embedding
    {"phi35_moe", 42, 6.6},
    {"llama4_scout", 109, 17},  // with the vision tower
    {"llama4_maverick", 400, 17},
    {"glm45", 355, 32},
    {"glm45_air", 106, 12, 0.02, 0.12},
    {"glm5", 744, 40},
    {"gpt_oss_120b", 116.8, 5.1, 0.02, 0.13},  // 5.13 B leave the input embedding out
    {"gpt_oss_20b", 20.9, 3.6, 0.02, 0.17},    // 3.61 B likewise
    {"longcat_flash", 560, 27},                // the mean; 18.6 B to 31.3 B by token
    {"minimax_m25", 229, 10, 0.02, 0.11},
    {"gshard_600b", 600, {}, 0.035},  // decoder cross-attention and vocabulary are not ours
    {"gshard_200b", 200, {}, 0.035},
    {"gshard_150b", 150, {}, 0.04},
    {"gshard_37b", 37, {}, 0.065},
    {"switch_base", 7.4, {}},
    {"switch_large", 26.3, {}, 0.03},
    {"switch_xxl", 395, {}},
    {"switch_c", 1571, {}},
    {"glam_1_9b", 1.9, {}, 0.09},  // the dense FFNs' third matrix and the vocabulary of 256000 count there
    {"glam_27b", 27, 1.879, 0.02, 0.14},
    {"glam_143b", 143, 9.8},
    {"glam_1_2t", 1200, 96.6, 0.04, 0.09},
    {"deepspeed_moe_13b", 13, 0.35, 0.02},
    {"deepspeed_moe_52b", 52, 1.3, 0.02},
    {"deepspeed_prmoe_4b", 4, {}, 0.03},
    {"deepspeed_prmoe_31b", 31, {}},
    {"st_moe_4b", 4.1, {}, 0.05},
    {"st_moe_269b", 269, 32, 0.02, 0.1},
    {"gpt2_moe_small", 0.323, {}},
    {"gpt2_moe_medium", 1.7, {}, 0.1},  // the experts alone have 1.61 B; attention and the dense blocks make 1.87 B
    {"gpt3_moe_xl", 4.1, {}},
    {"llama2_moe", 6.7, {}},
};

TEST(ParameterCount, AgreesWithPublishedRoundedCounts) {
  for (const Published& published : kPublished) {
    const ParameterCount count = count_parameters(zoo(published.name));
    EXPECT_NEAR(static_cast<double>(count.total) / 1e9, published.total, published.tolerance * published.total)
        << published.name;
    if (!published.active) continue;
    EXPECT_NEAR(static_cast<double>(count.active) / 1e9, *published.active,
                published.active_tolerance * *published.active)
        << published.name;
  }
}

TEST(ParameterCount, EveryPublishedModelOfTheZooHasACount) {
  std::set<std::string> listed;
  for (const Published& published : kPublished) listed.insert(published.name);
  for (const auto& entry : std::filesystem::directory_iterator(kZoo)) {
    const std::string name = entry.path().stem().string();
    const MoeModel model = zoo(name);
    if (model.source.empty()) continue;  // our own: for the quick start, for checks
    const bool variant =
        name.find("scmoe") != name.npos || name.find("dgmoe") != name.npos || name.ends_with("_expert");
    EXPECT_TRUE(listed.contains(name) || variant) << name;
  }
}

TEST(ParameterCount, Mixtral8x7bAgreesWithTheClosedForm) {
  const std::int64_t d = 4096, f = 14336, attention = 2 * d * d + 2 * d * 8 * 128;
  const std::int64_t expected = 2 * 32000 * d + 32 * (attention + 2 * d + d * 8 + 8 * 3 * d * f) + d;
  EXPECT_EQ(count_parameters(zoo("mixtral_8x7b")).total, expected);
}

TEST(ParameterCount, DeepSeekV3AgreesWithTheClosedForm) {
  const std::int64_t d = 7168, h = 128, q = 1536, kv = 512, rope = 64, head = 192, value = 128;
  const std::int64_t attention =
      d * q + q + q * h * head + d * (kv + rope) + kv + kv * h * (128 + value) + h * value * d + d;
  const std::int64_t dense = 3 * (3 * d * 18432 + d), expert = 3 * d * 2048;
  const std::int64_t moe = 58 * (256 * expert + expert + 2 * d + 256 * d + 256);
  EXPECT_EQ(count_parameters(zoo("deepseek_v3")).total, 2 * 129280 * d + 61 * attention + dense + moe + d);
}

}  // namespace
}  // namespace moecast
