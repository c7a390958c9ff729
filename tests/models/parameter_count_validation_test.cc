// Published parameter counts of models in the zoo.
#include <filesystem>

#include <gtest/gtest.h>

#include "models/moe_model_json.h"
#include "models/state_inventory.h"

namespace moecast {
namespace {

ParameterCount count_of(const std::string& name) {
  const Result<MoeModel> model =
      load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo" / (name + ".json"));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().text());
  return count_parameters(*model);
}

TEST(ParameterCount, Mixtral8x7bHas47BillionOfWhich13Active) {  // arXiv 2401.04088, section 1: 47B and 13B
  const ParameterCount count = count_of("mixtral_8x7b");
  EXPECT_NEAR(static_cast<double>(count.total), 46.7e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(count.active), 12.9e9, 0.05e9);
}

TEST(ParameterCount, Mixtral8x7bAgreesWithTheClosedForm) {
  const std::int64_t d = 4096, f = 14336, attention = 2 * d * d + 2 * d * 8 * 128;
  const std::int64_t expected = 2 * 32000 * d + 32 * (attention + 2 * d + d * 8 + 8 * 3 * d * f) + d;
  EXPECT_EQ(count_of("mixtral_8x7b").total, expected);
}

TEST(ParameterCount, Qwen3Has30BillionOfWhich3Active) {  // arXiv 2505.09388, table 2: 30.5B and 3.3B
  const ParameterCount count = count_of("qwen3_30b_a3b");
  EXPECT_NEAR(static_cast<double>(count.total), 30.5e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(count.active), 3.35e9, 0.05e9);
}

// ScMoE, arXiv 2404.05019, table 8, says 1.7B (FFN width 4 d assumed here as below). With 16 experts in each of 12
// layers the experts alone have 1.61B; attention, dense blocks and embeddings bring it to 1.87B.
TEST(ParameterCount, Gpt2MoeMediumCountsTenPercentMoreThanItsTableSays) {
  const ParameterCount count = count_of("gpt2_moe_medium");
  EXPECT_NEAR(static_cast<double>(count.expert), 1.61e9, 0.01e9);
  EXPECT_NEAR(static_cast<double>(count.total), 1.87e9, 0.01e9);
}

TEST(ParameterCount, Gpt2MoeSmallAndGpt3MoeXlAgreeWithTheirTable) {  // the same table
  MoeModel model = *load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo/gpt2_moe_medium.json");
  // GPT2-MoE-Small, 323M: 12 layers, d 768, 12 heads, 8 experts.
  model.d_model = 768;
  model.max_sequence = 1024;
  model.attention = {12, 12, 64};
  model.blocks.resize(12);
  for (Block& block : model.blocks) {
    if (block.moe) {
      block.moe->expert_count = 8;
      block.moe->expert_width = 3072;
    } else {
      block.dense_width = 3072;
    }
  }
  EXPECT_NEAR(static_cast<double>(count_parameters(model).total), 323e6, 1e6);

  // GPT3-MoE-XL, 4.1B: 24 layers, d 2048, 32 heads, 8 experts.
  model.d_model = 2048;
  model.max_sequence = 2048;
  model.attention = {32, 32, 64};
  model.blocks.insert(model.blocks.end(), model.blocks.begin(), model.blocks.begin() + 12);
  for (Block& block : model.blocks) {
    (block.moe ? block.moe->expert_width : block.dense_width) = 8192;
  }
  EXPECT_NEAR(static_cast<double>(count_parameters(model).total), 4.1e9, 0.05e9);
}

}  // namespace
}  // namespace moecast
