#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "base/units.h"

namespace moecast {

/// What a policy does while training runs undisturbed: the same again and again, so that an executor can jump.
struct Cadence {
  static constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max();

  std::int64_t interval = 0;           // steps; a checkpoint begins after every step that is a multiple; 0: never
  Duration stall{};                    // training stands still for so long at each
  std::int64_t storage_every = 1;      // storage gets each n-th of them (ordinal = step / interval); 0: none
  Duration storage_stall{};            // more, at those
  std::optional<Duration> to_memory;   // from the beginning of a checkpoint until memory can restore it; none: never
  std::optional<Duration> to_storage;  // until storage can
  std::int64_t last_step = kForever;   // later steps have another cadence

  friend bool operator==(const Cadence&, const Cadence&) = default;
};

/// A stretch of training at one speed: it begins at `start` with `first_step` steps done (a checkpoint that was due
/// there is over), and step first_step + n ends after elapsed(n). All arithmetic in ticks, O(log) in the interval.
struct CheckpointRun {
  Instant start{};
  std::int64_t first_step = 0;
  Duration step{};
  Cadence cadence;

  /// From the start to the end of the n-th step, before its own stall. n >= 0; elapsed(0) = 0.
  [[nodiscard]] Duration elapsed(std::int64_t n) const;
  /// Stall after the n-th step (n >= 1): zero where no checkpoint is due.
  [[nodiscard]] Duration stall_after(std::int64_t n) const;
  /// Most steps whose end lies within `budget` >= 0.
  [[nodiscard]] std::int64_t steps_within(Duration budget) const;
  /// Checkpoints begun by the end of the n-th step, and those of them that go to storage.
  [[nodiscard]] std::int64_t checkpoints(std::int64_t n) const;
  [[nodiscard]] std::int64_t storage_checkpoints(std::int64_t n) const;
};

}  // namespace moecast
