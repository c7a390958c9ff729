#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/selection.h"
#include "runtime/checkpoint/engine.h"

namespace moecast {

/// What became of one snapshot, over all ranks: sums of bytes, the slowest rank's times.
struct SavedCheckpoint {
  std::int64_t version = 0;
  std::int64_t step = 0;  // updates that it holds
  CheckpointOutcome::Kind kind = CheckpointOutcome::Kind::Committed;
  std::string error;
  Selection selection;
  std::vector<std::int64_t> tokens;  // assignments of every expert by then, [ExpertIndex]
  Bytes copied{0};                   // device to host
  Bytes written{0};
  Bytes most_copied{0}, most_written{0};  // of the rank that has most
  Duration copy{};
  Duration beside{};   // from the beginning of the copy to the update that must not overtake it
  Duration stall{};    // training waited
  Duration persist{};  // from the beginning of writing to the commit
  Duration safe{};     // from the beginning of the copy to the commit
};

/// Training that went on from a checkpoint, or from its beginning.
struct Recovery {
  std::string cause;
  std::int64_t failed_step = 0;  // updates that had been done; of a process that was killed, as far as it is known
  std::int64_t step = 0;         // updates of the state that training goes on from
  std::int64_t version = 0;      // 0: from the beginning, nothing was saved yet
  Duration restore{};            // slowest rank
  Bytes from_memory{0}, from_storage{0};  // read, over all ranks
  std::vector<std::int64_t> age;          // of every expert: steps by which it is older, [ExpertIndex]
  double plt = 0;                         // proportion of lost tokens of this fault
  std::vector<std::string> damages;       // files that were found damaged on the way
  ExpertCounts counts;                    // K from here on

  [[nodiscard]] std::int64_t steps_again() const { return failed_step - step; }
};

struct CheckpointReport {
  std::vector<SavedCheckpoint> saved;
  std::vector<Recovery> recoveries;
  double plt = 0;               // of the whole run: an assignment that was lost twice counts once
  ExpertCounts counts;          // K at the end
  Duration forward_backward{};  // median over steps and ranks: from the first operator to the update
  /// Steps from one checkpoint to the next that writing needs; set if some were replaced because the interval is
  /// shorter.
  std::optional<std::int64_t> shortest_interval;
  bool slow_copies = false;  // copies were slowed on purpose
};

}  // namespace moecast
