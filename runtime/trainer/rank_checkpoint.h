#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "models/checkpoint/checkpoint_plan.h"
#include "runtime/checkpoint/engine.h"
#include "runtime/checkpoint/restore.h"
#include "runtime/trainer/checkpoint_config.h"
#include "runtime/trainer/parameter_store.h"

namespace moecast {

/// Where TrainingState::extra has the state of the selection (SelectionState) and the faults so far.
inline constexpr std::string_view kSelectionKey = "selection";
inline constexpr std::string_view kFaultsKey = "faults";

/// What every rank saves of the state as it is: before the next forward.
struct SnapshotOrder {
  Selection selection;
  TrainingState state;
};

/// What a rank got back.
struct RestoredRank {
  std::int64_t version = 0;  // 0: nothing was saved yet
  TrainingState state;
  struct Unit {
    std::int64_t expert = 0;  // ExpertIndex
    std::int64_t step = 0;
    std::int64_t tokens = -1;  // assignments that it had seen by then; -1: the files do not say
    CheckpointLevel level = CheckpointLevel::Storage;
  };
  std::vector<Unit> units;  // experts of this rank
  Duration duration{};
  Bytes from_memory{0}, from_storage{0};
  std::vector<std::string> damages;
};

/// The parameters of a model by name and shape, and the names of its experts in the order of ExpertIndex.
[[nodiscard]] ModelIdentity identity_of(const MoeModel& model);
[[nodiscard]] std::vector<std::string> expert_names(const ExpertIndex& experts);

/// One rank's side of checkpoints: turns orders into slices of its tensors. Borrowed things outlive it; one thread uses
/// it.
class RankCheckpoint {
 public:
  struct Options {
    const CheckpointConfig& config;
    const MoeModel& model;
    const CheckpointInventory& inventory;
    Rank rank;
    Backend& backend;
    Environment& environment;
    SnapshotMemory& memory;
    std::vector<const SnapshotMemory*> reachable;  // host memories that count in a recovery
    Communicator& storage;                         // of all ranks, for checkpoints alone
    const Clock& clock;
    ParameterStore& store;
  };
  explicit RankCheckpoint(Options options);

  /// All ranks together, before anything else. Opens the folder; with `resume` restores what it and the host memories
  /// hold first (no value without).
  [[nodiscard]] Result<std::optional<RestoredRank>> open(bool resume);
  /// Starts the copy; with a blocking policy waits until it is durable.
  [[nodiscard]] Status begin(const SnapshotOrder& order);
  /// Before the parameters change: waits for the copy. Returns how long.
  [[nodiscard]] Result<Duration> finish() { return engine_->finish_snapshot(); }
  /// Waits until nothing is being copied or written any more.
  [[nodiscard]] Status drain();
  /// Snapshots that have come to their end since the last call.
  [[nodiscard]] std::vector<CheckpointOutcome> take_outcomes();
  /// This rank has failed: nobody is to wait for it.
  void abandon(const Error& reason) const { options_.storage.abort(reason); }

 private:
  struct Part {
    ElementRange elements;  // of the parameter
    Tensor data;
  };
  [[nodiscard]] Part part(Component component, const ParameterStore::Entry& entry) const;
  void renew_masters() const;
  [[nodiscard]] Result<RestoredRank> restore_state(History& history);
  [[nodiscard]] RestoredRank restored(const RestoreReport& report) const;
  [[nodiscard]] std::vector<RestoreTarget> targets() const;
  [[nodiscard]] SnapshotRequest request(const SnapshotOrder& order) const;
  [[nodiscard]] std::string unit_of(std::size_t parameter) const;

  Options options_;
  ModelIdentity identity_;
  std::vector<std::string> expert_names_;
  std::unique_ptr<CheckpointEngine> engine_;
};

}  // namespace moecast
