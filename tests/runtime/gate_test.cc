/// What each router does with tokens, on values small enough to check by hand.

#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "runtime/cpu/cpu_backend.h"

namespace moecast::testing {
namespace {

using Values = std::vector<double>;
using Integers = std::vector<std::int32_t>;

/// One gate call on the CPU in F64, with memory of its own.
class GateRun {
 public:
  GateRun(const GateRule& rule, std::int64_t tokens, std::int64_t experts)
      : rule_(rule), tokens_(tokens), experts_(experts), choices_(rule.choices(experts)) {
    for (Values* each : {&scores, &logits, &noise_logits}) each->resize(size(tokens * experts));
    for (Integers* each : {&expert, &row}) each->resize(size(tokens * choices_));
    weight.resize(size(tokens * choices_));
    count.resize(size(experts));
    losses.resize(3);
    zero_weight.resize(size(tokens));
  }

  void run(std::optional<std::int64_t> capacity = std::nullopt) {
    GateInput input;
    input.logits = matrix(logits, experts_);
    input.noise_logits = matrix(noise_logits, experts_);
    if (!bias.empty()) input.bias = Tensor(bias.data(), DType::F64, {experts_});
    if (!ids.empty()) input.ids = Tensor(ids.data(), DType::I32, {tokens_});
    if (!taken.empty()) input.taken = Tensor(taken.data(), DType::I32, {tokens_, rule_.top_k});
    input.zero_expert_count = zero_experts;
    input.draws = draws;
    GateTensors out;
    out.scores = matrix(scores, experts_);
    out.expert = Tensor(expert.data(), DType::I32, {tokens_, choices_});
    out.weight = matrix(weight, choices_);
    out.row = Tensor(row.data(), DType::I32, {tokens_, choices_});
    out.count = Tensor(count.data(), DType::I32, {experts_});
    out.balance_loss = Tensor(&balance, DType::F64, {1});
    out.losses = Tensor(losses.data(), DType::F64, {3});
    out.zero_weight = Tensor(zero_weight.data(), DType::F64, {tokens_});
    make_cpu_backend()->gate(Lane::Compute, rule_, capacity, input, out);
  }

  Values logits, noise_logits, bias;
  Integers ids, taken;
  std::int64_t zero_experts = 0;
  GateDraws draws = {3, 0, 0, true};
  Values scores, weight, losses, zero_weight;
  Integers expert, row, count;
  double balance = 0;

 private:
  static std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }
  [[nodiscard]] Tensor matrix(Values& values, std::int64_t columns) const {
    return Tensor(values.data(), DType::F64, {tokens_, columns});
  }

