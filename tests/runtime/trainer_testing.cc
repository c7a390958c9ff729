#include "tests/runtime/trainer_testing.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "base/random.h"
#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/trainer/slot_choice.h"

namespace moecast::testing {
namespace {

/// Overwrites the initial values: weights of deviation 0.3, gains around 1, so that no part of the model is negligible.
void enlarge_parameters(ParameterStore& store, std::uint64_t seed) {
  for (const ParameterStore::Entry& entry : store.entries()) {
    const CounterRandom random(seed, stream_of("test " + entry.parameter.name));
    const bool gain = entry.parameter.name.ends_with("gain");
    std::uint64_t i = 0;
    for (double& value : values(store.tensor(Component::Master, entry))) {
      value = (gain ? 1.0 : 0.0) + 0.3 * random.normal(0, i++);
    }
  }
}

std::string words(std::size_t size) {
  const std::vector<std::string> list = {"the ",  "old ", "king ", "saw ",  "a ",    "ship ",
                                         "upon ", "sea ", "and ",  "went ", "home ", "again.\n"};
  std::string text;
  std::size_t word = 0;
  for (std::uint64_t i = 0; text.size() < size; ++i) {
    const auto step = static_cast<std::size_t>(CounterRandom(3, 0).below(3, i, 0));
    word = (word + 1 + step) % list.size();
    text += list[word];
  }
  return text;
}

}  // namespace

Workload tiny_workload() {
  Workload workload;
  MoeModel& model = workload.model;
  model.name = "tiny";
  model.d_model = 8;
  model.vocabulary = 17;
  model.max_sequence = 8;
  model.attention = {2, 2, 4};
  MoeFfn moe;
  moe.expert_count = 4;
  moe.expert_width = 6;
  moe.gate.top_k = 2;
  moe.balance_loss_coefficient = 0.05;
  for (int i = 0; i < 4; ++i) {
    Block block;
    if (i % 2 == 0) {
      block.dense_width = 12;
    } else {
      block.moe = moe;
    }
    model.blocks.push_back(block);
  }
  workload.batch = {2, 1, 6};
  workload.bytes_per_element = 8;
  return workload;
}

void for_each_moe(Workload& workload, const std::function<void(MoeFfn&)>& change) {
  for (Block& block : workload.model.blocks) {
    if (block.moe) change(*block.moe);
  }
}

void use_shared_expert(Workload& workload, Shortcut shortcut, CoefficientGate gate) {
  for_each_moe(workload, [&](MoeFfn& moe) {
    moe.shared_expert_width = 10;
    moe.shortcut = shortcut;
    moe.coefficient_gate = gate;
    moe.gate.top_k = 1;
  });
}

const std::vector<RouterCase>& router_cases() {
  static const std::vector<RouterCase> cases = {
      {"sigmoid_top2", [](MoeFfn& moe) { moe.gate.router = RouterKind::SigmoidTopK; }},
      {"sigmoid_top1",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::SigmoidTopK;
         moe.gate.top_k = 1;
       }},
      {"loss_free_balance",  // DeepSeek-V3
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::SigmoidTopK;
         moe.gate.selection_bias = true;
         moe.gate.bias_rate = 0.01;
         moe.gate.groups = moe.gate.top_groups = 2;
         moe.gate.scale = 2.5;
       }},
      {"one_group_of_two",
       [](MoeFfn& moe) {
         moe.gate.groups = 2;
         moe.gate.renormalize = false;
         moe.gate.scale = 3;
       }},
      {"softmax_after_top2_with_bias",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::TopKSoftmax;
         moe.gate.selection_bias = true;
       }},
      {"noisy_top2",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::NoisyTopK;
         moe.balance_loss_coefficient = 0;
         moe.loss_coefficients = {0.1, 0.1, 0};
       }},
      {"random_second", [](MoeFfn& moe) { moe.gate.router = RouterKind::RandomSecond; }},
      {"hash",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::Hash;
         moe.gate.top_k = 1;
       }},
      {"random_top2", [](MoeFfn& moe) { moe.gate.router = RouterKind::Random; }},
      {"expert_choice",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::ExpertChoice;
         moe.capacity_factor = 1;
       }},
      {"dense_of_all_experts",
       [](MoeFfn& moe) {
         moe.gate.top_k = moe.expert_count;
         moe.gate.renormalize = false;
       }},
      {"importance_and_z_loss",
       [](MoeFfn& moe) {
         moe.loss_coefficients = {0.2, 0, 0.1};
       }},
      {"zero_experts",  // LongCat-Flash
       [](MoeFfn& moe) {
         moe.zero_expert_count = 2;
         moe.gate.selection_bias = true;
         moe.gate.renormalize = false;
         moe.gate.scale = 6;
       }},
      {"sigmoid_zero_experts",
       [](MoeFfn& moe) {
         moe.gate.router = RouterKind::SigmoidTopK;
         moe.zero_expert_count = 3;
       }},
  };
  return cases;
}

