// Sizes of arXiv 2408.04307 (MoC-System, ASPLOS'25) and what its equations give for the same models. GB are 10^9 bytes;
// 14 bytes per parameter: 16-bit weight 2, F32 master 4, moments 4 + 4.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "models/checkpoint/checkpoint_plan.h"
#include "tests/models/checkpoint_testing.h"

namespace moecast {
namespace {

using testing_models::CheckpointRun;
using testing_models::inventory_of;
using testing_models::sequential_policy;
using testing_models::zoo_model;

const ParallelLayout kCase1{8, 8, 1, 1, 2};
const ParallelLayout kCase2{16, 16, 1, 1, 2};
const ParallelLayout kCase3{16, 8, 1, 1, 2};
const Sharding kBaseline{ExpertSharding::GroupZero, NonExpertSharding::RankZero};
const Sharding kEqual{ExpertSharding::Equal, NonExpertSharding::Equal};
const Sharding kAdaptive{ExpertSharding::Equal, NonExpertSharding::Adaptive};

CheckpointPolicy pec(std::int64_t k, const char* preset, Sharding sharding = kAdaptive) {
  CheckpointPolicy policy = sequential_policy({k, k});
  policy.sharding = sharding;
  for (const auto& [name, rules] : component_presets()) {
    if (name == preset) policy.partial.components = rules;
  }
  EXPECT_EQ(preset_name(policy.partial.components), preset);
  return policy;
}

CheckpointPolicy full(Sharding sharding) {
  CheckpointPolicy policy;
  policy.kind = CheckpointKind::BlockingFull;
  policy.sharding = sharding;
  return policy;
}

/// Size of one checkpoint as a share of the full one, each element once.
double share(const CheckpointInventory& inventory, std::int64_t k, const char* preset) {
  const CheckpointPolicy policy = pec(k, preset);
  CheckpointRun run(inventory.experts(), policy);
  return checkpoint_bytes(inventory, policy, run.next()).total(CheckpointLevel::Storage) / inventory.full_bytes();
}

/// GB of the rank that writes most, over one period of the selection.
double bottleneck(const CheckpointInventory& inventory, const CheckpointPolicy& policy) {
  CheckpointRun run(inventory.experts(), policy);
  double worst = 0;
  for (int t = 0; t < 16; ++t) {
    worst =
        std::max(worst, checkpoint_bytes(inventory, policy, run.save()).bottleneck(CheckpointLevel::Storage).value());
  }
  return worst / 1e9;
}

MoeModel every_layer_moe(MoeModel model) {
  for (Block& block : model.blocks) block = model.blocks.back();
  return model;
}

TEST(PublishedModels, ParameterCounts) {
  const ParameterCount small = count_parameters(zoo_model("gpt_125m_8e"));
  EXPECT_NEAR(static_cast<double>(small.total) / 1e6, 322.8, 0.05);  // "323 M"
  EXPECT_NEAR(static_cast<double>(small.expert) / 1e6, 226.7, 0.05);
  const ParameterCount large = count_parameters(zoo_model("gpt_350m_16e"));
  EXPECT_EQ(large.expert, 1'611'595'776);
  EXPECT_EQ(large.total - large.expert, 254'295'040);
  EXPECT_NEAR(static_cast<double>(large.total) / (1 << 30), 1.738, 0.001);  // "1.7G"
  const ParameterCount dense_free = count_parameters(every_layer_moe(zoo_model("gpt_125m_8e")));
  EXPECT_NEAR(static_cast<double>(dense_free.total) / 1e6, 521.2, 0.05);
}

TEST(CheckpointSize, FullStateIs26GB) {
  EXPECT_NEAR(inventory_of(zoo_model("gpt_350m_16e"), kCase1).full_bytes().value() / 1e9, 26.12, 0.005);
}

TEST(CheckpointSize, SharesOfBothReadings) {
  const CheckpointInventory inventory = inventory_of(zoo_model("gpt_350m_16e"), kCase1);
  const std::vector<std::int64_t> k = {1, 2, 4, 8, 16};
  const std::vector<double> equation_6 = {0.1903, 0.2443, 0.3522, 0.5681, 1};
  const std::vector<double> reported = {0.4216, 0.4602, 0.5373, 0.6915, 1};
  const double expert_share = static_cast<double>(inventory.expert_element_count()) /
                              static_cast<double>(inventory.element_count());  // e = 0.8637
  for (std::size_t i = 0; i < k.size(); ++i) {
    EXPECT_NEAR(share(inventory, k[i], "pec_full_state"), equation_6[i], 5e-5) << k[i];
    EXPECT_NEAR(share(inventory, k[i], "pec_reported"), reported[i], 5e-5) << k[i];
    const double kept = static_cast<double>(k[i]) / 16;
    EXPECT_NEAR(share(inventory, k[i], "pec_full_state"), 1 - expert_share * (1 - kept), 1e-9);
  }
}

TEST(CheckpointSize, PublishedSharesAtK1) {
  // Printed: total 42.3 % (a cut of 57.7 %); W 0.88, O 0.54, WO 0.42.
  const CheckpointInventory inventory = inventory_of(zoo_model("gpt_350m_16e"), kCase1);
  EXPECT_NEAR(share(inventory, 1, "pec_reported"), 0.423, 0.002);
  EXPECT_NEAR(share(inventory, 1, "pec_w"), 0.88, 0.005);
  EXPECT_NEAR(share(inventory, 1, "pec_o"), 0.54, 0.005);
  EXPECT_NEAR(share(inventory, 1, "pec_full_state"), 0.190, 0.001);  // equation 6 is not the printed size
}

TEST(CheckpointSize, FirstVersionsCutOf54Percent) {
  // v1: 54.2 % of the non-redundant checkpoint of "8-expert GPT-MoE". Fits if every layer has experts.
  const MoeModel model = zoo_model("gpt_125m_8e");
  EXPECT_NEAR(1 - share(inventory_of(model, kCase1), 1, "pec_reported"), 0.439, 0.001);
  const CheckpointInventory every = inventory_of(every_layer_moe(model), kCase1);
  EXPECT_NEAR(1 - share(every, 1, "pec_reported"), 0.542, 0.003);
  EXPECT_NEAR(1 - share(every, 1, "pec_full_state"), 0.761, 0.001);
}

TEST(CheckpointSize, FirstVersionsCutPerRankIsNearestWithTheFullState) {
  // v1: 76.9 % less for the rank that writes most. This reading's bytes are not those of the 54.2 %. It gives 76.2 %
  // with the token embedding whole on one rank (77.3 % if it could be divided); the reading of the 54.2 % gives 56.1 %.
  const CheckpointInventory every = inventory_of(every_layer_moe(zoo_model("gpt_125m_8e")), kCase1);
  const double cut = 1 - bottleneck(every, pec(1, "pec_full_state")) / bottleneck(every, full(kBaseline));
  EXPECT_NEAR(cut, 0.769, 0.01);
  EXPECT_NEAR(cut, 0.762, 0.001);
  const double reported = 1 - bottleneck(every, pec(1, "pec_reported")) / bottleneck(every, full(kBaseline));
  EXPECT_NEAR(reported, 0.561, 0.001);
}

TEST(Sharding, FullSavingBottleneck) {
  // Cut of the bottleneck rank by full sharding: 12 to 28 % in the paper. Ideal: 14 bytes of everything / D_dp; real:
  // no module is divided, and the embedding is the largest.
  struct Row {
    ParallelLayout layout;
    double baseline, ideal, ideal_cut, cut;
  };
  for (const Row& row : {Row{kCase1, 3.710, 3.265, 0.120, 0.109}, Row{kCase2, 2.109, 1.633, 0.226, 0.192},
                         Row{kCase3, 2.311, 1.633, 0.294, 0.263}}) {
    const CheckpointInventory inventory = inventory_of(zoo_model("gpt_350m_16e"), row.layout);
    const double baseline = bottleneck(inventory, full(kBaseline));
    EXPECT_NEAR(baseline, row.baseline, 0.0006);
    const double ideal = inventory.full_bytes().value() / 1e9 / static_cast<double>(row.layout.data);
    EXPECT_NEAR(ideal, row.ideal, 0.0006);
    EXPECT_NEAR(1 - ideal / baseline, row.ideal_cut, 0.0006);
    EXPECT_NEAR(1 - bottleneck(inventory, full(kAdaptive)) / baseline, row.cut, 0.0011);
  }
}

TEST(Sharding, AdaptiveBottleneckAtK1) {
  // Further cut by adaptive sharding of the non-expert part: 3.7 to 6.1 % in the paper.
  struct Row {
    ParallelLayout layout;
    const char* preset;
    double equal, adaptive, cut;
  };
  for (const Row& row :
       {Row{kCase1, "pec_full_state", 0.719, 0.625, 0.131}, Row{kCase2, "pec_full_state", 0.411, 0.317, 0.230},
        Row{kCase3, "pec_full_state", 0.411, 0.317, 0.230}, Row{kCase1, "pec_reported", 1.458, 1.380, 0.053},
        Row{kCase2, "pec_reported", 0.780, 0.697, 0.108}, Row{kCase3, "pec_reported", 0.780, 0.697, 0.108}}) {
    const CheckpointInventory inventory = inventory_of(zoo_model("gpt_350m_16e"), row.layout);
    const double equal = bottleneck(inventory, pec(1, row.preset, kEqual));
    const double adaptive = bottleneck(inventory, pec(1, row.preset, kAdaptive));
    EXPECT_NEAR(equal, row.equal, 0.0006) << row.layout.data << " " << row.preset;
    EXPECT_NEAR(adaptive, row.adaptive, 0.0006) << row.layout.data << " " << row.preset;
    EXPECT_NEAR(1 - adaptive / equal, row.cut, 0.0011) << row.layout.data << " " << row.preset;
  }
}

/// Equation 8 as printed: (P_ne + P_e) B_o / D_ep + P_ne B_w / D_dp + P_e B_w / D_ep.
double equation_8(const ParameterCount& count, const ParallelLayout& layout) {
  const auto total = static_cast<double>(count.total);
  const auto expert = static_cast<double>(count.expert);
  const auto ep = static_cast<double>(layout.expert);
  return (12 * total / ep + 2 * (total - expert) / static_cast<double>(layout.data) + 2 * expert / ep) / 1e9;
}

TEST(Sharding, Equation8IsTheShardedShareForOneExpertGroupOnly) {
  const ParameterCount count = count_parameters(zoo_model("gpt_350m_16e"));
  const auto ideal = [&](const ParallelLayout& layout) {
    return 14e-9 * static_cast<double>(count.total) / static_cast<double>(layout.data);
  };
  EXPECT_NEAR(equation_8(count, kCase1), ideal(kCase1), 1e-9);
  EXPECT_NEAR(equation_8(count, kCase2), ideal(kCase2), 1e-9);
  EXPECT_NEAR(equation_8(count, kCase3), 3.23, 0.005);  // above the 2.31 GB without sharding
  for (const ParallelLayout& layout : {kCase1, kCase2, kCase3}) {
    const CheckpointInventory inventory = inventory_of(zoo_model("gpt_350m_16e"), layout);
    const RankBytes bytes = checkpoint_bytes(inventory, full(kAdaptive), select_all(inventory.experts()));
    EXPECT_NEAR(bytes.total(CheckpointLevel::Storage).value() / 1e9 / static_cast<double>(layout.data), ideal(layout),
                1e-6);
  }
}

TEST(Sharding, OneExpertIs63And112MiB) {
  // Lazarus, arXiv 2407.04656: 63 and 112 MB per expert of width 768 and 1024, optimizer included.
  const CheckpointInventory small = inventory_of(zoo_model("gpt_125m_8e"), kCase1);
  const CheckpointInventory large = inventory_of(zoo_model("gpt_350m_16e"), kCase1);
  EXPECT_NEAR(14.0 * static_cast<double>(small.expert_element_count(0)) / (1 << 20), 63, 0.1);
  EXPECT_NEAR(14.0 * static_cast<double>(large.expert_element_count(0)) / (1 << 20), 112, 0.1);
}

}  // namespace
}  // namespace moecast
