#include <gtest/gtest.h>

#include "tests/runtime/queued_backend_testing.h"
#include "tests/runtime/trainer_testing.h"

// Training on a backend that queues its kernels, as a GPU does, with collectives through host memory.

namespace moecast::testing {
namespace {

Result<TrainResult> run_on_queues(const TrainConfig& config) {
  Log log(LogLevel::Error);
  return train(config, log, {}, false, [](Rank) { return make_queued_backend(); });
}

Workload divided(Workload workload, std::int64_t ranks) {
  workload.bytes_per_element = 4;
  workload.layout.data = ranks;
  workload.layout.expert = 2;
  workload.batch.micro_batch = 1;
  workload.batch.micro_batch_count = 2;
  return workload;
}

/// Each with the CPU backend's bits: queues change when something happens, never what.
void expect_the_same(const TrainConfig& config) {
  const Result<TrainResult> direct = run_training(config);
  ASSERT_TRUE(direct.ok()) << direct.error().text();
  const Result<TrainResult> queued = run_on_queues(config);
  ASSERT_TRUE(queued.ok()) << queued.error().text();
  EXPECT_EQ(queued->loss, direct->loss);
  EXPECT_EQ(queued->validation_loss, direct->validation_loss);
  EXPECT_EQ(queued->timeline.spans.size(), direct->timeline.spans.size());
  EXPECT_NE(queued->timeline.source.find("staged inproc"), std::string::npos) << queued->timeline.source;
}

TEST(StreamTraining, DroplessTopTwoGivesTheBitsOfTheCpu) {
  const TextFile text;
  expect_the_same(train_config(divided(tiny_workload(), 2), text, 8));
}

TEST(StreamTraining, ShortcutInChunksGivesTheBitsOfTheCpu) {
  const TextFile text;
  Workload workload = divided(tiny_workload(), 4);
  use_shared_expert(workload, Shortcut::Pos2);
  for_each_moe(workload, [](MoeFfn& moe) { moe.capacity_factor = 1.5; });
  workload.schedule = {ScheduleKind::Shortcut, 2, 2, 3};
  expect_the_same(train_config(workload, text, 8));
}

TEST(StreamTraining, AnErrorOnOneRankEndsAll) {
  const TextFile text;
  TrainConfig config = train_config(divided(tiny_workload(), 2), text, 8);
  config.faults = {kill_rank(1, 2, "L1.Dispatch.F")};
  const Result<TrainResult> result = run_on_queues(config);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().text().find("injected fault"), std::string::npos) << result.error().text();
}

}  // namespace
}  // namespace moecast::testing
