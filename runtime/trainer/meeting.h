#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "runtime/trainer/director.h"

namespace moecast {

/// Where the ranks of a run meet between tasks.
class MeetingPoint {
 public:
  virtual ~MeetingPoint() = default;
  /// Brings what `rank` got from the last task; waits for the others and returns the next one. A rank that failed
  /// brings nothing.
  [[nodiscard]] virtual Task arrive(Rank rank, std::optional<StepOutcome> outcome) = 0;
  /// The run ends at the next meeting. May be called by any thread at any time.
  virtual void fail(const Error& error) = 0;
};

/// All ranks are threads of this process, with one director. The last to arrive asks it for the next task.
class ThreadMeeting final : public MeetingPoint {
 public:
  ThreadMeeting(Director& director, std::size_t ranks) : director_(director), outcomes_(ranks) {}
  Task arrive(Rank rank, std::optional<StepOutcome> outcome) override;
  void fail(const Error& error) override;

 private:
  std::mutex mutex_;  // guards all below, and the director
  std::condition_variable changed_;
  Director& director_;
  std::vector<std::optional<StepOutcome>> outcomes_;
  std::size_t arrived_ = 0;
  std::uint64_t meeting_ = 0;
  Task task_;
};

/// The director's next task. An exception (the caller's on_step, out of memory) ends the run like any failure: every
/// rank must hear of it.
[[nodiscard]] Task next_task(Director& director, std::span<const std::optional<StepOutcome>> outcomes);

}  // namespace moecast
