#include <filesystem>

#include <gtest/gtest.h>

#include "tests/runtime/process_world_testing.h"
#include "tests/runtime/trainer_testing.h"

// Whole training runs with processes as ranks.

namespace moecast::testing {
namespace {

TrainConfig config_of_all(const TextFile& text) {
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  use_shared_expert(workload, Shortcut::Pos2);
  workload.layout.data = process_world().size();
  workload.layout.expert = workload.layout.data % 2 == 0 ? 2 : 1;
  workload.batch.micro_batch = 1;
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 3};
  return train_config(workload, text, 8);
}

Result<TrainResult> run_as_process(const TrainConfig& config) {
  Log log(LogLevel::Error);
  return train_as_process(process_world(), config, log, {}, false);
}

void expect_bits_of_threads(const TrainConfig& config) {
  const Result<TrainResult> processes = run_as_process(config);
  ASSERT_TRUE(processes.ok()) << processes.error().text();
  const Result<TrainResult> threads = run_training(config);
  ASSERT_TRUE(threads.ok()) << threads.error().text();
  EXPECT_EQ(processes->loss, threads->loss);
  EXPECT_EQ(processes->validation_loss, threads->validation_loss);
  // Every process has the spans of all.
  EXPECT_EQ(processes->timeline.spans.size(), threads->timeline.spans.size());
}

TEST(ProcessTraining, GivesTheBitsOfThreads) {
  const TextFile text;
  expect_bits_of_threads(config_of_all(text));
}

TEST(ProcessTraining, RoutersThatDrawAndBiasesThatFollowTheLoadGiveTheBitsOfThreads) {
  const TextFile text;
  for (const RouterCase& router : router_cases()) {
    if (router.name != "noisy_top2" && router.name != "loss_free_balance" && router.name != "zero_experts") continue;
    SCOPED_TRACE(router.name);
    TrainConfig config = config_of_all(text);
    for_each_moe(config.workload, router.change);
    expect_bits_of_threads(config);
  }
}

TEST(ProcessTraining, ResumesFromACheckpointWithTheBitsOfThreads) {
  const TextFile text;
  TrainConfig config = config_of_all(text);
  const Result<TrainResult> threads = run_training(config);
  ASSERT_TRUE(threads.ok()) << threads.error().text();
  config.checkpoint.emplace();
  config.checkpoint->policy.kind = CheckpointKind::AsynchronousFull;
  config.checkpoint->policy.interval = 3;
  // One for all processes.
  config.checkpoint->folder = std::filesystem::path(MOECAST_BINARY_DIR) / (process_world().name() + "_checkpoints");
  if (process_world().rank() == 0) std::filesystem::remove_all(config.checkpoint->folder);
  ASSERT_TRUE((*process_world().make_world_group("test", {}))->barrier().ok());
  const Result<TrainResult> saving = run_as_process(config);
  ASSERT_TRUE(saving.ok()) << saving.error().text();
  EXPECT_EQ(saving->loss, threads->loss);
  config.checkpoint->resume = true;
  const Result<TrainResult> resumed = run_as_process(config);
  ASSERT_TRUE(resumed.ok()) << resumed.error().text();
  EXPECT_EQ(resumed->first_step, 6);
  EXPECT_EQ(resumed->loss, std::vector<double>(threads->loss.begin() + 6, threads->loss.end()));
  EXPECT_EQ(resumed->validation_loss, threads->validation_loss);
}

TEST(ProcessTraining, EveryRankHearsOfAFailureAndOfItsCause) {
  const TextFile text;
  TrainConfig config = config_of_all(text);
  const std::int64_t failing = config.workload.layout.data - 1;
  config.faults = {kill_rank(failing, 3, "L1.Expert.F")};
  const Result<TrainResult> result = run_as_process(config);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::RunFailed);
  EXPECT_NE(result.error().text().find("injected fault"), std::string::npos) << result.error().text();
  EXPECT_NE(result.error().text().find("rank " + std::to_string(failing)), std::string::npos) << result.error().text();
}

TEST(ProcessTraining, StopsTogetherWhenOneProcessIsToldTo) {
  const TextFile text;
  Log log(LogLevel::Error);
  const std::atomic<bool> stop = process_world().rank() == 0;
  const Result<TrainResult> result = train_as_process(process_world(), config_of_all(text), log, {}, stop);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Interrupted);
}

TEST(ProcessTraining, NeedsAsManyProcessesAsRanks) {
  const TextFile text;
  TrainConfig config = config_of_all(text);
  config.workload.layout.data += 2;
  const Result<TrainResult> result = run_as_process(config);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::BadInput);
  EXPECT_NE(result.error().text().find("processes for the"), std::string::npos) << result.error().text();
}

}  // namespace
}  // namespace moecast::testing
