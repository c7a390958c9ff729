#include <mutex>

#include <gtest/gtest.h>

#include "tests/runtime/fake_nccl_testing.h"
#include "tests/runtime/queued_backend_testing.h"
#include "tests/runtime/tcp_world_testing.h"
#include "tests/runtime/trainer_testing.h"

// Training as processes with one GPU each would: ranks meet over TCP, kernels and collectives are queued, the fake NCCL
// moves the data. Here a process is a thread.

namespace moecast::testing {
namespace {

std::vector<Result<TrainResult>> run_as_processes(const TrainConfig& config) {
  const auto ranks = static_cast<int>(config.workload.layout.world_size());
  std::vector<Result<TrainResult>> results(static_cast<std::size_t>(ranks), Error{});
  on_tcp_ranks(ranks, [&](ProcessWorld& world) {
    Log log(LogLevel::Error);
    results[static_cast<std::size_t>(world.rank())] =
        train_as_process(world, config, log, {}, false, {[](Rank) { return make_queued_backend(); }, &fake_nccl()});
  });
  return results;
}

Workload divided(std::int64_t ranks) {
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  workload.layout.data = ranks;
  workload.layout.expert = 2;
  workload.batch.micro_batch = 1;
  return workload;
}

/// The fake adds in rank order, so the bits are those of threads on the CPU.
void expect_the_bits_of_threads(const TrainConfig& config) {
  const Result<TrainResult> threads = run_training(config);
  ASSERT_TRUE(threads.ok()) << threads.error().text();
  reset_fake_nccl_log();
  for (const Result<TrainResult>& result : run_as_processes(config)) {
    ASSERT_TRUE(result.ok()) << result.error().text();
    EXPECT_EQ(result->loss, threads->loss);
    EXPECT_EQ(result->validation_loss, threads->validation_loss);
    EXPECT_NE(result->timeline.source.find(", nccl unpaced"), std::string::npos) << result->timeline.source;
  }
  EXPECT_GT(fake_nccl_log().sends, 0);
  EXPECT_EQ(fake_nccl_log().open, 0);
  EXPECT_EQ(fake_nccl_log().aborted, 0);
}

TEST(NcclTraining, DroplessGivesTheBitsOfThreads) {
  const TextFile text;
  expect_the_bits_of_threads(train_config(divided(2), text, 6));
}

TEST(NcclTraining, ShortcutWithShardedStateGivesTheBitsOfThreads) {
  const TextFile text;
  Workload workload = divided(4);
  workload.layout.zero_stage = 2;
  use_shared_expert(workload, Shortcut::Pos2);
  for_each_moe(workload, [](MoeFfn& moe) { moe.capacity_factor = 1.5; });
  workload.schedule = {ScheduleKind::Shortcut, 2, 2, 3};
  expect_the_bits_of_threads(train_config(workload, text, 6));
}

TEST(NcclTraining, AFailingRankReleasesThoseThatWaitOnTheDevice) {
  const TextFile text;
  TrainConfig config = train_config(divided(2), text, 6);
  config.faults = {kill_rank(1, 2, "L1.Dispatch.F")};
  for (const Result<TrainResult>& result : run_as_processes(config)) {
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().text().find("injected fault"), std::string::npos) << result.error().text();
  }
  EXPECT_EQ(fake_nccl_log().open, 0);
}

TEST(NcclTraining, WhatNcclCannotDoIsRefused) {
  const TextFile text;
  TrainConfig config = train_config(divided(2), text, 6);
  const auto refusal = [&] {
    const Result<TrainResult> result = run_training(config);
    return result.ok() ? "fine" : result.error().text();
  };
  config.runtime.communicator = CommunicatorKind::Staged;
  EXPECT_NE(refusal().find("the CPU backend has no use for it"), std::string::npos) << refusal();
  config.runtime.backend = BackendKind::Cuda;
  config.runtime.communicator = CommunicatorKind::Nccl;
  EXPECT_NE(refusal().find("NCCL needs a process for each of the 2 ranks"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace moecast::testing
