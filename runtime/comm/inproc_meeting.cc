#include "runtime/comm/inproc_meeting.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/comm/pacing.h"

namespace moecast {
InprocMeeting::InprocMeeting(int size, const LinkOptions& options, std::string name, std::vector<Rank> members)
    : options_(options),
      name_(std::move(name)),
      members_(std::move(members)),
      calls_(static_cast<std::size_t>(size)),
      present_(static_cast<std::size_t>(size), false) {
  ASSERT(members_.size() == calls_.size(), "{} members in a group of {}", members_.size(), size);
}

Status InprocMeeting::join(int rank, const InprocCall& call) {
  Lock lock(mutex_);
  if (error_) return *error_;
  const auto slot = static_cast<std::size_t>(rank);
  ASSERT(!present_[slot], "rank {} of {} is called by two threads at once", rank, name_);
  calls_[slot] = call;
  present_[slot] = true;
  const std::uint64_t meeting = met_ + 1;
  if (++arrived_ == size()) {
    admit_all();
    return {};
  }
  return wait_for_peers(lock, rank, meeting);
}

void InprocMeeting::admit_all() {
  arrived_ = 0;
  std::fill(present_.begin(), present_.end(), false);
  ++met_;
  reading_ = size();
  port_bytes_ = 0;
  met_at_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

Status InprocMeeting::wait_for_peers(Lock& lock, int rank, std::uint64_t meeting) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  const bool settled = changed_.wait_until(lock, deadline, [&] { return met_ >= meeting || error_.has_value(); });
  if (met_ >= meeting) return {};  // all came, so they read: even after an error this rank takes part
  if (!settled) close(missing_peers(rank));
  return *error_;
}

Status InprocMeeting::leave(double port_bytes, bool pace) {
  Lock lock(mutex_);
  const std::uint64_t meeting = met_;  // cannot change before this rank has left
  port_bytes_ = std::max(port_bytes_, port_bytes);
  if (--reading_ == 0) {
    ++done_;
    done_well_ = !error_.has_value();
    changed_.notify_all();
  } else {
    // No timeout: peers are inside this library, copying.
    changed_.wait(lock, [&] { return done_ >= meeting; });
  }
  if (!done_well_) return *error_;  // what breaks later concerns the next call
  if (pace && options_.pacing && size() > 1) return wait_for_link(lock);
  return {};
}

Status InprocMeeting::wait_for_link(Lock& lock) {
  const Duration needed = paced_time(*options_.pacing, port_bytes_);
  const double bytes = port_bytes_;
  const SteadyTime begin = met_at_;  // peers that leave earlier may already meet again
  const bool stalls = needed > options_.timeout;
  const SteadyTime end = begin + std::min(needed, options_.timeout);
  ask_for_exact_sleeps();
  changed_.wait_until(lock, end - kSpin, [&] { return error_.has_value(); });
  if (error_) return *error_;
  if (stalls) {
    close(stalled_link(name_, bytes, options_.timeout));
    return *error_;
  }
  lock.unlock();
  spin_until(end);
  return {};
}

Error InprocMeeting::missing_peers(int rank) const {
  std::string missing;
  for (std::size_t i = 0; i < present_.size(); ++i) {
    if (!present_[i]) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", members_[i].value());
  }
  const char* call = to_text(calls_[static_cast<std::size_t>(rank)].kind);
  return {
      ErrorKind::RunFailed, fmt::format("{} group, rank {}", name_, member(rank).value()),
      fmt::format("{} number {}: waited {} in vain for rank {}", call, met_ + 1, pretty(options_.timeout), missing)};
}

Status InprocMeeting::check() {
  const Lock lock(mutex_);
  return error_ ? Status(*error_) : Status();
}

void InprocMeeting::fail(int rank, Error error) {
  if (error.place.empty()) error.place = fmt::format("{} group, rank {}", name_, member(rank).value());
  const Lock lock(mutex_);
  close(std::move(error));
}

void InprocMeeting::close(Error error) {
  if (error_) return;
  error_ = std::move(error);
  changed_.notify_all();
}

}  // namespace moecast
