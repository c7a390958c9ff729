#include "models/state_inventory.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "models/moe_model_json.h"

namespace moecast {
namespace {

MoeModel zoo(const std::string& name) {
  Result<MoeModel> model = load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo" / (name + ".json"));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().text());
  return std::move(model).value();
}

/// d 4, 2 heads of 2 (1 KV head), f 6; one dense block, one MoE block with 2 experts (5 wide) and a shared one (3
/// wide).
MoeModel small() {
  MoeModel model;
  model.name = "small";
  model.d_model = 4;
  model.vocabulary = 10;
  model.max_sequence = 8;
  model.attention = {2, 1, 2};
  MoeFfn moe;
  moe.expert_count = 2;
  moe.expert_width = 5;
  moe.shared_expert_width = 3;
  moe.coefficient_gate = CoefficientGate::Cg1;
  model.blocks = {Block{6, std::nullopt}, Block{0, moe}};
  return model;
}

std::vector<std::string> listing(const std::vector<Parameter>& parameters) {
  std::vector<std::string> out;
  for (const Parameter& parameter : parameters) {
    std::string line = parameter.name;
    for (const std::int64_t size : parameter.shape) line += " " + std::to_string(size);
    out.push_back(line + (parameter.decay ? "" : " -"));
  }
  return out;
}

TEST(StateInventory, ListsEveryTensorOfTheKernelSequencesInOrder) {
  EXPECT_EQ(listing(parameters(small())), (std::vector<std::string>{"embedding.token 10 4",
                                                                    "embedding.position 8 4 -",
                                                                    "blocks.0.attention.norm.gain 4 -",
                                                                    "blocks.0.attention.norm.bias 4 -",
                                                                    "blocks.0.attention.wqkv 4 8",
                                                                    "blocks.0.attention.bqkv 8 -",
                                                                    "blocks.0.attention.wo 4 4",
                                                                    "blocks.0.attention.bo 4 -",
                                                                    "blocks.0.mlp.norm.gain 4 -",
                                                                    "blocks.0.mlp.norm.bias 4 -",
                                                                    "blocks.0.mlp.w1 4 6",
                                                                    "blocks.0.mlp.b1 6 -",
                                                                    "blocks.0.mlp.w2 6 4",
                                                                    "blocks.0.mlp.b2 4 -",
                                                                    "blocks.1.attention.norm.gain 4 -",
                                                                    "blocks.1.attention.norm.bias 4 -",
                                                                    "blocks.1.attention.wqkv 4 8",
                                                                    "blocks.1.attention.bqkv 8 -",
                                                                    "blocks.1.attention.wo 4 4",
                                                                    "blocks.1.attention.bo 4 -",
                                                                    "blocks.1.shared.norm.gain 4 -",
                                                                    "blocks.1.shared.norm.bias 4 -",
                                                                    "blocks.1.shared.w1 4 3",
                                                                    "blocks.1.shared.b1 3 -",
                                                                    "blocks.1.shared.w2 3 4",
                                                                    "blocks.1.shared.b2 4 -",
                                                                    "blocks.1.coefficient.w 4 1",
                                                                    "blocks.1.gate.norm.gain 4 -",
                                                                    "blocks.1.gate.norm.bias 4 -",
                                                                    "blocks.1.gate.w 4 2",
                                                                    "blocks.1.experts.0.w1 4 5",
                                                                    "blocks.1.experts.1.w1 4 5",
                                                                    "blocks.1.experts.0.b1 5 -",
                                                                    "blocks.1.experts.1.b1 5 -",
                                                                    "blocks.1.experts.0.w2 5 4",
                                                                    "blocks.1.experts.1.w2 5 4",
                                                                    "blocks.1.experts.0.b2 4 -",
                                                                    "blocks.1.experts.1.b2 4 -",
                                                                    "final_norm.gain 4 -",
                                                                    "final_norm.bias 4 -"}));
}

TEST(StateInventory, RmsNormSwiGluRopeWithoutBiasAndUntied) {
  MoeModel model = small();
  model.norm = NormKind::RmsNorm;
  model.activation = Activation::SwiGlu;
  model.position = PositionKind::Rope;
  model.bias = false;
  model.tie_embeddings = false;
  model.blocks[1].moe->shared_expert_width = 0;
  model.blocks[1].moe->coefficient_gate = CoefficientGate::DirectAdd;
  EXPECT_EQ(listing(parameters(model)),
            (std::vector<std::string>{
                "embedding.token 10 4", "blocks.0.attention.norm.gain 4 -", "blocks.0.attention.wqkv 4 8",
                "blocks.0.attention.wo 4 4", "blocks.0.mlp.norm.gain 4 -", "blocks.0.mlp.w1 4 12",
                "blocks.0.mlp.w2 6 4", "blocks.1.attention.norm.gain 4 -", "blocks.1.attention.wqkv 4 8",
                "blocks.1.attention.wo 4 4", "blocks.1.gate.norm.gain 4 -", "blocks.1.gate.w 4 2",
                "blocks.1.experts.0.w1 4 10", "blocks.1.experts.1.w1 4 10", "blocks.1.experts.0.w2 5 4",
                "blocks.1.experts.1.w2 5 4", "final_norm.gain 4 -", "output.w 4 10"}));
}

std::vector<std::string> listing_of_block(const MoeModel& model, std::int32_t block, const std::string& part) {
  std::vector<std::string> out;
  const std::string prefix = "blocks." + std::to_string(block) + "." + part + ".";
  for (const std::string& line : listing(parameters(model))) {
    if (line.starts_with(prefix)) out.push_back(line.substr(prefix.size()));
  }
  return out;
}

TEST(StateInventory, LatentAttentionHasDownAndUpProjections) {
  MoeModel model = small();
  model.bias = false;
  model.norm = NormKind::RmsNorm;
  model.attention.latent = LatentAttention{6, 5, 3, 2, 7};
  model.attention.head_dim = 5;
  EXPECT_EQ(listing_of_block(model, 0, "attention"),
            (std::vector<std::string>{"norm.gain 4 -", "wq_down 4 6", "q_norm.gain 6 -", "wq 6 10", "wkv_down 4 7",
                                      "kv_norm.gain 5 -", "wkv 5 20", "wo 14 4"}));
  model.attention.latent->query_rank.reset();
  EXPECT_EQ(listing_of_block(model, 0, "attention"),
            (std::vector<std::string>{"norm.gain 4 -", "wq 4 10", "wkv_down 4 7", "kv_norm.gain 5 -", "wkv 5 20",
                                      "wo 14 4"}));
}

TEST(StateInventory, QueriesAndKeysMayHaveBiasesAndNorms) {
  MoeModel model = small();
  model.bias = false;
  model.norm = NormKind::RmsNorm;
  model.attention.qkv_bias = true;
  model.attention.qk_norm = QkNorm::Width;
  const std::vector<std::string> width = {"norm.gain 4 -",   "wqkv 4 8",        "bqkv 8 -",
                                          "q_norm.gain 4 -", "k_norm.gain 2 -", "wo 4 4"};
  EXPECT_EQ(listing_of_block(model, 1, "attention"), width);
  model.attention.qk_norm = QkNorm::Head;
  EXPECT_EQ(listing_of_block(model, 1, "attention")[3], "q_norm.gain 2 -");
}

TEST(StateInventory, TheGateHasWhatItsRouterNeeds) {
  MoeModel model = small();
  model.norm = NormKind::RmsNorm;
  MoeFfn& moe = *model.blocks[1].moe;
  moe.zero_expert_count = 3;
  moe.gate.selection_bias = true;
  EXPECT_EQ(listing_of_block(model, 1, "gate"),
            (std::vector<std::string>{"norm.gain 4 -", "w 4 5", "selection_bias 5 -"}));
  moe.gate = {RouterKind::NoisyTopK};
  EXPECT_EQ(listing_of_block(model, 1, "gate"), (std::vector<std::string>{"norm.gain 4 -", "w 4 5", "w_noise 4 5"}));
  moe.gate.router = RouterKind::Hash;
  EXPECT_EQ(listing_of_block(model, 1, "gate"), std::vector<std::string>{"norm.gain 4 -"});
  moe.coefficient_gate = CoefficientGate::Cg2;
  EXPECT_EQ(listing_of_block(model, 1, "coefficient"), std::vector<std::string>{"w 4 2"});
}

TEST(StateInventory, ZeroExpertsHaveNoParametersAndTakeTheirShareOfTheChoices) {
  MoeModel model = small();
  model.blocks[1].moe->gate.top_k = 2;
  const ParameterCount before = count_parameters(model);
  model.blocks[1].moe->zero_expert_count = 2;
  const ParameterCount after = count_parameters(model);
  EXPECT_EQ(after.expert, before.expert);
  EXPECT_EQ(after.total, before.total + 2 * 4);         // two more columns of the gate
  EXPECT_EQ(after.active, before.active + 2 * 4 - 49);  // one of two choices computes nothing
}

TEST(StateInventory, LayersAndExpertsAreMarked) {
  std::set<std::string> names;
  for (const Parameter& parameter : parameters(small())) {
    EXPECT_TRUE(names.insert(parameter.name).second) << parameter.name;
    EXPECT_EQ(parameter.expert.has_value(), parameter.name.find(".experts.") != std::string::npos);
    EXPECT_EQ(parameter.layer.has_value(), parameter.name.starts_with("blocks."));
  }
}

TEST(StateInventory, CountsAgreeWithAHandCount) {
  // attention 2 * (8 + 32 + 8 + 16 + 4), mlp 8 + 24 + 6 + 24 + 4, shared 8 + 12 + 3 + 12 + 4, coefficient 4,
  // gate 8 + 8, expert 20 + 5 + 20 + 4, embeddings 40 + 32, final norm 8
  const ParameterCount count = count_parameters(small());
  EXPECT_EQ(count.expert, 2 * 49);
  EXPECT_EQ(count.total, 2 * 68 + 66 + 39 + 4 + 16 + 2 * 49 + 72 + 8);
  EXPECT_EQ(count.active, count.total - 49);
}

TEST(StateInventory, ExpertsGoToTheRanksOfTheExpertGroup) {
  MoeModel model = small();
  model.blocks[1].moe->expert_count = 4;
  const ParallelLayout layout{4, 2, 1, 1, 0};
  const std::size_t all = parameters(model).size();
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    std::set<std::int32_t> own;
    const std::vector<Parameter> held = parameters_of_rank(model, layout, Rank(rank));
    for (const Parameter& parameter : held) {
      if (parameter.expert) own.insert(parameter.expert->value());
    }
    EXPECT_EQ(own, (rank % 2 == 0 ? std::set<std::int32_t>{0, 1} : std::set<std::int32_t>{2, 3}));
    EXPECT_EQ(held.size(), all - 2 * 4);  // two experts of four tensors are elsewhere
  }
}

TEST(StateInventory, ExpertGroupHoldsEveryExpertOnce) {
  const MoeModel model = zoo("quickstart_scmoe");
  const ParallelLayout layout{8, 4, 1, 1, 0};
  std::map<std::string, int> copies;
  for (const Rank rank : layout.members(Group::Expert, Rank(0))) {
    for (const Parameter& parameter : parameters_of_rank(model, layout, rank)) ++copies[parameter.name];
  }
  for (const Parameter& parameter : parameters(model)) {
    EXPECT_EQ(copies[parameter.name], parameter.expert ? 1 : 4) << parameter.name;
  }
}

TEST(Precision, AMasterExistsOnlyBesideASmallerWeight) {
  const auto bytes = [](const Precision& p) {
    return std::vector<std::int64_t>{p.weight, p.master, p.first_moment, p.second_moment, p.gradient};
  };
  EXPECT_EQ(bytes(precision_of(2)), (std::vector<std::int64_t>{2, 4, 4, 4, 4}));
  EXPECT_EQ(bytes(precision_of(4)), (std::vector<std::int64_t>{4, 0, 4, 4, 4}));
  EXPECT_EQ(bytes(precision_of(8)), (std::vector<std::int64_t>{8, 0, 8, 8, 8}));
}

TEST(RankMemory, ZeroStagesCutWhatTheReplicasShare) {
  MoeModel model = small();
  const Precision bf16 = precision_of(2);
  const std::int64_t all = count_parameters(model).total;
  const std::int64_t expert = count_parameters(model).expert / 2;  // of one rank with EP 2
  const std::int64_t shared = all - 2 * expert;
  std::int64_t cut = 0;  // ceil(n / replicas) of every tensor
  for (const Parameter& parameter : parameters(model)) {
    if (parameter.expert && parameter.expert->value() == 1) continue;
    cut += (parameter.element_count() + (parameter.expert ? 1 : 3)) / (parameter.expert ? 2 : 4);
  }
  ParallelLayout layout{4, 2, 1, 1, 0};
  for (layout.zero_stage = 0; layout.zero_stage <= 3; ++layout.zero_stage) {
    const RankMemory memory = rank_memory(model, layout, Rank(1), bf16);
    const int stage = layout.zero_stage;
    EXPECT_EQ(memory.weight, Bytes(2 * (stage >= 3 ? cut : shared + expert))) << stage;
    EXPECT_EQ(memory.master, Bytes(4 * (stage >= 1 ? cut : shared + expert))) << stage;
    EXPECT_EQ(memory.moments, Bytes(8 * (stage >= 1 ? cut : shared + expert))) << stage;
    EXPECT_EQ(memory.gradient, Bytes(4 * (stage >= 2 ? cut : shared + expert))) << stage;
  }
}

}  // namespace
}  // namespace moecast
