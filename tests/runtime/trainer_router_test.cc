/// Every router and variant: ranks, micro-batches, schedules and ZeRO change nothing but rounding, and the kernels are
/// the plan's.

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "runtime/trainer/trainable.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

struct Variant {
  std::string name;
  std::function<void(Workload&)> change;
};

void PrintTo(const Variant& subject, std::ostream* out) { *out << subject.name; }

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const RouterCase& router : router_cases()) {
    all.push_back({router.name, [&router](Workload& w) { for_each_moe(w, router.change); }});
  }
  all.push_back({"double_gate", [](Workload& w) {
                   for_each_moe(w, [](MoeFfn& moe) {
                     moe.double_gate = true;
                     moe.shortcut = Shortcut::Pos2;
                     moe.gate.top_k = 1;
                   });
                 }});
  all.push_back({"double_gate_random", [](Workload& w) {
                   for_each_moe(w, [](MoeFfn& moe) {
                     moe.double_gate = true;
                     moe.shortcut = Shortcut::Pos2;
                     moe.gate.router = RouterKind::Random;
                   });
                 }});
  all.push_back({"shared_cg2", [](Workload& w) { use_shared_expert(w, Shortcut::Pos2, CoefficientGate::Cg2); }});
  return all;
}

class RouterTraining : public ::testing::TestWithParam<Variant> {
 protected:
  /// Four sequences a step; with a capacity, drops are those of a sequence.
  [[nodiscard]] Workload workload(std::int64_t ranks, std::int64_t expert_degree) const {
    Workload workload = tiny_workload();
    GetParam().change(workload);
    workload.layout.data = ranks;
    workload.layout.expert = expert_degree;
    workload.batch.micro_batch = 1;
    workload.batch.micro_batch_count = 4 / ranks;
    return workload;
  }
  static TrainResult must_train(const Workload& workload, const TextFile& text) {
    Result<TrainResult> result = run_training(train_config(workload, text, 3));
    EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().text());
    return result.ok() ? std::move(result).value() : TrainResult{};
  }
  static void expect_close(const TrainResult& a, const TrainResult& b) {
    ASSERT_EQ(a.loss.size(), b.loss.size());
    for (std::size_t i = 0; i < a.loss.size(); ++i) {
      EXPECT_NEAR(a.loss[i], b.loss[i], 1e-10) << "step " << i;
      EXPECT_NEAR(a.steps[i].gradient_norm, b.steps[i].gradient_norm, 1e-8) << "step " << i;
      EXPECT_NEAR(a.steps[i].router_losses.importance, b.steps[i].router_losses.importance, 1e-8) << "step " << i;
    }
    EXPECT_NEAR(a.validation_loss, b.validation_loss, 1e-10);
    for (std::size_t i = 0; i < a.expert_load.size(); ++i) EXPECT_EQ(a.expert_load[i].share, b.expert_load[i].share);
  }
};

TEST_P(RouterTraining, RanksMicroBatchesAndShardsAgree) {
  const TextFile text;
  const TrainResult single = must_train(workload(1, 1), text);
  struct Division {
    std::int64_t ranks, expert_degree;
    int zero_stage;
  };
  for (const Division& d : {Division{2, 2, 1}, {4, 2, 0}, {4, 2, 2}}) {
    SCOPED_TRACE(::testing::Message() << d.ranks << " ranks, EP " << d.expert_degree << ", ZeRO " << d.zero_stage);
    Workload divided = workload(d.ranks, d.expert_degree);
    divided.layout.zero_stage = d.zero_stage;
    expect_close(must_train(divided, text), single);
  }
}

