/// Failures of a training run: one error that says what happened where, the right kind, and every thread has ended.

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>

#include "runtime/gpu_module.h"

#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

Workload two_ranks() {
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) { moe.capacity_factor = 2; });
  workload.layout.data = workload.layout.expert = 2;
  return workload;
}

Error must_fail(const TrainConfig& config) {
  const Result<TrainResult> result = run_training(config);
  EXPECT_FALSE(result.ok());
  return result.ok() ? Error{} : result.error();
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

TEST(TrainingFault, RankThatThrowsIsNamedWithItsOperator) {
  const TextFile text;
  for (const char* name : {"Embed.F", "L1.Dispatch.F", "L1.Expert.B", "L3.Combine.B", "GradientReduce.U.data",
                           "GradientNorm.U.expert", "Optimizer.U"}) {
    SCOPED_TRACE(name);
    TrainConfig config = train_config(two_ranks(), text, 10);
    config.faults = {kill_rank(1, 3, name)};
    const Error error = must_fail(config);
    EXPECT_EQ(error.kind, ErrorKind::RunFailed);
    expect_contains(error.text(), "rank 1");
    expect_contains(error.text(), name);
    expect_contains(error.text(), "injected fault");
  }
}

TEST(TrainingFault, FaultOfALaterStepLetsEarlierStepsFinish) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 10);
  config.faults = {kill_rank(0, 4, "L1.Gate.F")};
  Log log(LogLevel::Error);
  const std::atomic<bool> stop{false};
  std::int64_t last = 0;
  const auto result = train(
      config, log, [&](const TrainProgress& progress) { last = progress.step; }, stop);
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(last, 4);
}

TEST(TrainingFault, FaultAtAnUnknownOperatorIsBadInput) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 10);
  config.faults = {kill_rank(0, 0, "L1.Dispatsch.F")};
  const Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  expect_contains(error.text(), "L1.Dispatsch.F");
}

TEST(TrainingFault, LinkThatStallsPastItsTimeoutFailsTheRun) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 10);
  config.runtime.link = PacedLink{Duration(0), BytesPerSecond(1000)};
  config.runtime.timeout = std::chrono::milliseconds(100);
  const Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::RunFailed);
  expect_contains(error.text(), "the link stalled");
  expect_contains(error.text(), "L1.Dispatch.F");
  expect_contains(error.text(), "rank ");
}

TEST(TrainingFault, AModelThatIsOnlyDescribedIsRefusedWithEveryReason) {
  const TextFile text;
  Workload workload = two_ranks();
  workload.model.attention.latent = LatentAttention{std::nullopt, 4, 4, 2, 4};
  workload.model.attention.window = 8;
  for_each_moe(workload, [](MoeFfn& moe) { moe.gate.router = RouterKind::SparseMixer; });
  const Error error = must_fail(train_config(workload, text, 10));
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  for (const char* part : {"attention.latent", "attention.window", "sparse_mixer"}) expect_contains(error.text(), part);
}

TEST(TrainingFault, MissingTextIsBadInputThatNamesTheFile) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 10);
  config.text = text.path().parent_path() / "no_such_text.txt";
  const Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  expect_contains(error.text(), "no_such_text.txt");
}

TEST(TrainingFault, TextTooShortOrWithForeignBytesIsBadInputThatNamesTheFile) {
  const TextFile short_text(50);
  TrainConfig config = train_config(two_ranks(), short_text, 10);
  Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  expect_contains(error.text(), short_text.path().string());
  expect_contains(error.text(), "too short");

  std::ofstream(short_text.path()) << std::string(5000, 'a') << "\xc3\xa9" << std::string(5000, 'b');
  error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  expect_contains(error.text(), "byte 195 at offset 5000");
}

TEST(TrainingFault, WhatThisBackendCannotDoIsSaidBeforeAnythingRuns) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 10);
  config.workload.bytes_per_element = 2;
  EXPECT_EQ(must_fail(config).kind, ErrorKind::BadInput);
  config = train_config(two_ranks(), text, 10);
  config.runtime.backend = BackendKind::Cuda;
  EXPECT_EQ(must_fail(config).kind, ErrorKind::BadInput);  // in F64
  config.workload.bytes_per_element = 4;
  if (!describe_gpus().ok()) {
    EXPECT_EQ(must_fail(config).kind, ErrorKind::Unavailable);
  }
  config = train_config(two_ranks(), text, 10);
  config.workload.layout.zero_stage = 3;
  config.workload.layout.tensor = 2;
  config.workload.layout.recomputation = Recomputation::Full;
  const Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::BadInput);
  for (const char* part : {"tensor 2", "zero_stage 3: expected 0, 1 or 2", "recomputation"}) {
    expect_contains(error.text(), part);
  }
}

TEST(TrainingFault, StopFlagEndsAfterTheCurrentStepAsInterrupted) {
  const TextFile text;
  const TrainConfig config = train_config(two_ranks(), text, 1000);
  Log log(LogLevel::Error);
  std::atomic<bool> stop{false};
  std::int64_t last = 0;
  const auto on_step = [&](const TrainProgress& progress) {
    last = progress.step;
    if (progress.step == 3) stop = true;
  };
  const Result<TrainResult> result = train(config, log, on_step, stop);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Interrupted);
  EXPECT_EQ(last, 3);
  expect_contains(result.error().text(), "step 3 of 1000");
}

TEST(TrainingFault, ExceptionInTheCallersProgressEndsTheRun) {
  const TextFile text;
  Log log(LogLevel::Error);
  const std::atomic<bool> stop{false};
  const auto on_step = [](const TrainProgress&) { throw std::runtime_error("the terminal is gone"); };
  const Result<TrainResult> result = train(train_config(two_ranks(), text, 10), log, on_step, stop);
  ASSERT_FALSE(result.ok());
  expect_contains(result.error().text(), "the terminal is gone");
}

TEST(TrainingFault, ANaNIsTracedToTheOperatorThatMadeItAndNothingIsUpdated) {
  for (const auto& [weight, found] : {std::pair("blocks.2.mlp.w1", "the result of L2.Mlp.F"),
                                      {"blocks.1.experts.3.w1", "the result of L1.Expert.F"},
                                      {"blocks.3.gate.w", "the result of L3.Gate.F"},
                                      {"embedding.token", "the result of Embed.F"}}) {
    SingleRank rank(tiny_workload());
    ParameterStore& store = rank.trainer().store();
    for (double& value : values(store.tensor(Component::Master, weight))) value = std::nan("");
    const double other = values(store.tensor(Component::Master, "final_norm.gain"))[0];
    const Result<StepOutcome> outcome = rank.trainer().run(rank.plan(), rank.batch(), 6, {});
    ASSERT_FALSE(outcome.ok()) << weight;
    EXPECT_EQ(outcome.error().kind, ErrorKind::RunFailed);
    expect_contains(outcome.error().text(), found);
    expect_contains(outcome.error().text(), "step 7");
    EXPECT_EQ(values(store.tensor(Component::Master, "final_norm.gain"))[0], other);
  }
}

TEST(TrainingFault, DivergenceIsReportedWithTheStep) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 200);
  config.workload.bytes_per_element = 4;
  config.optimizer.learning_rate = 10;
  config.optimizer.warmup_steps = 0;
  config.optimizer.weight_decay = 10;  // each step multiplies the weights by -99
  config.optimizer.gradient_clip = 0;
  const Error error = must_fail(config);
  EXPECT_EQ(error.kind, ErrorKind::RunFailed);
  expect_contains(error.text(), "diverged");
  expect_contains(error.text(), "step ");
}

}  // namespace
}  // namespace moecast::testing
