/// Gradients against central finite differences in double precision. With a step of 1e-5 the difference quotient is off
/// by about 1e-10 f''' + 1e-11; measured errors stay below 1e-7 of the gradient, so 1e-6 relative plus 1e-8 absolute
/// leaves room for curvature and catches any missing term.

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

constexpr double kStep = 1e-5;
constexpr double kRelative = 1e-6;
constexpr double kAbsolute = 1e-8;

double difference_quotient(double& x, const std::function<double()>& f) {
  const double x0 = x;
  x = x0 + kStep;
  const double above = f();
  x = x0 - kStep;
  const double below = f();
  x = x0;
  return (above - below) / (2 * kStep);
}

void expect_gradient(double analytic, double& x, const std::function<double()>& f, const std::string& what) {
  const double numeric = difference_quotient(x, f);
  const double tolerance = kAbsolute + kRelative * std::max(std::abs(analytic), std::abs(numeric));
  EXPECT_NEAR(analytic, numeric, tolerance) << what;
}

/// A few elements of a tensor, chosen by its name; the largest gradient is always among them.
std::vector<std::size_t> some_elements(std::span<const double> gradient, const std::string& name, std::size_t count) {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    if (std::abs(gradient[i]) > std::abs(gradient[largest])) largest = i;
  }
  std::vector<std::size_t> chosen = {largest};
  const CounterRandom random(1, stream_of(name));
  for (std::uint64_t i = 1; i < count; ++i) {
    chosen.push_back(static_cast<std::size_t>(random.below(static_cast<std::int64_t>(gradient.size()), i, 0)));
  }
  return chosen;
}

void expect_tensor_gradient(std::span<const double> gradient, std::span<double> x, const std::function<double()>& f,
                            const std::string& name) {
  ASSERT_EQ(gradient.size(), x.size());
  const std::vector<double> saved(gradient.begin(), gradient.end());  // f may overwrite it
  for (const std::size_t i : some_elements(saved, name, 6)) {
    expect_gradient(saved[i], x[i], f, name + "[" + std::to_string(i) + "]");
  }
}

// The whole model -----------------------------------------------------------------------------------------------------

struct Case {
  std::string name;
  std::function<void(Workload&)> change;
};

void PrintTo(const Case& subject, std::ostream* out) { *out << subject.name; }

class WholeModelGradient : public ::testing::TestWithParam<Case> {};

TEST_P(WholeModelGradient, AgreesWithFiniteDifferencesForEveryParameter) {
  Workload workload = tiny_workload();
  GetParam().change(workload);
  SingleRank rank(workload);
  rank.forward_and_backward();
  ParameterStore& store = rank.trainer().store();
  std::vector<std::vector<double>> gradients;
  for (const ParameterStore::Entry& entry : store.entries()) {
    const auto gradient = values(store.tensor(Component::Gradient, entry));
    gradients.emplace_back(gradient.begin(), gradient.end());
  }
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterStore::Entry& entry = store.entries()[i];
    if (!entry.parameter.trained) continue;
    expect_tensor_gradient(
        gradients[i], values(store.tensor(Component::Master, entry)), [&] { return rank.forward(); },
        entry.parameter.name);
  }
}

void capacity(Workload& workload, double factor) {
  for_each_moe(workload, [&](MoeFfn& moe) { moe.capacity_factor = factor; });
}
void shortcut_slots(Workload& workload, std::int64_t forward, std::int64_t backward, std::int64_t chunks = 1) {
  workload.schedule = {ScheduleKind::Shortcut, chunks, forward, backward};
}

