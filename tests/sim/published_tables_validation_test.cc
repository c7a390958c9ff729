// Simulated and tabulated times against a few rows of published tables, none of them chosen: at a fixed distance among
// the rows that fits keep apart. `moecast validate TABLE.csv` judges all rows of such a table.
#include "sim/table_judgement.h"

#include <gtest/gtest.h>

#include "hwprofiles/profile_json.h"
#include "sim/measured_steps.h"

namespace moecast {
namespace {

using Rows = std::vector<std::vector<std::string>>;

const std::vector<std::string> kStepColumns = {"# GPUs",
                                               "global batch",
                                               "micro batch",
                                               "hidden size",
                                               "attention heads",
                                               "# layers",
                                               "sequence length",
                                               "tensor parallelism",
                                               "data parallelism",
                                               "pipeline parallelism",
                                               "iteration time (ms)"};

/// VIA-Research/vTrain (MIT), iteration times of Megatron-DeepSpeed on A100-80GB: every 72nd row of one node, every
/// 12th of many.
const Rows kSteps = {{"4", "16", "4", "2048", "16", "24", "1024", "1", "1", "4", "525.572773"},
                     {"4", "64", "1", "2048", "16", "20", "1024", "1", "4", "1", "1242.145031"},
                     {"8", "16", "2", "1024", "16", "24", "1024", "2", "4", "1", "186.77012"},
                     {"8", "16", "2", "1024", "16", "24", "1024", "4", "2", "1", "336.971503"},
                     {"8", "16", "1", "2048", "16", "16", "1024", "2", "2", "2", "282.744552"},
                     {"4", "8", "4", "2048", "16", "12", "1024", "4", "1", "1", "138.446442"},
                     {"8", "64", "2", "2048", "16", "24", "1024", "2", "4", "1", "952.640119"},
                     {"4", "64", "4", "2048", "16", "24", "1024", "1", "4", "1", "1024.272716"},
                     {"4", "32", "2", "2048", "16", "20", "1024", "2", "2", "1", "802.212634"},
                     {"8", "16", "1", "1024", "16", "20", "1024", "1", "4", "2", "181.995249"},
                     {"64", "512", "4", "3072", "32", "30", "2048", "1", "64", "1", "3638.3"},
                     {"64", "512", "2", "3072", "32", "30", "2048", "4", "16", "1", "6228.3"},
                     {"64", "512", "2", "3072", "32", "30", "2048", "16", "4", "1", "13472.2"},
                     {"512", "1536", "6", "8192", "64", "48", "2048", "4", "32", "4", "18532.1"},
                     {"512", "1536", "4", "8192", "64", "48", "2048", "8", "16", "4", "14750.7"},
                     {"512", "1536", "3", "8192", "64", "48", "2048", "8", "4", "16", "16360.8"}};

/// ai-dynamo/aiconfigurator (Apache-2.0), products of bf16 on an H200: every 400th row.
const Rows kProducts = {
    {"NVIDIA H200", "1", "32", "12288", "0.00769689"},   {"NVIDIA H200", "9", "256", "1536", "0.00461156"},
    {"NVIDIA H200", "16", "2560", "3072", "0.00849511"}, {"NVIDIA H200", "65", "7168", "65536", "0.266164"},
    {"NVIDIA H200", "129", "64", "8192", "0.00673156"},  {"NVIDIA H200", "256", "256", "51200", "0.0211644"},
    {"NVIDIA H200", "1025", "10240", "5120", "0.19903"}, {"NVIDIA H200", "2049", "2048", "64", "0.00509778"},
    {"NVIDIA H200", "3072", "4096", "65536", "2.30881"}, {"NVIDIA H200", "3841", "12288", "2048", "0.272625"}};

/// The same, routed experts: every 440th row of TensorRT-LLM's kernels.
const Rows kExperts = {
    {"moe_torch_flow_cutlass", "1024", "6144", "16384", "2", "8", "1", "8", "balanced", "0.251787"},
    {"moe_torch_flow_cutlass", "8", "5120", "8192", "1", "128", "32", "1", "power_law_1.2", "0.0440768"},
    {"moe_torch_flow_cutlass", "16", "4096", "1536", "8", "128", "4", "2", "power_law_1.2", "0.1"},
    {"moe_torch_flow_cutlass", "80", "4096", "2048", "8", "256", "16", "2", "power_law_1.2", "0.640544"},
    {"moe_torch_flow_cutlass", "8192", "3072", "1024", "8", "256", "16", "4", "power_law_1.2", "0.336602"},
    {"moe_torch_flow_nongated", "16", "2048", "5120", "22", "512", "1", "1", "power_law_1.2", "1.95517"},
    {"moe_torch_flow_cutlass", "512", "5120", "8192", "1", "128", "4", "2", "power_law_1.01", "0.67577"},
    {"moe_torch_flow_nongated", "128", "8192", "5120", "22", "512", "2", "8", "power_law_1.2", "1.23037"},
    {"moe_torch_flow_cutlass", "3072", "6144", "3072", "4", "128", "2", "32", "power_law_1.2", "0.242093"},
    {"moe_torch_flow_cutlass", "2048", "4096", "14336", "2", "8", "32", "1", "power_law_1.2", "0.160819"}};

RowErrors errors_on(const char* profile, std::vector<std::string> columns, const Rows& rows) {
  const Result<HardwareProfile> hardware = find_profile(profile, ".");
  EXPECT_TRUE(hardware.ok());
  const Result<TableJudgement> judgement = judge_table({"quoted.csv", std::move(columns), rows}, {}, *hardware, 1);
  EXPECT_TRUE(judgement.ok()) << judgement.error().text();
  EXPECT_EQ(judgement->refused, 0);
  return errors_of(judgement->rows).front();
}

TEST(PublishedTables, IterationTimesOfMegatron) {
  const RowErrors errors = errors_on("a100_megatron", kStepColumns, kSteps);
  EXPECT_EQ(errors.count, static_cast<std::int64_t>(kSteps.size()));
  EXPECT_LE(errors.mean, 0.12);
  EXPECT_GE(errors.rank_correlation, 0.95);
}

TEST(PublishedTables, ProductsOnAnH200) {
  EXPECT_LE(errors_on("h200_nvlink_8", {"device", "m", "n", "k", "latency_ms"}, kProducts).median, 0.1);
}

TEST(PublishedTables, RoutedExpertsOnAnH200) {
  const RowErrors errors = errors_on(
      "h200_trtllm",
      {"kernel", "tokens", "hidden", "inter", "top_k", "experts", "moe_tp", "moe_ep", "distribution", "latency_ms"},
      kExperts);
  EXPECT_LE(errors.median, 0.18);
  EXPECT_GE(errors.rank_correlation, 0.8);  // of ten rows; of the published table above 0.92
}

TEST(PublishedTables, RefusesATableOfOtherColumns) {
  const Result<HardwareProfile> hardware = find_profile("h200_nvlink_8", ".");
  ASSERT_TRUE(hardware.ok());
  EXPECT_FALSE(judge_table({"quoted.csv", {"a", "b"}, {{"1", "2"}}}, {}, *hardware, 1).ok());
  const Result<TableJudgement> odd =
      judge_table({"quoted.csv", kStepColumns, {{"8", "12", "8", "1024", "16", "24", "1024", "1", "8", "1", "100"}}},
                  {}, *hardware, 1);
  ASSERT_FALSE(odd.ok());  // 12 sequences are not a multiple of 64
  EXPECT_EQ(odd.error().problems.size(), 1U);
}

TEST(PublishedTables, PartsAreJudgedOnRowsKeptApart) {
  const std::vector<JudgedRow> rows = {{"a", false, Duration(100), Duration(100)},
                                       {"a", true, Duration(100), Duration(110)},
                                       {"b", true, Duration(200), Duration(160)},
                                       {"b", true, Duration(100), Duration(130)}};
  const std::vector<RowErrors> errors = errors_of(rows);
  ASSERT_EQ(errors.size(), 5U);
  EXPECT_EQ(errors[0].count, 4);
  EXPECT_DOUBLE_EQ(errors[1].median, 0);
  EXPECT_NEAR(errors[2].mean, 0.2, 1e-12);
  EXPECT_NEAR(errors[3].median, 0.1, 1e-12);
  EXPECT_NEAR(errors[4].median, 0.25, 1e-12);
  EXPECT_DOUBLE_EQ(errors[4].rank_correlation, 1);
}

}  // namespace
}  // namespace moecast
