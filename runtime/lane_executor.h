#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/executor.h"

namespace moecast {

/// One thread for each lane (the caller is the compute lane), that of the comm lane ahead of the others
/// (runtime/prompt_wakeup.h). A finished operator sets its flag; whoever waits for it sleeps on that flag alone
/// (futex), so an operator wakes nobody who does not need it. In steady state a step allocates only the spans that it
/// returns.
///
/// Asynchronous backends: a flag says that the operator is issued, and the lane that needs it then waits on the device
/// for its end event. Event 0 marks the start of the step, events 1 + 2i and 2 + 2i the start and end of operator i. A
/// lane waits for an operator of another lane only if it does not yet know that this one, or a later one of that lane,
/// is done.
class LaneExecutor final : public Executor {
 public:
  LaneExecutor(Backend& backend, const Clock& clock) : backend_(backend), clock_(clock) {}
  ~LaneExecutor() override;
  LaneExecutor(const LaneExecutor&) = delete;
  LaneExecutor& operator=(const LaneExecutor&) = delete;

  Result<std::vector<Span>> run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                     Rank rank) override;

 private:
  struct LaneState {
    std::vector<OpId> operators;  // of this step, in plan order
    std::vector<Span> spans;
    std::array<std::int32_t, kLaneCount> waited_for{};  // of each other lane: largest operator id, plus one
    std::atomic<std::uint32_t> begun{0};                // steps handed to the worker
    std::atomic<std::uint32_t> finished{0};             // steps that it has ended
    std::jthread worker;                                // none for the compute lane
  };
  struct Step {
    const StepPlan* plan = nullptr;
    OperatorRunner* runner = nullptr;
    std::int32_t step = 0;
    Rank rank;
  };

  void prepare(const Step& step);
  void begin_streams();
  void start_worker(LaneState& lane);
  void work(LaneState& lane);
  void run_lane(LaneState& lane);
  [[nodiscard]] bool run_operator(LaneState& lane, const Operator& op);
  void wait_until_done(OpId op);
  void wait_on_device(LaneState& lane, const Operator& op);
  void set_done(OpId op);
  void fail(const Error& error);
  [[nodiscard]] Status finish_streams();
  void set_event_times();
  [[nodiscard]] std::vector<Span> collect_spans() const;

  Backend& backend_;
  const Clock& clock_;
  std::array<LaneState, kLaneCount> lanes_;
  std::atomic<bool> stopping_{false};

  int event_capacity_ = 0;  // asynchronous backends
  Instant origin_{};        // when event 0 was recorded

  // Of the current step; written before the workers are started.
  Step current_;
  std::uint32_t epoch_ = 0;                             // number of this run
  std::unique_ptr<std::atomic<std::uint32_t>[]> done_;  // by OpId: epoch_ once the operator is done
  std::size_t done_capacity_ = 0;
  std::atomic<bool> failed_{false};
  std::mutex error_mutex_;
  std::optional<Error> error_;  // the first, guarded by error_mutex_
};

}  // namespace moecast
