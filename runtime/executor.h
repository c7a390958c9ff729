#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "models/step_plan.h"
#include "models/timeline.h"
#include "runtime/backend.h"

namespace moecast {

/// What an operator does on this rank: the trainer's kernels and collectives. The executor decides when.
class OperatorRunner {
 public:
  virtual ~OperatorRunner() = default;
  /// Called on the lane's thread, in the order of the lane. Different lanes call at the same time. An error, or an
  /// exception, ends the step.
  virtual Status run(const Operator& op) = 0;
  /// Called once when a step fails, before run_step waits for the other lanes: release what blocks (abort the
  /// communicators), else the step ends only with their timeouts. May run beside `run` on other lanes.
  virtual void abandon(const Error& reason) { (void)reason; }
};

/// Walks one rank's plan: operators of a lane one at a time in plan order, each as soon as its dependencies are done,
/// lanes beside each other; nothing else. One object serves one rank and is used by one thread; it keeps its threads
/// and buffers from step to step.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Runs one step to its end and returns its spans, ordered by (lane, start). The first error of any lane (place: rank
  /// and operator) if one fails: then all lanes have stopped, operators that had not begun never do, and the executor
  /// may be used again.
  virtual Result<std::vector<Span>> run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                             Rank rank) = 0;
};

/// The compute lane runs on the calling thread, every other lane of the plan on a thread of its own. On an asynchronous
/// backend these threads issue: lanes meet through events, and the spans come from event times after the step; a call
/// that keeps its thread (a collective through host memory) keeps no other lane from being issued. `backend` and
/// `clock` are borrowed.
[[nodiscard]] std::unique_ptr<Executor> make_executor(Backend& backend, const Clock& clock);

}  // namespace moecast
