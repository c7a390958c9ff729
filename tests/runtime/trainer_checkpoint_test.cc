/// Training runs that save checkpoints, fail, and go on: what comes back is what the plan says, bit for bit.
#include <algorithm>

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "models/checkpoint/checkpoint_plan.h"
#include "models/checkpoint/plt.h"
#include "models/checkpoint/recovery.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/checkpoint/posix_environment.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

namespace fs = std::filesystem;

Workload two_ranks() {
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  for_each_moe(workload, [](MoeFfn& moe) { moe.capacity_factor = 2; });
  workload.layout.data = workload.layout.expert = 2;
  return workload;
}

CheckpointPolicy full(std::int64_t interval, CheckpointKind kind = CheckpointKind::AsynchronousFull) {
  CheckpointPolicy policy;
  policy.kind = kind;
  policy.interval = interval;
  return policy;
}

CheckpointPolicy pec(std::int64_t interval, ExpertCounts counts, SelectionKind selection = SelectionKind::Sequential) {
  CheckpointPolicy policy = full(
      interval, counts.snapshot == counts.persist ? CheckpointKind::PartialOneLevel : CheckpointKind::PartialTwoLevel);
  policy.partial.experts = counts;
  policy.partial.selection = selection;
  return policy;
}

/// Checkpoints whose fate does not depend on the disk's speed.
TrainConfig checkpointed(const Workload& workload, const TextFile& text, std::int64_t steps,
                         const CheckpointPolicy& policy) {
  TrainConfig config = train_config(workload, text, steps);
  config.checkpoint.emplace();
  config.checkpoint->policy = policy;
  config.checkpoint->folder = text.path().parent_path() / "checkpoints";
  config.checkpoint->settle = true;
  return config;
}

Fault fault(FaultKind kind, std::int64_t rank, std::int64_t step, std::int64_t step_count = 1) {
  Fault out = kill_rank(rank, step);
  out.kind = kind;
  out.step_count = step_count;
  return out;
}

TrainResult must_train(const TrainConfig& config) {
  Result<TrainResult> result = run_training(config);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().text());
  return result.ok() ? std::move(result).value() : TrainResult{};
}

/// Trains until `steps` steps are done, then stops as at Ctrl-C.
void train_and_stop(const TrainConfig& config, std::int64_t steps) {
  Log log(LogLevel::Error);
  std::atomic<bool> stop{false};
  const auto result = train(
      config, log, [&](const TrainProgress& progress) { stop = progress.step == steps; }, stop);
  ASSERT_FALSE(result.ok());
  ASSERT_EQ(result.error().kind, ErrorKind::Interrupted) << result.error().text();
}

std::vector<double> tail(const std::vector<double>& values, std::int64_t from) {
  return {values.begin() + from, values.end()};
}

Error must_refuse(const TrainConfig& config, const std::string& part) {
  const Result<TrainResult> result = run_training(config);
  EXPECT_FALSE(result.ok());
  if (result.ok()) return {};
  EXPECT_EQ(result.error().kind, ErrorKind::BadInput) << result.error().text();
  EXPECT_NE(result.error().text().find(part), std::string::npos) << result.error().text();
  return result.error();
}

TEST(TrainingCheckpoint, SavingChangesNoBitOfTraining) {
  const TextFile text;
  const TrainResult without = must_train(train_config(two_ranks(), text, 12));
  for (const bool settle : {false, true}) {
    TrainConfig config = checkpointed(two_ranks(), text, 12, pec(2, {2, 1}));
    config.checkpoint->settle = settle;
    const TrainResult with = must_train(config);
    EXPECT_EQ(with.loss, without.loss);
    EXPECT_EQ(with.validation_loss, without.validation_loss);
    fs::remove_all(config.checkpoint->folder);
  }
}

