#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "runtime/backend.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/model_identity.h"
#include "runtime/checkpoint/rank_agreement.h"
#include "runtime/checkpoint/snapshot_memory.h"
#include "runtime/checkpoint/source_catalog.h"

namespace moecast {

/// Elements that this rank wants, in its present layout, and the device memory that they go to.
struct RestoreTarget {
  std::string tensor;  // the parameter
  Component component = Component::Weight;
  ElementRange elements;
  std::string unit;    // "" for the non-expert part
  Tensor destination;  // these elements; its dtype is the one that was saved
};

struct RestoreOptions {
  std::filesystem::path folder;
  ModelIdentity model;
  /// Host memories that survived and that this process can reach: its own, those of other ranks of the process.
  std::vector<const SnapshotMemory*> memories;
  /// All ranks together (nullptr: one rank). They agree on one version, and on one version of each unit.
  Communicator* communicator = nullptr;
  /// Every unit of the model, in the same order on every rank; needed with a communicator.
  std::vector<std::string> units;
  /// version: the newest that may be taken. The rest of the bounds as in restore_plan.h.
  RestoreBounds bounds;
};

struct RestoredUnit {
  std::string unit;
  std::int64_t version = 0;  // 0: none was saved, it stays as it was initialised
  std::int64_t step = 0;
  std::int64_t age = 0;                              // steps by which it is older than the non-expert part
  CheckpointLevel level = CheckpointLevel::Storage;  // Memory if any of it came from there
};

struct RestoreReport {
  std::int64_t version = 0;
  TrainingState state;
  History history;                  // the past of what comes next: for EngineOptions
  std::vector<RestoredUnit> units;  // those of this rank
  /// Of the versions that units came from, where it is known (not of what host memory alone has).
  std::map<std::int64_t, TrainingState> unit_states;
  Bytes from_memory{0}, from_storage{0};
  std::vector<Damage> damages;  // found on the way; older copies were taken instead
  Duration duration{};
};

/// Puts this rank's state together: newest complete version of the non-expert part, of each unit the newest version of
/// its past, from host memory before storage, from files of any layout. Damaged payloads count as absent. Afterwards
/// call SnapshotMemory::roll_back(report.version, report.history) on the memories that go on being used.
///
/// BadInput: no such folder, another model, a newer format. RunFailed: nothing can be restored; the targets are then
/// undefined. All ranks fail together.
[[nodiscard]] Result<RestoreReport> restore(Backend& backend, Environment& environment, const Clock& clock,
                                            const std::vector<RestoreTarget>& targets, const RestoreOptions& options);

/// For `moecast checkpoint restore DIR`: puts the whole tensors of these components together on the host and writes
/// them into one new safetensors file, for other programs. The report's `duration` is zero.
[[nodiscard]] Result<RestoreReport> export_checkpoint(Environment& environment, const std::filesystem::path& folder,
                                                      const RestoreBounds& bounds,
                                                      const std::vector<Component>& components,
                                                      const std::filesystem::path& file);

}  // namespace moecast
