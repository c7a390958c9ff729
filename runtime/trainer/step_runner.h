#pragma once

#include <functional>

#include "runtime/executor.h"
#include "runtime/trainer/step_context.h"
#include "runtime/trainer/train_config.h"

namespace moecast {

/// Runs the operators of a step plan on one rank: each by the function of its kind and phase.
class StepRunner final : public OperatorRunner {
 public:
  /// `on_failure` hears of this rank's error before its peers do. May be empty.
  StepRunner(StepContext& context, FaultSchedule* faults, std::function<void(const Error&)> on_failure)
      : context_(context), faults_(faults), on_failure_(std::move(on_failure)) {}

  /// Before each step: the number of the step, for injected faults.
  void begin_step(std::int64_t step) {
    step_ = step;
    stall_ = {};
  }
  /// Called before the parameters change; returns how long that had to wait.
  void before_update(std::function<Result<Duration>()> wait) { before_update_ = std::move(wait); }
  [[nodiscard]] Duration stall() const { return stall_; }  // of this step

  Status run(const Operator& op) override;
  void abandon(const Error& reason) override;

 private:
  [[nodiscard]] Status run_compute(const Operator& op);
  [[nodiscard]] Status run_forward(const Operator& op);
  [[nodiscard]] Status run_backward(const Operator& op);
  [[nodiscard]] Status run_communication(const Operator& op);
  [[nodiscard]] Status update();

  StepContext& context_;
  FaultSchedule* faults_;  // may be null
  std::function<void(const Error&)> on_failure_;
  std::function<Result<Duration>()> before_update_;
  std::int64_t step_ = 0;
  Duration stall_{};
};

}  // namespace moecast