TEST(TrainingCheckpoint, ResumingFromAFullOneIsNeverHavingStopped) {
  const TextFile text;
  for (const CheckpointKind kind : {CheckpointKind::AsynchronousFull, CheckpointKind::BlockingFull}) {
    for (const std::int64_t bytes : {4, 8}) {
      SCOPED_TRACE(fmt::format("{}, {} bytes", to_text(kind), bytes));
      Workload workload = two_ranks();
      workload.bytes_per_element = bytes;
      const TrainResult whole = must_train(train_config(workload, text, 14));
      TrainConfig config = checkpointed(workload, text, 14, full(4, kind));
      train_and_stop(config, 10);
      config.checkpoint->resume = true;
      const TrainResult resumed = must_train(config);
      EXPECT_EQ(resumed.first_step, 8);
      EXPECT_EQ(resumed.loss, tail(whole.loss, 8));
      EXPECT_EQ(resumed.validation_loss, whole.validation_loss);
      ASSERT_EQ(resumed.checkpoints->recoveries.size(), 1U);
      EXPECT_EQ(resumed.checkpoints->plt, 0);
      fs::remove_all(config.checkpoint->folder);
    }
  }
}

/// A selection bias is saved as every parameter is, and routers draw by the number of the step.
TEST(TrainingCheckpoint, BiasesAndDrawsOfRoutersGoOnWhereTheyWere) {
  const TextFile text;
  for (const bool noisy : {false, true}) {
    Workload workload = two_ranks();
    for_each_moe(workload, [&](MoeFfn& moe) {
      moe.gate.router = noisy ? RouterKind::NoisyTopK : RouterKind::SigmoidTopK;
      moe.gate.selection_bias = !noisy;
      moe.gate.bias_rate = 0.05;
    });
    const TrainResult whole = must_train(train_config(workload, text, 14));
    TrainConfig config = checkpointed(workload, text, 14, full(4));
    train_and_stop(config, 10);
    config.checkpoint->resume = true;
    const TrainResult resumed = must_train(config);
    EXPECT_EQ(resumed.loss, tail(whole.loss, 8));
    EXPECT_EQ(resumed.validation_loss, whole.validation_loss);
    fs::remove_all(config.checkpoint->folder);
  }
}

TEST(TrainingCheckpoint, DividedStateIsSavedByItsOwnersAndGoesOnUndividedToo) {
  const TextFile text;
  for (const std::int64_t expert : {2, 1}) {
    for (const int stage : {1, 2}) {
      SCOPED_TRACE(fmt::format("ZeRO {}, EP {}", stage, expert));
      Workload workload = two_ranks();
      workload.layout.expert = expert;
      workload.layout.zero_stage = stage;
      const TrainResult whole = must_train(train_config(workload, text, 10));
      TrainConfig config = checkpointed(workload, text, 10, full(4));
      train_and_stop(config, 6);
      const fs::path kept = text.path().parent_path() / "kept";
      fs::copy(config.checkpoint->folder, kept);
      config.checkpoint->resume = true;
      EXPECT_EQ(must_train(config).loss, tail(whole.loss, 4));
      config.workload.layout.zero_stage = 0;
      config.checkpoint->folder = kept;
      const TrainResult undivided = must_train(config);
      ASSERT_EQ(undivided.loss.size(), 6U);
      for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(undivided.loss[i], whole.loss[4 + i], 1e-5);
      fs::remove_all(kept);
      fs::remove_all(text.path().parent_path() / "checkpoints");
    }
  }
}

TEST(TrainingCheckpoint, AFaultAnywhereIsSurvivedInTheSameRun) {
  const TextFile text;
  const TrainResult whole = must_train(train_config(two_ranks(), text, 12));
  const std::vector<std::pair<std::int64_t, const char*>> faults = {{2, ""},
                                                                    {4, ""},
                                                                    {11, "Head.F"},
                                                                    {5, "L1.Dispatch.F"},
                                                                    {5, "L3.Expert.B"},
                                                                    {4, "GradientReduce.U.data"},
                                                                    {5, "Optimizer.U"}};
  for (const auto& [step, name] : faults) {
    SCOPED_TRACE(fmt::format("step {}, {}", step, name));
    TrainConfig config = checkpointed(two_ranks(), text, 12, full(4));
    config.faults = {kill_rank(1, step, name)};
    const TrainResult result = must_train(config);
    EXPECT_EQ(result.loss, whole.loss);
    EXPECT_EQ(result.validation_loss, whole.validation_loss);
    ASSERT_EQ(result.checkpoints->recoveries.size(), 1U);
    const Recovery& recovery = result.checkpoints->recoveries[0];
    EXPECT_EQ(recovery.failed_step, step);
    // The checkpoint of step 4 is copied beside the step that fails: it may or may not be safe by then.
    if (step == 4) {
      EXPECT_TRUE(recovery.step == 0 || recovery.step == 4) << recovery.step;
    } else {
      EXPECT_EQ(recovery.step, step == 2 ? 0 : step == 5 ? 4 : 8);
    }
    EXPECT_EQ(result.steps.size(), 12U);
    fs::remove_all(config.checkpoint->folder);
  }
}

