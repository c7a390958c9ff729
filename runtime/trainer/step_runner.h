#pragma once

#include <functional>
#include <optional>

#include "runtime/executor.h"
#include "runtime/trainer/step_context.h"
#include "runtime/trainer/train_config.h"

namespace moecast {

/// Runs the operators of a step plan on one rank: each by the function of its kind and phase.
class StepRunner final : public OperatorRunner {
 public:
  /// `on_failure` hears of this rank's error before its peers do. May be empty.
  StepRunner(StepContext& context, std::optional<Fault> fault, std::function<void(const Error&)> on_failure)
      : context_(context), fault_(std::move(fault)), on_failure_(std::move(on_failure)) {}

  /// Before each step: the number of the step, for the injected fault.
  void begin_step(std::int64_t step) { step_ = step; }

  Status run(const Operator& op) override;
  void abandon(const Error& reason) override;

 private:
  [[nodiscard]] Status run_compute(const Operator& op);
  [[nodiscard]] Status run_forward(const Operator& op);
  [[nodiscard]] Status run_backward(const Operator& op);
  [[nodiscard]] Status run_communication(const Operator& op);
  void throw_if_faulty(const Operator& op) const;

  StepContext& context_;
  std::optional<Fault> fault_;
  std::function<void(const Error&)> on_failure_;
  std::int64_t step_ = 0;
};

}  // namespace moecast