  GateRule rule_;
  std::int64_t tokens_, experts_, choices_;
};

GateRule rule_of(RouterKind router, std::int64_t top_k) {
  GateRule rule;
  rule.router = router;
  rule.top_k = top_k;
  return rule;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(Gate, SigmoidWeightsAreScoresDividedByTheSumOfTheChosen) {
  GateRule rule = rule_of(RouterKind::SigmoidTopK, 2);
  rule.scale = 2.5;
  GateRun gate(rule, 1, 4);
  gate.logits = {0.5, -1, 2, 0};
  gate.run();
  EXPECT_EQ(gate.expert, (Integers{2, 0}));
  const double sum = sigmoid(2) + sigmoid(0.5);
  EXPECT_NEAR(gate.weight[0], 2.5 * sigmoid(2) / sum, 1e-15);
  EXPECT_NEAR(gate.weight[1], 2.5 * sigmoid(0.5) / sum, 1e-15);
  EXPECT_NEAR(gate.scores[3], 0.5, 1e-15);
}

TEST(Gate, TheSelectionBiasChoosesAndDoesNotWeigh) {
  GateRule rule = rule_of(RouterKind::SigmoidTopK, 1);
  rule.selection_bias = true;
  GateRun gate(rule, 1, 3);
  gate.logits = {1, 0, -1};
  gate.bias = {0, 0, 0.5};
  gate.run();
  EXPECT_EQ(gate.expert, Integers{2});
  EXPECT_NEAR(gate.weight[0], sigmoid(-1), 1e-15);
}

TEST(Gate, ATokenStaysInItsBestGroups) {
  GateRule rule = rule_of(RouterKind::SoftmaxTopK, 2);
  rule.groups = 3;
  rule.top_groups = 1;
  GateRun gate(rule, 1, 6);
  gate.logits = {3, 0, 2, 2, 1, 1};
  gate.run();
  EXPECT_EQ(gate.expert, (Integers{0, 1}));  // the group with the best expert

  rule.selection_bias = true;  // now a group counts by its best two
  GateRun biased(rule, 1, 6);
  biased.logits = {2.1, 0, 2, 2, 1, 1};
  biased.bias = Values(6, 0.0);
  biased.run();
  EXPECT_EQ(biased.expert, (Integers{2, 3}));
}

TEST(Gate, NoiseIsDrawnByTokenNumberAndLeftOutOfValidation) {
  GateRun gate(rule_of(RouterKind::NoisyTopK, 2), 2, 4);
  gate.logits = {0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4};
  gate.noise_logits = Values(8, 1.0);
  gate.run();
  const double deviation = std::log1p(std::exp(1.0));
  const CounterRandom random(3, 0);
  Values h;
  for (std::uint64_t e = 0; e < 4; ++e) h.push_back(gate.logits[e] + deviation * random.normal(1, e));
  const std::size_t first = static_cast<std::size_t>(gate.expert[2]), second = static_cast<std::size_t>(gate.expert[3]);
  EXPECT_NEAR(gate.weight[2], 1 / (1 + std::exp(h[second] - h[first])), 1e-12);
  for (std::size_t e = 0; e < 4; ++e) EXPECT_TRUE(e == first || h[e] < h[first]) << e;

  GateRun later(rule_of(RouterKind::NoisyTopK, 2), 1, 4);  // the second token alone
  later.logits = {0.1, 0.2, 0.3, 0.4};
  later.noise_logits = Values(4, 1.0);
  later.draws.first_token = 1;
  later.run();
  EXPECT_EQ(later.weight, (Values{gate.weight[2], gate.weight[3]}));

  gate.draws.explores = false;
  gate.run();
  EXPECT_EQ(gate.expert, (Integers{3, 2, 3, 2}));
}

TEST(Gate, ImportanceLoadAndZLossesAreThoseOfTheirEquations) {
  GateRun gate(rule_of(RouterKind::NoisyTopK, 1), 2, 3);
  gate.logits = {2, 1, 0, 2, 0.5, 0};
  gate.noise_logits = Values(6, 0.0);
  gate.draws.explores = false;
  gate.run();
  // Both tokens go to expert 0 with weight 1: sums 2, 0, 0 of mean 2/3 and variance 8/9.
  EXPECT_NEAR(gate.losses[0], 2.0, 1e-12);
  const double deviation = std::log(2.0);
  const auto normal = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const Values load = {normal((2 - 1) / deviation) + normal((2 - 0.5) / deviation),
                       normal((1 - 2) / deviation) + normal((0.5 - 2) / deviation), 2 * normal((0 - 2) / deviation)};
  const double mean = (load[0] + load[1] + load[2]) / 3;
  double variance = 0;
  for (const double value : load) variance += (value - mean) * (value - mean) / 3;
  EXPECT_NEAR(gate.losses[1], variance / mean / mean, 1e-12);
  const double first = std::log(std::exp(2) + std::exp(1) + 1), second = std::log(std::exp(2) + std::exp(0.5) + 1);
  EXPECT_NEAR(gate.losses[2], (first * first + second * second) / 2, 1e-12);
}

/// GShard keeps a second expert with probability min(1, 2 g_2).
TEST(Gate, TheSecondExpertIsKeptAsOftenAsTwiceItsWeight) {
  constexpr std::int64_t tokens = 20000;
  GateRun gate(rule_of(RouterKind::RandomSecond, 2), tokens, 2);
  for (std::int64_t t = 0; t < tokens; ++t) gate.logits[static_cast<std::size_t>(2 * t)] = std::log(4.0);
  gate.run();
  EXPECT_NEAR(gate.weight[1], 0.2, 1e-12);
  const double kept = static_cast<double>(gate.count[1]) / tokens;
  EXPECT_NEAR(kept, 0.4, 4 * std::sqrt(0.4 * 0.6 / tokens));
  EXPECT_EQ(gate.count[0], tokens);
  // What is kept lies without gaps.
  std::int32_t next = tokens;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int32_t row = gate.row[static_cast<std::size_t>(2 * t + 1)];
    if (row < 0) continue;
    EXPECT_EQ(row, next++);
  }
  gate.draws.explores = false;
  gate.run();
  EXPECT_EQ(gate.count[1], tokens);
}

TEST(Gate, HashSendsAWordToTheSameDistinctExpertsEverywhere) {
  GateRun gate(rule_of(RouterKind::Hash, 2), 4, 8);
  gate.ids = {5, 9, 5, 12};
  gate.run();
  for (std::size_t t = 0; t < 4; ++t) EXPECT_NE(gate.expert[2 * t], gate.expert[2 * t + 1]);
  EXPECT_EQ(gate.expert[0], gate.expert[4]);
  EXPECT_EQ(gate.expert[1], gate.expert[5]);
  EXPECT_EQ(gate.weight, Values(8, 0.5));
}

TEST(Gate, RandomChoicesAreUniformAndAvoidTakenExperts) {
  constexpr std::int64_t tokens = 12000;
  GateRun gate(rule_of(RouterKind::Random, 1), tokens, 4);
  gate.taken = Integers(tokens, 2);
  gate.run();
  EXPECT_EQ(gate.count[2], 0);
  for (const std::size_t e : {0U, 1U, 3U}) EXPECT_NEAR(gate.count[e], tokens / 3, 4 * std::sqrt(tokens * 2.0 / 9));
}

TEST(Gate, ExpertsTakeTheTokensThatScoreHighestWithThem) {
  GateRun gate(rule_of(RouterKind::ExpertChoice, 1), 3, 2);
  gate.logits = {1, 0, 3, 0, 2, 0};  // expert 0 likes the second token best, expert 1 the first
  gate.run(2);
  EXPECT_EQ(gate.row, (Integers{-1, 2, 0, -1, 1, 3}));
  EXPECT_EQ(gate.count, (Integers{2, 2}));
  EXPECT_EQ(gate.weight[0], 0.0);
  EXPECT_NEAR(gate.weight[2], 1 / (1 + std::exp(-3)), 1e-15);
  GateRun few(rule_of(RouterKind::ExpertChoice, 1), 1, 2);  // fewer tokens than slots
  few.run(2);
  EXPECT_EQ(few.row, (Integers{0, 2}));
}

TEST(Gate, WhatZeroExpertsAreChosenByTravelsNowhere) {
  GateRule rule = rule_of(RouterKind::SoftmaxTopK, 2);
  rule.renormalize = false;
  GateRun gate(rule, 2, 3);
  gate.zero_experts = 1;
  gate.logits = {1, 0, 2, 1, 2, 0};
  gate.run();
  EXPECT_EQ(gate.expert, (Integers{2, 0, 1, 0}));
  EXPECT_EQ(gate.row, (Integers{-1, 0, 2, 1}));  // first choices before second ones
  EXPECT_EQ(gate.count, (Integers{2, 1, 1}));
  EXPECT_EQ(gate.zero_weight, (Values{gate.scores[2], 0.0}));
}

TEST(FollowLoad, RaisesTheBiasOfExpertsWithFewTokens) {
  Values load = {10, 4, 6}, bias = {0, 0.5, 0};
  const Tensor b(bias.data(), DType::F64, {3});
  make_cpu_backend()->follow_load(Lane::Compute, 0.25, 6, Tensor(load.data(), DType::F64, {3}), b, b);
  EXPECT_EQ(bias, (Values{-0.25, 0.75, 0}));
}

}  // namespace
}  // namespace moecast::testing
