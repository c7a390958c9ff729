#include "models/operator_work.h"

#include <gtest/gtest.h>

#include <functional>

#include "models/state_inventory.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;
using Change = std::function<void(MoeModel&)>;

constexpr LatentAttention kLatent{24, 16, 12, 4, 10};
constexpr ParallelLayout kAlone{};
constexpr Batch kBatch{2, 1, 16};

MoeModel changed(const Change& change) {
  MoeModel model = paired_model(2, 2, true, Shortcut::Pos2);
  for (Block& block : model.blocks) {
    if (block.moe) block.moe->capacity_factor.reset();
  }
  change(model);
  return model;
}

void each_moe(MoeModel& model, const std::function<void(MoeFfn&)>& change) {
  for (Block& block : model.blocks) {
    if (block.moe) change(*block.moe);
  }
}

void use_latent(MoeModel& model, const LatentAttention& latent) {
  model.attention = {2, 2, latent.nope_dim + latent.rope_dim};
  model.attention.latent = latent;
}

/// Every kind of operator whose kernels depend on the description.
const std::vector<std::pair<const char*, Change>> kChanges = {
    {"plain", [](MoeModel&) {}},
    {"latent", [](MoeModel& model) { use_latent(model, kLatent); }},
    {"latent without query rank",
     [](MoeModel& model) {
       use_latent(model, {std::nullopt, 16, 12, 4, 10});
     }},
    {"narrow heads",
     [](MoeModel& model) {
       model.attention = {4, 2, 6};
     }},
    {"geglu", [](MoeModel& model) { model.activation = Activation::GeGlu; }},
    {"zero experts", [](MoeModel& model) { each_moe(model, [](MoeFfn& moe) { moe.zero_expert_count = 8; }); }},
    {"noisy", [](MoeModel& model) { each_moe(model, [](MoeFfn& moe) { moe.gate.router = RouterKind::NoisyTopK; }); }},
    {"hash", [](MoeModel& model) { each_moe(model, [](MoeFfn& moe) { moe.gate.router = RouterKind::Hash; }); }},
    {"cg2", [](MoeModel& model) { each_moe(model, [](MoeFfn& moe) { moe.coefficient_gate = CoefficientGate::Cg2; }); }},
};

double products(const MoeModel& model, Phase phase) {
  const Result<StepPlan> plan = build_step_plan({model, kAlone, kBatch, {}, 4, {}});
  EXPECT_TRUE(plan.ok());
  double sum = 0;
  for (const Operator& op : plan->operators) {
    for (const Work& work : op.work) {
      if (op.phase == phase && !std::holds_alternative<AttentionWork>(work)) sum += flops(work).value();
    }
  }
  return sum;
}

/// Experts as often as they are chosen; gate and experts once for each routing.
double met_by_a_token(const MoeModel& model, const Parameter& parameter) {
  const auto elements = static_cast<double>(parameter.element_count());
  const bool gate = parameter.name.ends_with(".gate.w") || parameter.name.ends_with(".w_noise");
  if (!gate && !parameter.expert) return elements;
  const MoeFfn& moe = *model.blocks[parameter.layer->index()].moe;
  const double share = gate ? 1 : moe.computing_choices() / static_cast<double>(moe.expert_count);
  return elements * share * static_cast<double>(moe.routing_count());
}

TEST(OperatorWork, EveryMatrixMeetsEveryTokenOnce) {
  for (const auto& [name, change] : kChanges) {
    const MoeModel model = changed(change);
    double active = 0;  // elements of matrices that one token meets; the tied embedding is the head's
    for (const Parameter& parameter : parameters(model)) {
      if (parameter.shape.size() == 2 && parameter.name != "embedding.position")
        active += met_by_a_token(model, parameter);
    }
    EXPECT_DOUBLE_EQ(products(model, Phase::Forward), 2.0 * static_cast<double>(kBatch.tokens()) * active) << name;
  }
}

TEST(OperatorWork, BackwardHasTwiceTheProductsOfForward) {
  for (const auto& [name, change] : kChanges) {
    const MoeModel model = changed(change);
    EXPECT_DOUBLE_EQ(products(model, Phase::Backward), 2 * products(model, Phase::Forward)) << name;
  }
}