void use_llama_style(Workload& workload) {
  MoeModel& model = workload.model;
  model.norm = NormKind::RmsNorm;
  model.position = PositionKind::Rope;
  model.activation = Activation::SwiGlu;
  model.bias = false;
  model.tie_embeddings = false;
  model.attention = {4, 2, 2};
}

std::span<double> values(const Tensor& f64) {
  return {f64.as<double>(), static_cast<std::size_t>(f64.element_count())};
}

std::span<float> values_f32(const Tensor& f32) {
  return {f32.as<float>(), static_cast<std::size_t>(f32.element_count())};
}

SingleRank::SingleRank(const Workload& workload, std::uint64_t seed)
    : workload_(workload), backend_(make_cpu_backend()), groups_(make_inproc_groups(workload.layout, {})) {
  Result<StepPlan> plan = plan_with_first_slots(workload_);
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  plan_ = std::move(plan).value();
  RankTrainerOptions options{workload_, Rank(0), *backend_, groups_[0], clock_};
  options.seed = seed;
  trainer_ = std::move(RankTrainer::make(options)).value();
  if (compute_type(workload_) == DType::F64) enlarge_parameters(trainer_->store(), seed);
  const CounterRandom random(seed, stream_of("test tokens"));
  const auto tokens = static_cast<std::uint64_t>(workload_.batch.tokens() * workload_.batch.micro_batch_count);
  for (std::uint64_t i = 0; i < tokens; ++i) {
    batch_.ids.push_back(static_cast<std::int32_t>(random.below(workload_.model.vocabulary, i, 0)));
    batch_.targets.push_back(static_cast<std::int32_t>(random.below(workload_.model.vocabulary, i, 1)));
  }
}

StepOutcome SingleRank::run(const std::function<bool(const Operator&)>& keep, OperatorRunner* watcher) {
  AdamWStep optimizer;
  optimizer.learning_rate = 1e-3;
  Result<StepOutcome> outcome = trainer_->run(plan_subset(plan_, keep), batch_, 0, optimizer, watcher);
  EXPECT_TRUE(outcome.ok()) << (outcome.ok() ? "" : outcome.error().text());
  return std::move(outcome).value();
}

double SingleRank::forward() {
  const StepOutcome outcome = run([](const Operator& op) { return op.phase == Phase::Forward; });
  double coefficient = 0;
  RouterLosses others;
  for_each_moe(workload_, [&](MoeFfn& moe) {
    coefficient = moe.balance_loss_coefficient;
    others = moe.loss_coefficients;
  });
  const RouterLosses& found = outcome.router_losses;
  return outcome.loss_sum / static_cast<double>(outcome.token_count) + coefficient * outcome.balance_loss +
         others.importance * found.importance + others.load * found.load + others.z * found.z;
}

void SingleRank::forward_and_backward() {
  run([](const Operator& op) { return op.phase != Phase::Update; });
}

void SingleRank::clear_gradients() {
  for (const ParameterStore::Entry& entry : trainer_->store().entries()) {
    for (double& value : values(trainer_->store().tensor(Component::Gradient, entry))) value = 0;
  }
}

TextFile::TextFile(std::size_t size) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = "moecast_trainer_";
  for (const char c : std::string(test->test_suite_name()) + "_" + test->name()) name += c == '/' ? '_' : c;
  std::filesystem::create_directories(std::filesystem::temp_directory_path() / name);
  path_ = std::filesystem::temp_directory_path() / name / "text.txt";
  std::ofstream(path_) << words(size);
}

TextFile::~TextFile() {
  std::error_code ignored;
  std::filesystem::remove_all(path_.parent_path(), ignored);
}

TrainConfig train_config(const Workload& workload, const TextFile& text, std::int64_t steps) {
  TrainConfig config;
  config.name = "test";
  config.workload = workload;
  config.workload.model.vocabulary = 128;
  config.text = text.path();
  config.steps = steps;
  config.seed = 11;
  config.optimizer.learning_rate = 3e-3;
  config.optimizer.warmup_steps = 2;
  config.runtime.timeout = std::chrono::seconds(20);
  return config;
}

Fault kill_rank(std::int64_t rank, std::int64_t step, std::string operator_name) {
  Fault fault;
  fault.ranks = {rank};
  fault.step = step;
  fault.operator_name = std::move(operator_name);
  return fault;
}

Result<TrainResult> run_training(const TrainConfig& config) {
  Log log(LogLevel::Error);
  const std::atomic<bool> stop{false};
  return train(config, log, {}, stop);
}

}  // namespace moecast::testing