const std::vector<Case> kCases = {
    {"dense",
     [](Workload& w) {
       for (Block& block : w.model.blocks) block = Block{12, std::nullopt};
     }},
    {"top2_dropless", [](Workload&) {}},
    {"top2_capacity_2", [](Workload& w) { capacity(w, 2); }},
    {"top1_with_drops",
     [](Workload& w) {
       capacity(w, 1);
       for_each_moe(w, [](MoeFfn& moe) { moe.gate.top_k = 1; });
     }},
    {"top2_not_renormalised", [](Workload& w) { for_each_moe(w, [](MoeFfn& moe) { moe.gate.renormalize = false; }); }},
    {"softmax_after_top2",
     [](Workload& w) { for_each_moe(w, [](MoeFfn& moe) { moe.gate.router = RouterKind::TopKSoftmax; }); }},
    {"shared_direct_add", [](Workload& w) { use_shared_expert(w, Shortcut::None, CoefficientGate::DirectAdd); }},
    {"shared_cg1", [](Workload& w) { use_shared_expert(w, Shortcut::None); }},
    {"pos1", [](Workload& w) { use_shared_expert(w, Shortcut::Pos1); }},
    {"pos2", [](Workload& w) { use_shared_expert(w, Shortcut::Pos2); }},
    {"pos3", [](Workload& w) { use_shared_expert(w, Shortcut::Pos3); }},
    {"pos2_direct_add", [](Workload& w) { use_shared_expert(w, Shortcut::Pos2, CoefficientGate::DirectAdd); }},
    {"pos2_without_shared_expert",
     [](Workload& w) { for_each_moe(w, [](MoeFfn& moe) { moe.shortcut = Shortcut::Pos2; }); }},
    {"scmoe2_top2_and_shared",
     [](Workload& w) {
       use_shared_expert(w, Shortcut::Pos2);
       for_each_moe(w, [](MoeFfn& moe) { moe.gate.top_k = 2; });
     }},
    {"shared_cg2", [](Workload& w) { use_shared_expert(w, Shortcut::None, CoefficientGate::Cg2); }},
    {"pos2_cg2_zero_experts_slots",
     [](Workload& w) {
       use_shared_expert(w, Shortcut::Pos2, CoefficientGate::Cg2);
       for_each_moe(w, [](MoeFfn& moe) { moe.zero_expert_count = 2; });
       shortcut_slots(w, 2, 3);
     }},
    {"double_gate_pos2",
     [](Workload& w) {
       for_each_moe(w, [](MoeFfn& moe) {
         moe.double_gate = true;
         moe.shortcut = Shortcut::Pos2;
         moe.gate.top_k = 1;
       });
     }},
    {"double_gate_pos1_slots_capacity_sigmoid",
     [](Workload& w) {
       for_each_moe(w, [](MoeFfn& moe) {
         moe.double_gate = true;
         moe.shortcut = Shortcut::Pos1;
         moe.gate.router = RouterKind::SigmoidTopK;
       });
       capacity(w, 1);
       shortcut_slots(w, 1, 2, 2);
     }},
    {"noisy_router_in_micro_batches",
     [](Workload& w) {
       for_each_moe(w, router_cases()[5].change);
       w.batch.micro_batch_count = 2;
     }},
    {"moe_in_every_block_pos1",
     [](Workload& w) {
       use_shared_expert(w, Shortcut::Pos1);
       for (Block& block : w.model.blocks) block = w.model.blocks[1];
     }},
    {"pos2_slot3_slot2_capacity",
     [](Workload& w) {
       use_shared_expert(w, Shortcut::Pos2);
       capacity(w, 1.25);
       shortcut_slots(w, 3, 2, 2);
     }},
    {"pos3_slot5_slot1",
     [](Workload& w) {
       use_shared_expert(w, Shortcut::Pos3);
       shortcut_slots(w, 5, 1);
     }},
    {"pipelined_3_chunks",
     [](Workload& w) {
       capacity(w, 2);
       w.schedule = {ScheduleKind::Pipelined, 3};
     }},
    {"micro_batches", [](Workload& w) { w.batch.micro_batch_count = 3; }},
    {"relu", [](Workload& w) { w.model.activation = Activation::Relu; }},
    {"geglu_with_qkv_bias_alone",
     [](Workload& w) {
       use_llama_style(w);
       w.model.activation = Activation::GeGlu;
       w.model.attention.qkv_bias = true;
     }},
    {"llama_style", [](Workload& w) { use_llama_style(w); }},
    {"llama_style_pos2_micro_batches",
     [](Workload& w) {
       use_llama_style(w);
       use_shared_expert(w, Shortcut::Pos2);
       shortcut_slots(w, 2, 3);
       w.batch.micro_batch_count = 2;
     }},
    {"no_bias_untied", [](Workload& w) { w.model.bias = w.model.tie_embeddings = false; }},
};