TEST_P(RouterTraining, SchedulesDoNotChangeLosses) {
  const TextFile text;
  Workload base = workload(2, 2);
  for_each_moe(base, [](MoeFfn& moe) {
    moe.shortcut = Shortcut::Pos2;
    moe.capacity_factor = 2;
  });
  const TrainResult sequential = must_train(base, text);
  for (const Schedule& schedule : {Schedule{ScheduleKind::Pipelined, 2}, Schedule{ScheduleKind::Shortcut, 2, 3, 1}}) {
    SCOPED_TRACE(static_cast<int>(schedule.kind));
    base.schedule = schedule;
    expect_close(must_train(base, text), sequential);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RouterTraining, ::testing::ValuesIn(variants()),
                         [](const auto& variant) { return variant.param.name; });

TEST(SelectionBias, MovesByTheRateAgainstTheLoadOfTheStep) {
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) {
    moe.gate.selection_bias = true;
    moe.gate.bias_rate = 0.25;
  });
  workload.batch.micro_batch_count = 2;
  SingleRank rank(workload);
  ParameterStore& store = rank.trainer().store();
  const Tensor bias = store.tensor(Component::Master, "blocks.1.gate.selection_bias");
  const std::vector<double> before(values(bias).begin(), values(bias).end());
  const StepOutcome outcome = rank.run([](const Operator&) { return true; });
  const std::vector<std::int64_t>& load = outcome.routed[1];
  const std::int64_t mean = 2 * 12 * 2 / 4;  // micro-batches, tokens, choices, experts
  ASSERT_EQ(std::accumulate(load.begin(), load.end(), std::int64_t{0}), 4 * mean);
  for (std::size_t e = 0; e < load.size(); ++e) {
    const double step = load[e] < mean ? 0.25 : load[e] > mean ? -0.25 : 0;
    EXPECT_EQ(values(bias)[e], before[e] + step) << e;
    EXPECT_EQ(values(store.tensor(Component::Gradient, "blocks.1.gate.selection_bias"))[e], 0);
  }
}

/// Without it the router prefers a few experts; the bias evens them out and no gradient is spent on it.
TEST(SelectionBias, BalancesWithoutALoss) {
  const TextFile text;
  const auto busiest = [&](double rate) {
    Workload workload = tiny_workload();
    for_each_moe(workload, [&](MoeFfn& moe) {
      moe.gate.router = RouterKind::SigmoidTopK;
      moe.gate.top_k = 1;
      moe.gate.selection_bias = true;
      moe.gate.bias_rate = rate;
      moe.balance_loss_coefficient = 0;
    });
    workload.batch.micro_batch = 16;
    Result<TrainResult> result = run_training(train_config(workload, text, 80));
    EXPECT_TRUE(result.ok());
    std::int64_t most = 0;  // of the last ten steps
    for (std::size_t i = 70; i < 80; ++i) {
      for (const LayerTokens& layer : result->steps[i].tokens) most += std::ranges::max(layer.routed);
    }
    return static_cast<double>(most) / (20.0 * 16 * 6);
  };
  const double free = busiest(0), balanced = busiest(0.001);
  EXPECT_GT(free, 1.4 * balanced) << free << " and " << balanced;  // 0.25 would be even, but letters come in lumps
}

TEST(LoadStatistics, AreKeptForEveryStepAndAddUpToThoseOfTheRun) {
  const TextFile text;
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) {
    moe.capacity_factor = 0.5;
    moe.zero_expert_count = 1;
  });
  workload.layout.data = workload.layout.expert = 2;
  const Result<TrainResult> result = run_training(train_config(workload, text, 4));
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->steps.size(), 4U);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    std::vector<double> sum(5, 0.0);
    double dropped = 0, all = 0;
    for (const StepRecord& step : result->steps) {
      ASSERT_EQ(step.tokens.size(), 2U);
      EXPECT_EQ(step.tokens[layer].layer, LayerId(layer == 0 ? 1 : 3));
      for (std::size_t e = 0; e < 5; ++e) sum[e] += static_cast<double>(step.tokens[layer].routed[e]);
      dropped += static_cast<double>(step.tokens[layer].dropped);
      all += 2 * 2 * 12;  // ranks, choices, tokens
    }
    EXPECT_GT(dropped, 0);
    EXPECT_DOUBLE_EQ(result->expert_load[layer].dropped, dropped / all);
    for (std::size_t e = 0; e < 5; ++e) EXPECT_DOUBLE_EQ(result->expert_load[layer].share[e], sum[e] / all);
  }
}

TEST(Trainable, CudaNamesTheRoutersThatItHasNoKernelsFor) {
  MoeModel model = tiny_workload().model;
  EXPECT_TRUE(untrainable_parts(model, BackendKind::Cuda).empty());
  MoeFfn& moe = *model.blocks[1].moe;
  moe.gate.router = RouterKind::SigmoidTopK;
  moe.gate.selection_bias = true;
  moe.zero_expert_count = 1;
  EXPECT_TRUE(untrainable_parts(model, BackendKind::Cpu).empty());
  EXPECT_EQ(untrainable_parts(model, BackendKind::Cuda),
            (std::vector<std::string>{"a router.kind other than softmax_top_k and top_k_softmax",
                                      "router.selection_bias", "zero_experts"}));
  moe.gate.router = RouterKind::SparseMixer;
  EXPECT_EQ(untrainable_parts(model, BackendKind::Cpu), std::vector<std::string>{"router.kind sparse_mixer"});
}

}  // namespace
}  // namespace moecast::testing
