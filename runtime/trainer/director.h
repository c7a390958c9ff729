#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/trainer/learning_rate.h"
#include "runtime/trainer/rank_trainer.h"
#include "runtime/trainer/train.h"

namespace moecast {

/// What all ranks do next.
struct Task {
  enum class Kind { Train, Validate, End };
  Kind kind = Kind::End;
  std::int64_t index = 0;          // step, or validation batch
  const StepPlan* plan = nullptr;  // valid until all ranks have come back
  AdamWStep optimizer = {};
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
  };
  Director(const Options& options, StepPlan first_plan);

  /// The outcomes of the last task, by rank; at first those of an empty task.
  [[nodiscard]] Task next(std::span<const std::optional<StepOutcome>> outcomes);
  /// Ends the run; the first failure stays.
  void fail(const Error& error);

  /// After Task::Kind::End.
  [[nodiscard]] Result<TrainResult> take_result();

 private:
  using Outcomes = std::span<const std::optional<StepOutcome>>;
  void finish_step(Outcomes outcomes);
  void finish_validation(Outcomes outcomes);
  void record(Outcomes outcomes);
  void add_load(Outcomes outcomes);
  void add_spans(Outcomes outcomes, Timeline& timeline) const;
  void keep_timeline(Outcomes outcomes);
  void choose_slots();
  [[nodiscard]] Task train_task() const;
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
  Instant began_{};         // the current task
  Duration steady_time_{};  // of all steps after warm-up
  double validation_sum_ = 0;
  std::int64_t validation_tokens_ = 0;
  std::optional<Error> failure_;
};

}  // namespace moecast
