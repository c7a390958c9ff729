#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "base/result.h"
#include "runtime/communicator.h"
#include "runtime/trainer/meeting.h"

namespace moecast {

/// What one rank brings to a meeting, as bytes; read back by a process of the same program.
struct Contribution {
  bool stop = false;
  Instant failed_at{};  // on the clock that all ranks share
  std::optional<Error> failure = std::nullopt;
  std::optional<StepOutcome> outcome = std::nullopt;
};
[[nodiscard]] std::vector<std::byte> to_bytes(const Contribution& contribution);
/// Nothing if the bytes are no contribution.
[[nodiscard]] std::optional<Contribution> contribution_of(std::span<const std::byte> bytes);

/// Ranks are processes, each with a director of its own: they tell each other everything that they bring, so all
/// directors decide alike.
class ProcessMeeting final : public MeetingPoint {
 public:
  /// `control` is a group of all ranks for this meeting alone; `clock` shows the same time to all. `stop` is this
  /// process's wish to stop, `agreed_stop` what the director is to look at: set on all ranks as soon as one of them
  /// wishes. `lost` is called when the ranks cannot talk any more; if it returns, the run ends on this rank.
  ProcessMeeting(Director& director, Communicator& control, const Clock& clock, const std::atomic<bool>& stop,
                 std::atomic<bool>& agreed_stop, std::function<void(const Error&)> lost);
  Task arrive(Rank rank, std::optional<StepOutcome> outcome) override;
  void fail(const Error& error) override;

 private:
  [[nodiscard]] Task end_alone(const Error& error);
  [[nodiscard]] Contribution contribution(std::optional<StepOutcome> outcome);

  Director& director_;
  Communicator& control_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::atomic<bool>& agreed_stop_;
  const std::function<void(const Error&)> lost_;
  std::vector<std::optional<StepOutcome>> outcomes_;  // by rank
  std::mutex mutex_;
  std::optional<Error> failure_;  // of this rank, guarded by mutex_ as is failed_at_
  Instant failed_at_{};
};

}  // namespace moecast
