#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/trainer/checkpoint_director.h"
#include "runtime/trainer/learning_rate.h"
#include "runtime/trainer/rank_trainer.h"
#include "runtime/trainer/train.h"

namespace moecast {

/// What all ranks do next.
struct Task {
  enum class Kind {
    Open,  // the checkpoint folder; restore if `resume`
    Train,
    Validate,
    Drain,  // wait until nothing is being written
    End,
  };
  Kind kind = Kind::End;
  std::int64_t index = 0;          // step, or validation batch
  const StepPlan* plan = nullptr;  // valid until all ranks have come back
  AdamWStep optimizer = {};
  bool resume = false;
  const SnapshotOrder* snapshot = nullptr;  // Train, Validate: to begin first; valid as `plan` is
};

/// Directs a run: told what every rank brought back, says what comes next. No threads and no devices: the caller sees
/// to it that one call is made at a time.
class Director {
 public:
  /// What it borrows outlives it.
  struct Options {
    const TrainConfig& config;
    const TokenText& text;
    const Clock& clock;
    Log& log;
    const std::function<void(const TrainProgress&)>& on_step;
    const std::atomic<bool>& stop;
    const CheckpointInventory* inventory = nullptr;  // if the run saves checkpoints
  };
  Director(const Options& options, StepPlan first_plan);

  /// The outcomes of the last task, by rank; at first those of an empty task.
  [[nodiscard]] Task next(std::span<const std::optional<StepOutcome>> outcomes);
  /// Ends the run; the first failure stays.
  void fail(const Error& error);
  /// After a task of kind End: the failure was this fault, and the ranks begin again. Not without checkpoints.
  [[nodiscard]] bool recover(const Fault& fault);

  /// After Task::Kind::End.
  [[nodiscard]] Result<TrainResult> take_result();

 private:
  using Outcomes = std::span<const std::optional<StepOutcome>>;
  [[nodiscard]] Task first_task() const;
  void finish(Outcomes outcomes);
  void finish_open(Outcomes outcomes);
  void finish_step(Outcomes outcomes);
  void finish_drain();
  void go_on();
  void stop();
  void finish_validation(Outcomes outcomes);
  void record(Outcomes outcomes);
  void add_load(Outcomes outcomes);
  void add_spans(Outcomes outcomes, Timeline& timeline) const;
  void keep_timeline(Outcomes outcomes);
  void choose_slots();
  [[nodiscard]] Task train_task() const;
  void forget_steps_from(std::int64_t updates);
  [[nodiscard]] double tokens_per_second() const;
  [[nodiscard]] Duration forward_backward() const;
  [[nodiscard]] std::optional<std::int64_t> shortest_interval(const CheckpointReport& report) const;
  [[nodiscard]] Task validate_task(std::int64_t batch);
  [[nodiscard]] std::int64_t first_steady_step() const;
  [[nodiscard]] std::int64_t validation_batch_count() const;
  [[nodiscard]] bool measures_slots() const;

  const TrainConfig& config_;
  const TokenText& text_;
  const Clock& clock_;
  Log& log_;
  const std::function<void(const TrainProgress&)>& on_step_;
  const std::atomic<bool>& stop_;
  LearningRateSchedule learning_rate_;
  StepPlan plan_;
  StepPlan forward_plan_;
  Timeline slot_timeline_;  // of the steps that slots are chosen from
  TrainResult result_;
  std::vector<std::vector<double>> routed_;  // [block][expert], all ranks and steps
  std::vector<double> dropped_;              // by block
  Task current_;
  bool started_ = false;
  Instant began_{};           // the current task
  std::int64_t updates_ = 0;  // done so far
  bool ran_ = false;          // something: what is restored from here on is a failure's
  bool validated_ = false;
  bool chose_slots_ = false;
  bool resumes_ = false;  // the next Open restores
  std::optional<CheckpointDirector> checkpoints_;
  std::optional<Error> end_;  // with which the run ends after a last Drain
  double validation_sum_ = 0;
  std::int64_t validation_tokens_ = 0;
  std::optional<Error> failure_;
};

}  // namespace moecast
