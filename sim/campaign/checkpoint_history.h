#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/campaign/checkpoint_run.h"

namespace moecast {

/// Which versions exist, as runs instead of lists: a version is named by the step after which it was taken, and its
/// times follow from the run in which it was taken. Version 0, the start of the training, always exists on storage.
class CheckpointHistory {
 public:
  /// A version that can be restored.
  struct Version {
    std::int64_t step = 0;
    Instant begun{};    // when the checkpoint began; of version 0: the start
    Instant safe_at{};  // in memory: when it is on storage too, if its write is not cut and it is written at all
  };

  /// Training goes on from here; the run before, if it is not closed, ends at the step where this one begins.
  void begin(const CheckpointRun& run);
  /// The last run reached the end of step `last_step` (whose checkpoint may have begun).
  void close(std::int64_t last_step);
  /// Versions after `step` are gone: training goes on from `step`.
  void roll_back(std::int64_t step);
  /// A node is gone: what is not on storage by `at` will never be.
  void cut_writes(Instant at);

  /// Newest version that storage (memory) can restore at `at` and that began not after `taint`.
  [[nodiscard]] Version newest_on_storage(Instant at, Instant taint) const;
  [[nodiscard]] std::optional<Version> newest_in_memory(Instant at, Instant taint) const;

  [[nodiscard]] const CheckpointRun& last() const { return runs_.back().run; }
  [[nodiscard]] bool empty() const { return runs_.empty(); }

 private:
  struct Entry {
    CheckpointRun run;
    std::int64_t last_step = 0;
    Instant writes_until = Instant::max();
  };
  static constexpr std::size_t kMostRuns = 64;

  [[nodiscard]] static std::optional<Version> newest(const Entry& entry, std::int64_t period, Duration latency,
                                                     Instant at, Instant taint);
  void forget_old_runs();

  std::vector<Entry> runs_;
  Version oldest_;  // on storage, from runs that were forgotten
};

}  // namespace moecast