TEST(OperatorWork, LatentAttentionIsThatOfDeepSeek) {
  const MoeModel model = changed([](MoeModel& m) { use_latent(m, kLatent); });
  const StepPlanRequest request{model, kAlone, kBatch, {}, 4, {}};
  std::vector<std::string> shapes;
  for (const Work& work : OperatorWork(request, 0).attention(Phase::Forward, LayerId(0), false)) {
    if (const auto* gemm = std::get_if<GemmWork>(&work)) {
      shapes.push_back(std::to_string(gemm->n) + "x" + std::to_string(gemm->k));
    }
    if (const auto* core = std::get_if<AttentionWork>(&work)) {
      EXPECT_EQ(core->kv_heads, 2);  // decompressed: every head has its own key
      EXPECT_EQ(core->head_dim, 16);
      EXPECT_EQ(core->value_dim, 10);
    }
  }
  // down and up for the query, down with the rope key, up to keys and values, output
  EXPECT_EQ(shapes, (std::vector<std::string>{"24x32", "32x24", "20x32", "44x16", "32x20"}));
}

TEST(OperatorWork, ValuesNarrowerThanKeysCostLess) {
  AttentionWork work{1, 8, 3, 3, 16, false};
  const double pairs = 3 * 36;
  EXPECT_DOUBLE_EQ(flops(work).value(), 2 * (16 + 16) * pairs);
  work.value_dim = 10;
  EXPECT_DOUBLE_EQ(flops(work).value(), 2 * (16 + 10) * pairs);
  EXPECT_EQ(bytes(work, 2), Bytes(2 * 8 * 3 * (16 + 16 + 10 + 10)));  // q, k, v, out
  work.backward = true;
  EXPECT_DOUBLE_EQ(flops(work).value(), 2 * (3 * 16 + 2 * 10) * pairs);
}

TEST(OperatorWork, AWindowSeesABandOfTheTriangle) {
  const auto pairs_of = [](std::int64_t sequence, std::int64_t window) {
    AttentionWork work{1, sequence, 1, 1, 1, false};
    work.window = window;
    return flops(work).value() / 4;
  };
  for (const std::int64_t sequence : {1, 5, 16}) {
    for (const std::int64_t window : {1, 4, 16, 40}) {
      double expected = 0;
      for (std::int64_t q = 0; q < sequence; ++q) expected += static_cast<double>(std::min(q + 1, window));
      EXPECT_DOUBLE_EQ(pairs_of(sequence, window), expected) << sequence << " " << window;
    }
  }
}

TEST(OperatorWork, WindowsStandInTheBlocksThatThePatternNames) {
  const MoeModel model = changed([](MoeModel& m) {
    m.attention.window = 4;
    m.attention.full_every = 2;
    m.attention.full_offset = 1;
  });
  const StepPlanRequest request{model, kAlone, kBatch, {}, 4, {}};
  const OperatorWork work(request, 0);
  for (std::int32_t block = 0; block < 4; ++block) {
    for (const Work& each : work.attention(Phase::Backward, LayerId(block), false)) {
      const auto* core = std::get_if<AttentionWork>(&each);
      if (core == nullptr) continue;
      EXPECT_EQ(core->window.has_value(), block % 2 == 0);
    }
  }
}

TEST(OperatorWork, ZeroExpertsTakeTheirShareAndSendNothing) {
  const MoeModel model = changed([](MoeModel& m) {
    each_moe(m, [](MoeFfn& moe) {
      moe.zero_expert_count = 4;  // of 12
      moe.gate.top_k = 3;
    });
  });
  const ParallelLayout layout{.data = 4, .expert = 4};
  const StepPlanRequest request{model, layout, kBatch, {}, 4, {}};
  const OperatorWork work(request, 0);
  const MoeFfn& moe = *model.blocks[1].moe;
  EXPECT_EQ(work.send_rows(moe), 32 * 2);  // of 3 choices of 32 tokens, two thirds
  EXPECT_EQ(work.share(moe, 0, 1).groups, 2);
  EXPECT_DOUBLE_EQ(work.share(moe, 0, 1).rows, 32 * 2 * 4 / 8.0);
}

}  // namespace
}  // namespace moecast
