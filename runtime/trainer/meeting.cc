#include "runtime/trainer/meeting.h"

#include <exception>

namespace moecast {

Task ThreadMeeting::arrive(Rank rank, std::optional<StepOutcome> outcome) {
  std::unique_lock lock(mutex_);
  outcomes_[rank.index()] = std::move(outcome);
  if (++arrived_ == outcomes_.size()) {
    arrived_ = 0;
    task_ = next_task(director_, outcomes_);
    ++meeting_;
    changed_.notify_all();
  } else {
    changed_.wait(lock, [&, meeting = meeting_] { return meeting_ != meeting; });
  }
  return task_;
}

void ThreadMeeting::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  director_.fail(error);
}

Task next_task(Director& director, std::span<const std::optional<StepOutcome>> outcomes) {
  try {
    return director.next(outcomes);
  } catch (const std::exception& exception) {
    director.fail({ErrorKind::RunFailed, "between steps", exception.what()});
    return {};
  }
}

}  // namespace moecast
