#include "models/moe_model_json.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kZoo = std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo";

Result<MoeModel> parse(const std::string& text) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "model.json");
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  MoeModel model = read_moe_model(reader);
  RETURN_IF_ERROR(reader.finish());
  return model;
}

/// A small valid description with `patch` merged in (RFC 7386).
std::string patched(const std::string& patch) {
  Json json = Json::parse(R"({
      "name": "m", "d_model": 64, "vocabulary": 256, "max_sequence": 128, "attention": {"heads": 4},
      "layers": {"count": 4, "dense_width": 256, "moe_every": 2, "moe_offset": 1},
      "moe": {"experts": 8, "expert_width": 256, "router": {"top_k": 2}, "capacity_factor": 1.25}})");
  json.merge_patch(Json::parse(patch));
  return json.dump();
}

/// "pointer code" of every problem.
std::vector<std::string> problems(const std::string& patch) {
  const Result<MoeModel> model = parse(patched(patch));
  std::vector<std::string> out;
  if (model.ok()) return out;
  for (const Problem& problem : model.error().problems) out.push_back(problem.pointer + " " + problem.code);
  std::sort(out.begin(), out.end());
  return out;
}

void expect_round_trip(const MoeModel& model) {
  const Result<MoeModel> again = parse(to_json(model).dump());
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(*again, model) << to_json(model).dump(2);
}

TEST(MoeFfn, CapacityIsThatOfTutel) {
  MoeFfn moe;
  moe.expert_count = 8;
  moe.gate.top_k = 2;
  moe.capacity_factor = 1.25;
  EXPECT_EQ(moe.capacity(512), 160);  // 2 * floor(1.25 * 64)
  EXPECT_EQ(moe.capacity(513), 162);  // 2 * floor(1.25 * 65 = 81.25)
  EXPECT_EQ(moe.capacity(1), 2);      // 2 * floor(1.25 * 1)
  moe.gate.top_k = 1;
  moe.capacity_factor = 2.0;
  EXPECT_EQ(moe.capacity(18432), 4608);
  moe.capacity_factor = 0.5;
  EXPECT_EQ(moe.capacity(8), 1);  // never no slot at all
  moe.capacity_factor = std::nullopt;
  EXPECT_EQ(moe.capacity(8), std::nullopt);
}

TEST(MoeModelJson, ReadsThePatternWithItsDefaults) {
  const Result<MoeModel> model = parse(patched("{}"));
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_EQ(model->attention, (Attention{4, 4, 16}));
  ASSERT_EQ(model->layer_count(), 4);
  EXPECT_EQ(model->blocks[0], (Block{256, std::nullopt}));
  ASSERT_TRUE(model->blocks[3].moe);
  EXPECT_EQ(model->blocks[3].moe->gate, (GateRule{RouterKind::SoftmaxTopK, 2, true}));
  EXPECT_EQ(model->blocks[3].moe->capacity_factor, 1.25);
  EXPECT_EQ(model->blocks[3].dense_width, 0);
  EXPECT_EQ(model->blocks[1], model->blocks[3]);
}

TEST(MoeModelJson, WithoutMoeEveryBlockIsDense) {
  const Result<MoeModel> model = parse(patched(R"({"moe": null, "layers": {"moe_every": null, "moe_offset": null}})"));
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_EQ(model->blocks, std::vector<Block>(4, Block{256, std::nullopt}));
  expect_round_trip(*model);
  EXPECT_EQ(problems(R"({"moe": null})"),
            (std::vector<std::string>{"/layers/moe_every unknown-key", "/layers/moe_offset unknown-key"}));
}

TEST(MoeModelJson, ReportsEveryProblemTogether) {
  EXPECT_EQ(problems(R"({"d_model": 0, "nmae": 1, "attention": {"heads": 6, "kv_heads": 4}, "position": "rpe",
                         "layers": {"moe_offset": 2}, "moe": {"router": {"top_k": 9}, "coefficient_gate": "cg1",
                         "dropless": true}})"),
            (std::vector<std::string>{"/attention/kv_heads out-of-range", "/d_model out-of-range",
                                      "/layers/moe_offset out-of-range", "/moe/coefficient_gate conflict",
                                      "/moe/dropless conflict", "/moe/router/top_k out-of-range", "/nmae unknown-key",
                                      "/position unknown-value"}));
}

