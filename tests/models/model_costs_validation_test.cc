// Work and cache of a token as published.
#include "models/model_costs.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "models/moe_model_json.h"

namespace moecast {
namespace {

MoeModel zoo(const std::string& name) {
  Result<MoeModel> model = load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo" / (name + ".json"));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().text());
  return std::move(model).value();
}

double training_gflops(const std::string& name) { return training_flops_per_token(zoo(name), 4096).value() / 1e9; }

// "Insights into DeepSeek-V3", arXiv 2505.09343, table 2 (sequence length 4096) and table 1 (bf16).
TEST(ModelCosts, TrainingWorkOfATokenIsThatOfDeepSeeksTable) {
  EXPECT_NEAR(training_gflops("deepseek_v2"), 155, 1);
  EXPECT_NEAR(training_gflops("deepseek_v3"), 250, 1);
}

TEST(ModelCosts, CacheOfATokenIsThatOfDeepSeeksTable) {
  EXPECT_EQ(cache_bytes(zoo("deepseek_v3"), 1, 2), Bytes(70'272));
  EXPECT_EQ(cache_bytes(zoo("deepseek_v3"), 1000, 2), Bytes(70'272'000));
}

TEST(ModelCosts, WindowsBoundTheCache) {
  const MoeModel model = zoo("gpt_oss_20b");  // 24 blocks, 8 key heads of 64; every second sees 128 tokens
  const std::int64_t token = 2 * 8 * 64 * 2;
  EXPECT_EQ(cache_bytes(model, 100, 2), Bytes(24 * 100 * token));
  EXPECT_EQ(cache_bytes(model, 10'000, 2), Bytes(12 * (128 + 10'000) * token));
}

TEST(ModelCosts, ForwardWorkIsTwiceTheActiveWeightsPlusAttention) {
  const MoeModel model = zoo("mixtral_8x7b");
  const std::int64_t S = 2048;
  // Of the active parameters the input embedding, and the gains of the norms, multiply nothing.
  const std::int64_t weights = count_parameters(model).active - 32'000 * 4096 - 65 * 4096;
  const double attention = 32 * 4.0 * 4096 * (S + 1) / 2;  // both products with (S + 1) / 2 keys on average
  EXPECT_DOUBLE_EQ(forward_flops_per_token(model, S).value(), 2.0 * static_cast<double>(weights) + attention);
}

TEST(ModelCosts, PaddedSlotsAreNoWorkOfTheModel) {
  MoeModel padded = zoo("gpt2_moe_medium");
  const Flops before = forward_flops_per_token(padded, 256);
  for (Block& block : padded.blocks) {
    if (block.moe) block.moe->capacity_factor = 8;
  }
  EXPECT_EQ(forward_flops_per_token(padded, 256).value(), before.value());
}

// Mixed precision: 2 of weight, 4 of master, 8 of moments (B_w = 2 and B_o = 12 in eq 5 of arXiv 2408.04307).
TEST(ModelCosts, FullStateHasFourteenBytesAParameter) {
  const MoeModel model = zoo("olmoe_1b_7b");
  EXPECT_EQ(weight_bytes(model, precision_of(2)), Bytes(2 * 6'919'161'856));
  EXPECT_EQ(state_bytes(model, precision_of(2)), Bytes(14 * 6'919'161'856));
  EXPECT_EQ(state_bytes(model, precision_of(4)), Bytes(12 * 6'919'161'856));
}

}  // namespace
}  // namespace moecast
