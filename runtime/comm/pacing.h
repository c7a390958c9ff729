#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/units.h"
#include "runtime/communicator.h"

namespace moecast {

using SteadyTime = std::chrono::steady_clock::time_point;

/// How a group of ranks talks.
struct LinkOptions {
  std::optional<PacedLink> pacing = std::nullopt;  // no value: as fast as memory or network allow
  /// How long a rank waits for its peers, and how long a paced transfer may take.
  Duration timeout = std::chrono::seconds(60);
};

/// A sleep ends late by a context switch (and, in a virtual machine, by waking the core); so the last stretch is spun.
inline constexpr std::chrono::microseconds kSpin{80};

/// What a paced transfer takes whose busiest port sees so many bytes, from the moment when all ranks have come.
[[nodiscard]] Duration paced_time(const PacedLink& link, double port_bytes);

/// Linux may end a thread's sleeps up to 50 us late to save power; this thread asks it not to.
void ask_for_exact_sleeps();

void spin_until(SteadyTime end);

/// "the link stalled": a paced transfer that takes longer than the timeout allows.
[[nodiscard]] Error stalled_link(const std::string& group, double port_bytes, Duration timeout);

}  // namespace moecast