TEST(MoeModelJson, ChecksWhatSpansSeveralKeys) {
  using Found = std::vector<std::string>;
  EXPECT_EQ(problems(R"({"attention": {"heads": 5}})"), Found{"/attention/heads out-of-range"});
  EXPECT_EQ(problems(R"({"attention": {"heads": 5, "head_dim": 16}})"), Found{});  // need not fill d_model
  EXPECT_EQ(problems(R"({"attention": {"head_dim": 15}, "position": "rope"})"),
            Found{"/attention/head_dim out-of-range"});
  EXPECT_EQ(problems(R"({"attention": {"kv_heads": 3}})"), Found{"/attention/kv_heads out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"top_k": 9}}})"), Found{"/moe/router/top_k out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"capacity_factor": null}})"), Found{"/moe/capacity_factor missing-key"});
  EXPECT_EQ(problems(R"({"moe": {"capacity_factor": null, "dropless": true}})"), Found{});
  EXPECT_EQ(problems(R"({"moe": {"coefficient_gate": "cg1", "shared_expert_width": 64}})"), Found{});
  EXPECT_EQ(problems(R"({"moe": {"coefficient_gate": "cg1", "shared_expert_width": -1}})"),
            Found{"/moe/shared_expert_width out-of-range"});  // and nothing that only follows from it
  EXPECT_EQ(problems(R"({"layers": {"moe_offset": 2}})"), Found{"/layers/moe_offset out-of-range"});
  EXPECT_EQ(problems(R"({"layers": {"count": 1}})"), Found{"/layers/moe_offset out-of-range"});  // no MoE at all
  EXPECT_EQ(problems(R"({"layers": {"dense_width": null}})"), Found{"/layers/dense_width missing-key"});
  EXPECT_EQ(problems(R"({"layers": {"moe_every": 1, "moe_offset": null, "dense_width": null}})"), Found{});
}

TEST(MoeModelJson, ReadsLatentAttention) {
  const Result<MoeModel> model = parse(patched(R"({"attention": {"heads": 4, "latent": {"query_rank": 24, "kv_rank": 16,
      "nope_dim": 12, "rope_dim": 4, "value_dim": 10}}})"));
  ASSERT_TRUE(model.ok()) << model.error().text();
  const Attention& attention = model->attention;
  EXPECT_EQ(attention.latent, (LatentAttention{24, 16, 12, 4, 10}));
  EXPECT_EQ(attention.head_dim, 16);
  EXPECT_EQ(attention.kv_heads, 4);
  EXPECT_EQ(attention.output_width(), 40);
  EXPECT_EQ(attention.cache_width(), 20);
  EXPECT_EQ(problems(R"({"attention": {"heads": 4, "kv_heads": 2, "latent": {"kv_rank": 0, "rope_dim": 4,
      "value_dim": 10}}})"),
            (std::vector<std::string>{"/attention/kv_heads unknown-key", "/attention/latent/kv_rank out-of-range",
                                      "/attention/latent/nope_dim missing-key"}));
}

TEST(MoeModelJson, ReadsWindowsOfBlocks) {
  const MoeModel model = *parse(patched(R"({"attention": {"window": 128, "full_every": 2}})"));
  EXPECT_EQ(model.attention.window_of(0), 128);
  EXPECT_EQ(model.attention.window_of(1), std::nullopt);
  EXPECT_EQ(parse(patched(R"({"attention": {"window": 128}})"))->attention.window_of(1), 128);
  EXPECT_EQ(problems(R"({"attention": {"window": 128, "full_every": 2, "full_offset": 2}})"),
            std::vector<std::string>{"/attention/full_offset out-of-range"});
  EXPECT_EQ(problems(R"({"attention": {"full_every": 2}})"),
            std::vector<std::string>{"/attention/full_every unknown-key"});
}

TEST(MoeModelJson, ReadsRouters) {
  using Found = std::vector<std::string>;
  const MoeModel model = *parse(patched(R"({"moe": {"zero_experts": 4, "router": {"kind": "sigmoid_top_k",
      "selection_bias": true, "groups": 4, "top_groups": 2, "scale": 2.5}}})"));
  const MoeFfn& moe = *model.blocks[1].moe;
  EXPECT_EQ(moe.gate, (GateRule{RouterKind::SigmoidTopK, 2, true, true, 0.001, 4, 2, 2.5}));
  EXPECT_EQ(moe.choice_count(), 12);
  EXPECT_DOUBLE_EQ(moe.computing_choices(), 2 * 8.0 / 12);
  EXPECT_EQ(problems(R"({"moe": {"router": {"top_k": 12}, "zero_experts": 4}})"), Found{});
  EXPECT_EQ(problems(R"({"moe": {"router": {"groups": 3}}})"), Found{"/moe/router/groups out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"groups": 8, "top_groups": 1}}})"),  // one expert, two choices
            Found{"/moe/router/top_groups out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "random_second", "top_k": 1}}})"),
            Found{"/moe/router/top_k conflict"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "expert_choice"}, "capacity_factor": null, "dropless": true}})"),
            Found{"/moe/dropless conflict"});
}