TEST(TrainingCheckpoint, WithoutCheckpointsAFaultEndsTheRun) {
  const TextFile text;
  TrainConfig config = train_config(two_ranks(), text, 6);
  config.faults = {kill_rank(1, 3)};
  const Result<TrainResult> result = run_training(config);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::RunFailed);
}

TEST(TrainingCheckpoint, AnotherExpertDegreeGoesOnWithinRounding) {
  const TextFile text;
  Workload workload = two_ranks();
  workload.bytes_per_element = 8;
  for_each_moe(workload, [](MoeFfn& moe) {
    moe.capacity_factor = std::nullopt;
    moe.balance_loss_coefficient = 0;
  });
  workload.batch.micro_batch = 2;
  const TrainResult whole = must_train(train_config(workload, text, 12));
  TrainConfig config = checkpointed(workload, text, 12, full(4));
  train_and_stop(config, 9);
  const fs::path kept = text.path().parent_path() / "kept";
  fs::copy(config.checkpoint->folder, kept);
  config.checkpoint->resume = true;
  config.workload.layout.data = 4;
  config.workload.batch.micro_batch = 1;
  for (const std::int64_t expert : {4, 2, 1}) {
    SCOPED_TRACE(expert);
    config.workload.layout.expert = expert;
    const TrainResult resumed = must_train(config);
    ASSERT_EQ(resumed.first_step, 8);
    ASSERT_EQ(resumed.loss.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(resumed.loss[i], whole.loss[8 + i], 1e-10);
    EXPECT_NEAR(resumed.validation_loss, whole.validation_loss, 1e-10);
    fs::remove_all(config.checkpoint->folder);
    fs::copy(kept, config.checkpoint->folder);  // without the versions that this run has added
  }
}

/// What the plan predicts, from the counters and selections of the versions that were saved.
class Prediction {
 public:
  Prediction(const TrainConfig& config, const TrainResult& result)
      : config_(config), experts_(config.workload.model), saved_(result.checkpoints->saved) {}

  /// Pieces that are there when `updates` updates are done: with memory, of ranks that are not lost.
  [[nodiscard]] std::vector<SavedPiece> pieces(std::int64_t updates, const std::vector<Rank>& lost) const {
    std::vector<SavedPiece> out;
    const bool memory = config_.checkpoint->policy.recovers_from_memory();
    for (const SavedCheckpoint& saved : saved_) {
      if (saved.step >= updates) continue;  // settled only after one more step
      out.push_back({std::nullopt, saved.step});
      for (const CheckpointLevel level : {CheckpointLevel::Memory, CheckpointLevel::Storage}) {
        if (level == CheckpointLevel::Memory && !memory) continue;
        for (std::size_t m = 0; m < experts_.layer_count(); ++m) {
          for (const ExpertId expert : saved.selection.of(level)[m]) {
            const std::size_t index = experts_.at(m, expert);
            SavedPiece piece{index, saved.step};
            piece.level = level;
            piece.tokens = saved.tokens[index];
            const std::int64_t of_rank = experts_.layers()[m].expert_count / config_.workload.layout.expert;
            if (level == CheckpointLevel::Memory)
              piece.holder = Rank(static_cast<std::int32_t>(expert.value() / of_rank));
            out.push_back(piece);
          }
        }
      }
    }
    return surviving(std::move(out), lost);
  }

  [[nodiscard]] RecoveryPlan plan(std::int64_t updates, const std::vector<Rank>& lost = {}) const {
    return *plan_recovery(experts_.size(), pieces(updates, lost)).plan;
  }
  [[nodiscard]] double plt(const RecoveryPlan& plan) const {
    LossAccount account(experts_);
    const auto at = std::ranges::find(saved_, plan.step, &SavedCheckpoint::step);
    const std::vector<std::int64_t> lost = account.add_fault(lost_tokens(plan, at->tokens));
    const Workload& workload = config_.workload;
    const std::int64_t tokens = config_.steps * workload.layout.data * workload.batch.tokens();
    return proportion_of_lost_tokens(experts_, lost, static_cast<double>(tokens));
  }
  /// Selections are those of the policy, applied to the same counters.
  void expect_selections() const {
    const CheckpointPolicy& policy = config_.checkpoint->policy;
    SelectionState state(experts_, policy);
    for (const SavedCheckpoint& saved : saved_) {
      const Selection expected = select_experts(policy, policy.partial.experts, state, saved.tokens);
      EXPECT_EQ(saved.selection, expected) << "step " << saved.step;
      state.commit(CheckpointLevel::Memory, expected, saved.step, saved.tokens);
      state.commit(CheckpointLevel::Storage, expected, saved.step, saved.tokens);
    }
  }

 private:
  const TrainConfig& config_;
  ExpertIndex experts_;
  const std::vector<SavedCheckpoint>& saved_;
};

std::vector<std::int64_t> ages(const RecoveryPlan& plan) {
  std::vector<std::int64_t> out;
  for (std::size_t expert = 0; expert < plan.experts.size(); ++expert) out.push_back(plan.age(expert));
  return out;
}

TEST(TrainingCheckpoint, LostTokensOfOneLevelAreThoseOfThePlan) {
  const TextFile text;
  for (const SelectionKind selection : {SelectionKind::Sequential, SelectionKind::LoadAware, SelectionKind::Random}) {
    SCOPED_TRACE(to_text(selection));
    TrainConfig config = checkpointed(two_ranks(), text, 23, pec(3, {1, 1}, selection));
    config.checkpoint->retention = Retention{2, 1};
    config.faults = {kill_rank(0, 22)};
    const TrainResult result = must_train(config);
    const Prediction prediction(config, result);
    prediction.expect_selections();
    ASSERT_EQ(result.checkpoints->recoveries.size(), 1U);
    const Recovery& recovery = result.checkpoints->recoveries[0];
    const RecoveryPlan plan = prediction.plan(22);
    EXPECT_EQ(recovery.step, plan.step);
    EXPECT_EQ(recovery.age, ages(plan));
    EXPECT_GT(plan.oldest_age(), 0);
    EXPECT_EQ(recovery.plt, prediction.plt(plan));
    EXPECT_GT(recovery.plt, 0);
    EXPECT_EQ(recovery.from_memory.count(), 0);
    EXPECT_EQ(result.checkpoints->plt, recovery.plt);
    fs::remove_all(config.checkpoint->folder);
  }
}

TEST(TrainingCheckpoint, LostTokensOfTwoLevelsDependOnWhoseMemoryIsLost) {
  const TextFile text;
  std::vector<double> plt;
  for (const FaultKind kind : {FaultKind::KillRank, FaultKind::LoseNode}) {
    TrainConfig config = checkpointed(two_ranks(), text, 23, pec(3, {2, 1}));
    config.faults = {fault(kind, 1, 22)};
    const TrainResult result = must_train(config);
    const Prediction prediction(config, result);
    prediction.expect_selections();
    ASSERT_EQ(result.checkpoints->recoveries.size(), 1U);
    const Recovery& recovery = result.checkpoints->recoveries[0];
    const RecoveryPlan plan =
        prediction.plan(22, kind == FaultKind::LoseNode ? std::vector<Rank>{Rank(1)} : std::vector<Rank>{});
    EXPECT_EQ(recovery.step, plan.step);
    EXPECT_EQ(recovery.age, ages(plan));
    EXPECT_EQ(recovery.plt, prediction.plt(plan));
    EXPECT_GT(recovery.from_memory.count(), 0);
    EXPECT_EQ(recovery.from_storage.count() > 0, kind == FaultKind::LoseNode);
    plt.push_back(recovery.plt);
    fs::remove_all(config.checkpoint->folder);
  }
  EXPECT_LT(plt[0], plt[1]);
}

TEST(TrainingCheckpoint, ARestartedProcessKnowsWhatEarlierFaultsCost) {
  const TextFile text;
  TrainConfig config = checkpointed(two_ranks(), text, 23, pec(3, {1, 1}));
  config.faults = {kill_rank(0, 13)};
  train_and_stop(config, 20);
  config.faults.clear();
  config.checkpoint->resume = true;
  const TrainResult resumed = must_train(config);
  EXPECT_EQ(resumed.first_step, 18);
  ASSERT_EQ(resumed.checkpoints->recoveries.size(), 1U);
  // The first fault's losses are told with the second's, each assignment once.
  EXPECT_GT(resumed.checkpoints->plt, resumed.checkpoints->recoveries[0].plt);
}

TEST(TrainingCheckpoint, KDoublesWhenLossesUseTheirBudgetUp) {
  const TextFile text;
  TrainConfig config = checkpointed(two_ranks(), text, 40, pec(2, {1, 1}));
  config.checkpoint->policy.partial.dynamic = DynamicK{0.05, {}};
  for (const std::int64_t step : {11, 21, 31}) config.faults.push_back(kill_rank(0, step));
  const TrainResult result = must_train(config);
  ASSERT_EQ(result.checkpoints->recoveries.size(), 3U);
  EXPECT_EQ(result.checkpoints->recoveries[0].counts, (ExpertCounts{2, 2}));
  EXPECT_EQ(result.checkpoints->counts, (ExpertCounts{4, 4}));
  EXPECT_EQ(result.checkpoints->saved.back().selection.persist.front().size(), 4U);
}

TEST(TrainingCheckpoint, AFullDiskCostsCheckpointsAndNothingElse) {
  const TextFile text;
  const TrainResult whole = must_train(train_config(two_ranks(), text, 20));
  TrainConfig config = checkpointed(two_ranks(), text, 20, full(3));
  config.faults = {fault(FaultKind::FillDisk, 1, 8, 5), kill_rank(0, 14)};
  const TrainResult result = must_train(config);
  EXPECT_EQ(result.loss, whole.loss);
  std::vector<std::int64_t> failed;
  for (const SavedCheckpoint& saved : result.checkpoints->saved) {
    if (saved.kind != CheckpointOutcome::Kind::Failed) continue;
    failed.push_back(saved.step);
    EXPECT_NE(saved.error.find(kStorageFull), std::string::npos) << saved.error;
  }
  // Step 6 is safe; 9 and 12 find the disk full, and after the fault 9 and 12 again.
  EXPECT_EQ(failed, (std::vector<std::int64_t>{9, 12, 9, 12}));
  EXPECT_EQ(result.checkpoints->recoveries.at(0).step, 6);
}

TEST(TrainingCheckpoint, TurnedBitsAreFoundAndAnOlderCopyTaken) {
  const TextFile text;
  const TrainResult whole = must_train(train_config(two_ranks(), text, 20));
  TrainConfig config = checkpointed(two_ranks(), text, 20, full(3));
  config.faults = {fault(FaultKind::FlipBits, 0, 9), kill_rank(0, 11)};
  const TrainResult result = must_train(config);
  EXPECT_EQ(result.loss, whole.loss);
  EXPECT_EQ(result.checkpoints->recoveries.at(0).step, 6);
}

TEST(TrainingCheckpoint, ASlowDiskReplacesCheckpointsAndDoesNotStall) {
  const TextFile text;
  TrainConfig config = checkpointed(two_ranks(), text, 30, full(1));
  config.checkpoint->settle = false;
  Fault slow = fault(FaultKind::SlowDisk, 0, 0, 30);
  slow.rate = BytesPerSecond(1e5);
  config.faults = {slow};
  const TrainResult result = must_train(config);
  const auto count = [&](CheckpointOutcome::Kind kind) {
    return std::ranges::count(result.checkpoints->saved, kind, &SavedCheckpoint::kind);
  };
  EXPECT_GT(count(CheckpointOutcome::Kind::Replaced), 0);
  EXPECT_GT(count(CheckpointOutcome::Kind::Committed), 0);
  EXPECT_EQ(result.checkpoints->saved.size(), 30U);
  EXPECT_GT(result.checkpoints->shortest_interval.value_or(0), 1);
}

/// The stall is what the copy takes beyond the time that forward and backward give it.
TEST(TrainingCheckpoint, StallsForTheRestOfACopyThatDoesNotFit) {
  const TextFile text;
  Workload workload = two_ranks();
  workload.layout = {};
  TrainConfig config = checkpointed(workload, text, 6, full(2));
  const TrainResult quick = must_train(config);
  for (const SavedCheckpoint& saved : quick.checkpoints->saved) {
    if (saved.step == config.steps) continue;  // no update comes after it
    EXPECT_GE(saved.stall + saved.beside, saved.copy);
    EXPECT_EQ(saved.stall.count() > 0, saved.copy > saved.beside);
  }
  fs::remove_all(config.checkpoint->folder);
  config.checkpoint->copy_rate = BytesPerSecond(static_cast<double>(quick.checkpoints->saved[0].copied.count()) * 5);
  const TrainResult slow = must_train(config);
  EXPECT_EQ(slow.loss, quick.loss);
  EXPECT_TRUE(slow.checkpoints->slow_copies);
  for (const SavedCheckpoint& saved : slow.checkpoints->saved) {
    EXPECT_GE(saved.copy, std::chrono::milliseconds(200));  // by its rate
    if (saved.step == config.steps) continue;               // no update comes after it
    EXPECT_GE(saved.stall + saved.beside, saved.copy);
    EXPECT_EQ(saved.stall.count() > 0, saved.copy > saved.beside);
  }
  // The update is not charged for the wait: the lane idles before it.
  for (const SavedCheckpoint& saved : slow.checkpoints->saved) {
    Instant before{}, update{};
    for (const Span& span : slow.timeline.spans) {
      if (span.step != saved.step) continue;
      const bool updates = slow.timeline.plan.operators[span.op.index()].kind == OpKind::Optimizer;
      (updates ? update : before) = updates ? span.start : std::max(before, span.end);
    }
    if (update == Instant{}) continue;  // before the timeline begins
    EXPECT_GE(update - before, saved.stall) << saved.step;
  }
}

TEST(TrainingCheckpoint, FilesHaveThePlansBytes) {
  const TextFile text;
  TrainConfig config = checkpointed(two_ranks(), text, 9, pec(2, {2, 1}));
  config.checkpoint->retention.reset();
  const TrainResult result = must_train(config);
  const CheckpointInventory inventory =
      CheckpointInventory::make(config.workload.model, config.workload.layout, precision_of(4)).value();
  const auto environment = make_posix_environment();
  const CheckpointFolder folder = read_checkpoint_folder(*environment, config.checkpoint->folder).value();
  ASSERT_EQ(folder.edits.size(), result.checkpoints->saved.size());
  for (std::size_t i = 0; i < folder.edits.size(); ++i) {
    const SavedCheckpoint& saved = result.checkpoints->saved[i];
    const RankBytes plan = checkpoint_bytes(inventory, config.checkpoint->policy, saved.selection);
    EXPECT_EQ(saved.copied, plan.total(CheckpointLevel::Memory));
    for (std::size_t rank = 0; rank < 2; ++rank) {
      Bytes payload(0);
      for (const StoredFile& file : folder.edits[i].parts[rank]->files) payload += file.size - file.header;
      EXPECT_EQ(payload, plan.storage[rank]) << "version " << saved.version << ", rank " << rank;
    }
  }
}

TEST(TrainingCheckpoint, AUsedFolderIsNeverMixedWithAnotherRun) {
  const TextFile text;
  const TrainConfig config = checkpointed(two_ranks(), text, 8, full(3));
  static_cast<void>(must_train(config));
  must_refuse(config, "--resume goes on from there");

  TrainConfig other = config;
  other.checkpoint->resume = true;
  other.seed += 1;
  must_refuse(other, "seed 11");
  other = config;
  other.checkpoint->resume = true;
  other.workload.batch.micro_batch = 1;
  must_refuse(other, "other batches");
  other = config;
  other.checkpoint->resume = true;
  other.steps = 6;
  must_refuse(other, "nothing is left to train");
  other = config;
  other.workload.model.blocks[0].dense_width = 16;
  must_refuse(other, "blocks.0.mlp.w1");
  other.checkpoint->resume = true;
  must_refuse(other, "blocks.0.mlp.w1");

  const auto environment = make_posix_environment();
  EXPECT_TRUE(verify_checkpoints(*environment, config.checkpoint->folder).value().good());
}

TEST(TrainingCheckpoint, ResumingWithoutAnyCheckpointBegins) {
  const TextFile text;
  TrainConfig config = checkpointed(two_ranks(), text, 6, full(100));
  config.checkpoint->resume = true;
  const TrainResult result = must_train(config);
  EXPECT_EQ(result.first_step, 0);
  EXPECT_EQ(result.loss, must_train(train_config(two_ranks(), text, 6)).loss);
  EXPECT_TRUE(result.checkpoints->recoveries.empty());
}

}  // namespace
}  // namespace moecast::testing
