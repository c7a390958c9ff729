#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/checkpoint/buffers.h"
#include "models/checkpoint/policy.h"
#include "runtime/backend.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/restore_plan.h"

namespace moecast {

/// A slice in host memory; `file`, `offset` and `checksum` of the slice mean nothing here.
struct HeldSlice {
  StoredSlice slice;
  CheckpointLevel level = CheckpointLevel::Storage;
  std::size_t begin = 0;  // in the memory that holds it
};

/// A state as of one version, or what was selected of it.
struct Snapshot {
  std::int64_t version = 0;  // the number that its edit has or would have
  bool persist = true;       // is it to be written at all?
  TrainingState state;
  History history;
  std::vector<HeldSlice> slices;
  std::unique_ptr<DeviceMemory> memory;  // nullptr if nothing was ever held

  [[nodiscard]] std::byte* data(const HeldSlice& held) const {
    return static_cast<std::byte*>(memory->data()) + held.begin;
  }
};

/// The host memory of one rank's checkpoints: three buffers that rotate (models/checkpoint/buffers.h), and the last
/// snapshot of every unit that is in no buffer any more: when a recovery buffer is superseded, its units move here. So
/// memory is at most three snapshots plus one copy of the units. It outlives the engine, as a node's agent outlives a
/// training process that fails.
///
/// Not locked: the engine that uses it does that; others read it only while that engine is idle or gone.
class SnapshotMemory {
 public:
  explicit SnapshotMemory(Backend& backend) : backend_(&backend) {}  // the backend outlives this

  /// The buffer for a new snapshot, with memory for its slices (64-byte aligned; their `begin` is set here). The
  /// version that it replaced, if one was waiting to be written, goes to `replaced`.
  [[nodiscard]] Result<Snapshot*> begin_snapshot(Snapshot next, std::optional<std::int64_t>& replaced);
  /// Returns whether it is to be written.
  [[nodiscard]] bool complete_snapshot(std::optional<std::int64_t>& replaced);
  void abort_snapshot();

  /// The waiting snapshot, now being persisted, if it is to be written, is of version `from` or later, and no other
  /// buffer persists.
  [[nodiscard]] Snapshot* begin_persist(std::int64_t from);
  [[nodiscard]] bool can_begin_persist(std::int64_t from) const;
  /// The snapshot that complete_persist will supersede; nullptr if there is none.
  [[nodiscard]] const Snapshot* superseded() const;
  /// Copies the units of `leaving`, as superseded() said, that the one being persisted does not have. Reads these two
  /// and what is held of units, which nothing else touches meanwhile: needs no lock. A unit for which there is no
  /// memory left is not held.
  void keep_units(const Snapshot& leaving, const Snapshot& persisting);
  void complete_persist();
  /// It waits as a snapshot in memory; its number is used up, so it is not written again.
  void fail_persist();

  /// The node failed: everything is gone.
  void lose();
  /// Training goes on from `version` with this past: everything else is of a past that did not happen. A snapshot that
  /// was being filled or written when its engine went away is settled.
  void roll_back(std::int64_t version, const History& history);

  /// Everything that can be read, newest buffers first. `Piece::source` is the index into the result of `held()`.
  struct Held {
    std::int64_t version = 0;
    const StoredSlice* slice = nullptr;
    std::span<const std::byte> data;
  };
  [[nodiscard]] std::vector<Held> held() const;
  /// Versions whose base may be here: with their state for going on.
  [[nodiscard]] std::vector<const Snapshot*> snapshots() const;
  /// Versions of units that no buffer holds any more: step only.
  [[nodiscard]] std::map<std::int64_t, Version> unit_versions() const;
  [[nodiscard]] std::int64_t newest_version() const;  // 0 if nothing is held
  [[nodiscard]] Bytes size() const;                   // host memory in use, unused buffers included
  [[nodiscard]] const SnapshotBuffers& buffers() const { return buffers_; }

 private:
  struct Unit {
    std::int64_t version = 0;
    Version about;
    std::vector<HeldSlice> slices;
    std::unique_ptr<DeviceMemory> memory;
  };
  void keep_unit(const Snapshot& from, const std::string& name, const std::vector<const HeldSlice*>& slices);
  [[nodiscard]] std::optional<std::size_t> find(BufferState state) const;
  [[nodiscard]] std::optional<std::int64_t> waiting_to_be_written() const;

  Backend* backend_;
  SnapshotBuffers buffers_;
  std::array<Snapshot, SnapshotBuffers::kCount> snapshots_;
  std::map<std::string, Unit> units_;
};

}  // namespace moecast
