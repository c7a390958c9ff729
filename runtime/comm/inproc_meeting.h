#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/units.h"
#include "runtime/comm/call_kind.h"
#include "runtime/comm/inproc.h"
#include "runtime/comm/pacing.h"
#include "runtime/communicator.h"

namespace moecast {

/// What one rank brings to a meeting: borrowed, valid until it has left.
struct InprocCall {
  CallKind kind = CallKind::Barrier;
  Tensor send = {};
  Tensor receive = {};
  std::span<const Segment> send_segments = {};
  std::span<const Segment> receive_segments = {};
  std::span<const std::int64_t> values = {};
  int root = 0;
};

/// The meeting place of one group: who came with which call, until when peers read one another's memory, and the first
/// error. It moves no data. Protocol of each rank and call: join (all are here), read peers' memory, leave (all have
/// finished reading, and the paced link would be done by now). Thread-safe.
class InprocMeeting {
 public:
  InprocMeeting(int size, const LinkOptions& options, std::string name, std::vector<Rank> members);

  [[nodiscard]] int size() const { return static_cast<int>(calls_.size()); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] Rank member(int rank) const { return members_[static_cast<std::size_t>(rank)]; }

  /// Waits for all ranks. On error nobody reads anybody's memory and `leave` must not be called.
  [[nodiscard]] Status join(int rank, const InprocCall& call);
  /// The call with which `rank` came; between join and leave.
  [[nodiscard]] const InprocCall& call(int rank) const { return calls_[static_cast<std::size_t>(rank)]; }
  /// Waits until nobody reads any more and, if `pace`, for the paced link, through whose busiest port go the most
  /// `port_bytes` of all ranks.
  [[nodiscard]] Status leave(double port_bytes, bool pace);
  /// The error that closed the group.
  [[nodiscard]] Status check();
  /// Closes the group; the first error stays. `rank` is who says so.
  void fail(int rank, Error error);

 private:
  using Lock = std::unique_lock<std::mutex>;

  void admit_all();
  [[nodiscard]] Status wait_for_peers(Lock& lock, int rank, std::uint64_t meeting);
  [[nodiscard]] Status wait_for_link(Lock& lock);
  [[nodiscard]] Error missing_peers(int rank) const;
  void close(Error error);

  LinkOptions options_;
  std::string name_;
  std::vector<Rank> members_;
  std::vector<InprocCall> calls_;  // slot r: written by rank r before it joins, read by all between join and leave

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<bool> present_;
  int arrived_ = 0;
  std::uint64_t met_ = 0;   // meetings that have begun
  std::uint64_t done_ = 0;  // meetings in which all have finished reading
  bool done_well_ = true;   // the last of those, without an error
  int reading_ = 0;
  SteadyTime met_at_{};
  double port_bytes_ = 0;
  std::optional<Error> error_;
};

}  // namespace moecast