TEST(MoeModelJson, ReadsTheLossesOfRouters) {
  using Found = std::vector<std::string>;
  const MoeModel model = *parse(patched(R"({"moe": {"balance_loss": 0, "importance_loss": 0.1, "load_loss": 0.2,
      "z_loss": 0.001, "router": {"kind": "noisy_top_k"}}})"));
  EXPECT_EQ(model.blocks[1].moe->loss_coefficients, (RouterLosses{0.1, 0.2, 0.001}));
  EXPECT_EQ(problems(R"({"moe": {"load_loss": 0.1}})"), Found{"/moe/load_loss conflict"});
  EXPECT_EQ(problems(R"({"moe": {"z_loss": 0.1, "router": {"kind": "hash"}}})"), Found{"/moe/z_loss conflict"});
  EXPECT_EQ(problems(R"({"moe": {"z_loss": -1}})"), Found{"/moe/z_loss out-of-range"});
}

TEST(MoeModelJson, RefusesWhatARouterCannotHave) {
  using Found = std::vector<std::string>;
  EXPECT_EQ(problems(R"({"moe": {"capacity_factor": 0}})"), Found{"/moe/capacity_factor out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"top_k": 9}}})"), Found{"/moe/router/top_k out-of-range"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"bias_rate": 0.1}}})"), Found{"/moe/router/bias_rate unknown-key"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "random", "selection_bias": true}}})"),
            Found{"/moe/router/selection_bias conflict"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "noisy_top_k", "groups": 4, "top_groups": 2}}})"),
            Found{"/moe/router/groups conflict"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "expert_choice"}, "zero_experts": 2}})"),
            Found{"/moe/zero_experts conflict"});
  EXPECT_EQ(problems(R"({"moe": {"router": {"kind": "expert_choice"}, "double_gate": true, "shortcut": "pos2"}})"),
            Found{"/moe/double_gate conflict"});
}

TEST(MoeModelJson, ADoubleGateNeedsAShortcutAndNoSharedExpert) {
  using Found = std::vector<std::string>;
  EXPECT_EQ(problems(R"({"moe": {"double_gate": true, "shortcut": "pos2"}})"), Found{});
  EXPECT_EQ(problems(R"({"moe": {"double_gate": true}})"), Found{"/moe/double_gate conflict"});
  EXPECT_EQ(problems(R"({"moe": {"double_gate": true, "shortcut": "pos2", "shared_expert_width": 8}})"),
            Found{"/moe/double_gate conflict"});
  EXPECT_EQ(problems(R"({"moe": {"double_gate": true, "shortcut": "pos2", "router": {"top_k": 5}}})"),
            Found{"/moe/double_gate conflict"});  // 8 experts, and no token twice to one
}

TEST(MoeModelJson, Pos2AndPos3NeedADenseBlockBefore) {
  using Found = std::vector<std::string>;
  for (const char* shortcut : {"pos1", "pos2", "pos3"}) {
    const std::string moe = std::string(R"("moe": {"shortcut": ")") + shortcut + "\"}";
    const Found refused = std::string(shortcut) == "pos1" ? Found{} : Found{"/moe/shortcut conflict"};
    EXPECT_EQ(problems("{" + moe + "}"), Found{}) << shortcut;
    EXPECT_EQ(problems(R"({"layers": {"moe_offset": 0}, )" + moe + "}").size(), refused.size()) << shortcut;
    EXPECT_EQ(problems(R"({"layers": {"moe_every": 1, "moe_offset": 0}, )" + moe + "}").size(), refused.size())
        << shortcut;
  }
}

TEST(MoeModelJson, AMissingPartIsReportedOnce) {
  EXPECT_EQ(problems(R"({"attention": null, "layers": null})"),
            (std::vector<std::string>{"/attention missing-key", "/layers missing-key"}));
}

TEST(MoeModelJson, BlocksAreRuns) {
  const Result<MoeModel> model = parse(patched(R"({"layers": null, "moe": null, "blocks": [
      {"dense_width": 512}, {"repeat": 2, "moe": {"experts": 4, "expert_width": 32, "router": {"top_k": 1},
      "dropless": true}}]})"));
  ASSERT_TRUE(model.ok()) << model.error().text();
  ASSERT_EQ(model->layer_count(), 3);
  EXPECT_EQ(model->blocks[0].dense_width, 512);
  EXPECT_EQ(model->blocks[2].moe->expert_count, 4);
  expect_round_trip(*model);
  EXPECT_EQ(problems(R"({"blocks": [{"dense_width": 512}]})"),  // one way or the other
            (std::vector<std::string>{"/layers unknown-key", "/moe unknown-key"}));
}

