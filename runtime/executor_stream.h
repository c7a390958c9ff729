#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/executor.h"

namespace moecast {

/// The executor for backends that queue kernels: the calling thread issues every operator in plan order on its lane's
/// stream. Event 0 marks the start of the step, events 1 + 2i and 2 + 2i the start and end of operator i. A lane waits
/// for the end event of an operator of another lane only if it does not yet know that this one, or a later one of that
/// lane, is done.
class StreamExecutor final : public Executor {
 public:
  StreamExecutor(Backend& backend, const Clock& clock) : backend_(backend), clock_(clock) {}

  Result<std::vector<Span>> run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                     Rank rank) override;

 private:
  /// For each lane the largest operator id (plus one) of every other lane whose end it has waited for.
  using WaitedFor = std::array<std::array<std::int32_t, kLaneCount>, kLaneCount>;

  void begin(const StepPlan& plan);
  [[nodiscard]] Status issue(const StepPlan& plan, OperatorRunner& runner, Rank rank);
  void wait_for_dependencies(const StepPlan& plan, const Operator& op, WaitedFor& waited);
  [[nodiscard]] Status finish(OperatorRunner& runner, const Status& issued, Rank rank);
  [[nodiscard]] std::vector<Span> collect_spans(const StepPlan& plan, std::int32_t step, Rank rank);

  Backend& backend_;
  const Clock& clock_;
  int event_capacity_ = 0;
  std::array<bool, kLaneCount> used_{};  // lanes of the current plan
  Instant origin_{};                     // when event 0 was recorded
};

}  // namespace moecast