std::vector<Case> router_variants() {
  std::vector<Case> cases;
  for (const RouterCase& router : router_cases()) {
    cases.push_back({router.name, [&router](Workload& w) { for_each_moe(w, router.change); }});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Routers, WholeModelGradient, ::testing::ValuesIn(router_variants()),
                         [](const auto& variant) { return variant.param.name; });

INSTANTIATE_TEST_SUITE_P(Variants, WholeModelGradient, ::testing::ValuesIn(kCases),
                         [](const auto& variant) { return variant.param.name; });

// One operator at a time ----------------------------------------------------------------------------------------------

/// Runs one block's operators of some kinds and checks inputs and parameters against the loss <r, output>.
class OperatorGradient : public ::testing::Test {
 protected:
  explicit OperatorGradient() {
    Workload workload = tiny_workload();
    use_shared_expert(workload, Shortcut::None);
    for_each_moe(workload, [](MoeFfn& moe) { moe.gate.top_k = 2; });
    rank = std::make_unique<SingleRank>(workload);
  }

  void run(Phase phase, const std::set<OpKind>& kinds, std::optional<LayerId> layer) {
    rank->run([&](const Operator& op) {
      const bool same_phase = op.phase == phase || (phase == Phase::Backward && op.phase == Phase::WeightGradient);
      return same_phase && kinds.contains(op.kind) && op.layer == layer;
    });
  }
  static void fill(const Tensor& tensor, const std::string& name) {
    std::uint64_t i = 0;
    for (double& value : values(tensor)) value = CounterRandom(5, stream_of(name)).normal(0, i++);
  }
  static double dot(const Tensor& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < b.size(); ++i) sum += values(a)[i] * b[i];
    return sum;
  }
  static std::vector<double> copy(const Tensor& tensor) { return {values(tensor).begin(), values(tensor).end()}; }
  void check_parameters(const std::string& prefix, const std::function<double()>& f) {
    ParameterStore& store = rank->trainer().store();
    int found = 0;
    for (const ParameterStore::Entry& entry : store.entries()) {
      if (!entry.parameter.name.starts_with(prefix)) continue;
      ++found;
      expect_tensor_gradient(values(store.tensor(Component::Gradient, entry)),
                             values(store.tensor(Component::Master, entry)), f, entry.parameter.name);
    }
    EXPECT_GT(found, 0) << prefix;
  }
  BlockState& block(std::size_t index) { return rank->context().states.blocks[index]; }
  Temporaries& temporary() { return rank->context().states.temporary; }

  std::unique_ptr<SingleRank> rank;
};

TEST_F(OperatorGradient, AttentionInputAndParameters) {
  fill(block(0).x, "x");
  const auto forward = [&](const std::vector<double>& r) {
    run(Phase::Forward, {OpKind::Attention}, LayerId(0));
    return dot(block(0).h, r);
  };
  fill(temporary().g, "r");
  const std::vector<double> r = copy(temporary().g);
  (void)forward(r);
  run(Phase::Backward, {OpKind::Attention}, LayerId(0));
  expect_tensor_gradient(
      values(temporary().g), values(block(0).x), [&] { return forward(r); }, "x");
  check_parameters("blocks.0.attention", [&] { return forward(r); });
}