TEST(MoeModelJson, ARunMayBeASequence) {
  const Result<MoeModel> model = parse(patched(R"({"layers": null, "moe": null, "blocks": [{"repeat": 2, "blocks": [
      {"repeat": 2, "dense_width": 512}, {"moe": {"experts": 4, "expert_width": 32, "router": {"top_k": 1},
      "dropless": true}}]}, {"dense_width": 256}]})"));
  ASSERT_TRUE(model.ok()) << model.error().text();
  std::string kinds;
  for (const Block& block : model->blocks) kinds += block.moe ? 'M' : 'D';
  EXPECT_EQ(kinds, "DDMDDMD");
  expect_round_trip(*model);
  EXPECT_EQ(problems(R"({"layers": null, "moe": null, "blocks": [{"repeat": 1000, "blocks": [{"repeat": 1000,
      "blocks": [{"repeat": 1000, "dense_width": 1}]}]}]})"),
            std::vector<std::string>{"/blocks out-of-range"});
}

TEST(MoeModelJson, WritesWhatReadsBackEqual) {
  for (const char* patch :
       {"{}", R"({"moe": {"shared_expert_width": 128, "coefficient_gate": "cg1", "shortcut": "pos3"}})",
        R"({"activation": "swiglu", "norm": "rms_norm", "position": "rope", "rope_theta": 1e6, "bias": false,
            "tie_embeddings": false, "norm_epsilon": 1e-6, "attention": {"kv_heads": 2, "head_dim": 128}})",
        R"({"moe": {"capacity_factor": null, "dropless": true, "router": {"kind": "top_k_softmax",
            "renormalize": false}, "balance_loss": 0}})",
        R"({"layers": {"moe_every": 4, "moe_offset": 2}})", R"({"layers": {"moe_every": 1, "moe_offset": 0}})",
        R"({"attention": {"latent": {"kv_rank": 16, "nope_dim": 12, "rope_dim": 4, "value_dim": 10}},
            "source": "somewhere"})",
        R"({"activation": "geglu", "attention": {"window": 128, "full_every": 3, "full_offset": 1, "qk_norm": "width",
            "qkv_bias": true}})",
        R"({"moe": {"double_gate": true, "shortcut": "pos2"}})",
        R"({"moe": {"zero_experts": 4, "shared_expert_width": 8, "coefficient_gate": "cg2", "router": {"groups": 4,
            "kind": "sigmoid_top_k", "selection_bias": true, "top_groups": 2, "scale": 2.5, "bias_rate": 0.01}}})",
        R"({"moe": {"importance_loss": 0.1, "load_loss": 0.2, "z_loss": 0.3, "router": {"kind": "noisy_top_k"}}})"}) {
    const Result<MoeModel> model = parse(patched(patch));
    ASSERT_TRUE(model.ok()) << patch << model.error().text();
    expect_round_trip(*model);
  }
}

TEST(MoeModelJson, BlocksWithoutAPatternAreWrittenAsRuns) {
  MoeModel model = *parse(patched("{}"));
  std::swap(model.blocks[2], model.blocks[3]);  // D M M D
  EXPECT_TRUE(to_json(model).contains("blocks"));
  expect_round_trip(model);
  model.blocks = {model.blocks[0], model.blocks[1], Block{7, std::nullopt}, model.blocks[1]};  // widths differ
  EXPECT_TRUE(to_json(model).contains("blocks"));
  expect_round_trip(model);
}

TEST(ModelZoo, EveryModelLoadsAndReadsBack) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kZoo)) {
    if (entry.path().extension() != ".json") continue;
    ++count;
    const Result<MoeModel> model = load_moe_model(entry.path());
    ASSERT_TRUE(model.ok()) << model.error().text();
    expect_round_trip(*model);
  }
  EXPECT_GE(count, 7);
}

TEST(ModelZoo, QuickstartVariantsDifferOnlyInTheirMoe) {
  const MoeModel top2 = *load_moe_model(kZoo / "quickstart_top2.json");
  MoeFfn expected = *top2.blocks[1].moe;
  const auto moe_of = [&](const char* file) {
    const MoeModel model = *load_moe_model(kZoo / file);
    EXPECT_EQ(model.attention, top2.attention);
    EXPECT_EQ(model.blocks[0], top2.blocks[0]);
    return *model.blocks[1].moe;
  };
  EXPECT_EQ(expected.gate.top_k, 2);
  expected.gate.top_k = 1;
  EXPECT_EQ(moe_of("quickstart_top1.json"), expected);
  expected.shared_expert_width = expected.expert_width;
  expected.coefficient_gate = CoefficientGate::Cg1;
  EXPECT_EQ(moe_of("quickstart_shared_expert.json"), expected);
  expected.shortcut = Shortcut::Pos2;
  EXPECT_EQ(moe_of("quickstart_scmoe.json"), expected);
}

TEST(LoadMoeModel, NamesTheFileInEveryProblem) {
  const Result<MoeModel> missing = load_moe_model(kZoo / "no_such_model.json");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().text().find("no_such_model.json"), std::string::npos);
}

}  // namespace
}  // namespace moecast