TEST_F(OperatorGradient, MlpInputAndParameters) {
  fill(block(0).h, "h");
  const auto forward = [&](const std::vector<double>& r) {
    run(Phase::Forward, {OpKind::Mlp}, LayerId(0));
    return dot(block(1).x, r);
  };
  fill(temporary().g, "r");
  const std::vector<double> r = copy(temporary().g);
  (void)forward(r);
  run(Phase::Backward, {OpKind::Mlp}, LayerId(0));
  expect_tensor_gradient(
      values(temporary().g), values(block(0).h), [&] { return forward(r); }, "h");
  check_parameters("blocks.0.mlp", [&] { return forward(r); });
}

TEST_F(OperatorGradient, SharedExpertAndItsCoefficient) {
  fill(block(1).h, "h");
  fill(temporary().dshared, "r");
  fill(temporary().dcoefficient, "s");
  const std::vector<double> r = copy(temporary().dshared);
  const std::vector<double> s = copy(temporary().dcoefficient);
  const auto forward = [&] {
    run(Phase::Forward, {OpKind::SharedExpert}, LayerId(1));
    return dot(block(1).routed.shared, r) + dot(block(1).routed.coefficient, s);
  };
  (void)forward();
  for (double& value : values(temporary().g)) value = 0;
  run(Phase::Backward, {OpKind::SharedExpert}, LayerId(1));
  expect_tensor_gradient(values(temporary().g), values(block(1).h), forward, "h");
  check_parameters("blocks.1.shared", forward);
  check_parameters("blocks.1.coefficient", forward);
}

TEST_F(OperatorGradient, GateToDecodeWithTheBalanceLoss) {
  const std::set<OpKind> routed = {OpKind::Gate,   OpKind::Encode,  OpKind::Counts, OpKind::Dispatch,
                                   OpKind::Expert, OpKind::Combine, OpKind::Decode};
  fill(block(1).h, "h");
  fill(block(1).routed.shared, "se");
  fill(block(1).routed.coefficient, "c");
  fill(temporary().g, "r");
  const std::vector<double> r = copy(temporary().g);
  const auto forward = [&] {
    run(Phase::Forward, routed, LayerId(1));
    return dot(block(2).x, r) + 0.05 * values(block(1).routed.balance_loss)[0];
  };
  (void)forward();
  run(Phase::Backward, routed, LayerId(1));
  expect_tensor_gradient(values(temporary().g), values(block(1).h), forward, "h");
  expect_tensor_gradient(values(temporary().dshared), values(block(1).routed.shared), forward, "se");
  expect_tensor_gradient(values(temporary().dcoefficient), values(block(1).routed.coefficient), forward, "c");
  check_parameters("blocks.1.gate", forward);
  check_parameters("blocks.1.experts", forward);
}

TEST_F(OperatorGradient, HeadInputAndFinalNorm) {
  const Tensor& x = rank->context().states.x_last;
  fill(x, "x");
  const auto forward = [&] {
    const StepOutcome outcome =
        rank->run([](const Operator& op) { return op.kind == OpKind::Head && op.phase == Phase::Forward; });
    return outcome.loss_sum / static_cast<double>(outcome.token_count);
  };
  (void)forward();
  run(Phase::Backward, {OpKind::Head}, std::nullopt);
  expect_tensor_gradient(values(temporary().g), values(x), forward, "x");
  check_parameters("final_norm", forward);
  check_parameters("embedding.token", forward);
}

TEST_F(OperatorGradient, EmbeddingTables) {
  fill(temporary().g, "r");
  const std::vector<double> r = copy(temporary().g);
  const auto forward = [&] {
    run(Phase::Forward, {OpKind::Embed}, std::nullopt);
    return dot(block(0).x, r);
  };
  run(Phase::Backward, {OpKind::Embed}, std::nullopt);
  check_parameters("embedding.", forward);
}

}  // namespace
}  // namespace moecast::testing
