#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "models/parallel_layout.h"
#include "runtime/backend.h"
#include "runtime/checkpoint/collect.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/model_identity.h"
#include "runtime/checkpoint/rank_agreement.h"
#include "runtime/checkpoint/snapshot_memory.h"
#include "runtime/communicator.h"

namespace moecast {

/// Elements to save. Zero elements are left out. `level` Memory: kept in host memory, not written.
struct SaveSlice {
  std::string tensor;  // the parameter
  Component component = Component::Weight;
  std::vector<std::int64_t> shape;  // of the whole parameter
  ElementRange elements;
  std::string unit;  // "" for the non-expert part
  Tensor source;     // these elements, on the device
  CheckpointLevel level = CheckpointLevel::Storage;
};

struct SnapshotRequest {
  TrainingState state;
  std::vector<SaveSlice> slices;
  bool persist = true;  // the same on every rank
};

struct EngineOptions {
  std::filesystem::path folder;
  ModelIdentity model;
  ParallelLayout layout;
  History history;            // RestoreReport::history if training goes on from a checkpoint
  Bytes shard_size{1 << 30};  // files are cut at about this size
  /// Files that one rank writes at the same time. One writer already prepares a block while the last one is written;
  /// more pay where a single stream does not fill the storage and cores are free.
  int writer_count = 1;
  /// Rank 0 collects garbage after each commit.
  std::optional<Retention> retention = Retention{};
  /// Copies from the device take at least bytes / rate: a slow link on purpose, for tests and studies. A run that uses
  /// it says so.
  std::optional<BytesPerSecond> copy_rate = std::nullopt;
};

/// What became of a snapshot, with its times on the engine's clock.
struct CheckpointOutcome {
  enum class Kind {
    Held,       // memory only, as asked
    Committed,  // durable on all ranks
    Failed,     // not written; `error` says why; training may go on, the last committed version stays
    Replaced,   // given up for a newer one before it was written
  };
  Kind kind = Kind::Held;
  std::int64_t version = 0;
  std::int64_t step = 0;
  Bytes copied{0};  // device to host
  Bytes written{0};
  Instant copy_begin{}, copy_end{};
  Duration beside{};                                // from copy_begin to finish_snapshot: what hides the copy
  Duration stall{};                                 // training waited for the copy
  Instant persist_begin{}, durable{}, committed{};  // durable: this rank's files
  /// Why it failed; or, of a committed one, why garbage could not be collected.
  std::optional<Error> error = std::nullopt;
};

/// Saves one rank's state in the background (MoC-System, arXiv 2408.04307, section 5.1): snapshot to host memory beside
/// forward and backward, persist to storage beside training, commit when all ranks are durable. It knows no model: the
/// caller says which elements.
///
///   engine.begin_snapshot(request);        // after the update; the sources' last writes have finished
///   ... forward and backward ...
///   engine.finish_snapshot();              // before the next update; returns how long it had to wait (the stall)
///   ... the background writes, commits, and training goes on ...
///
/// Every rank begins the same snapshots in the same order. If persisting takes longer than the interval, a newer
/// snapshot replaces the one that waits, on all ranks alike. begin_snapshot, finish_snapshot and the other calls come
/// from one thread; copies run on Lane::CopyOut of the backend from a thread of the engine.
class CheckpointEngine {
 public:
  /// All ranks together. Rank 0 makes or checks the folder. `storage` is a communicator of all ranks for the engine
  /// alone (nullptr: one rank); its timeout must be longer than a persist takes. Everything passed in outlives the
  /// engine. Errors: those of open_checkpoint_folder, on every rank.
  [[nodiscard]] static Result<std::unique_ptr<CheckpointEngine>> make(Backend& backend, Environment& environment,
                                                                      SnapshotMemory& memory, Communicator* storage,
                                                                      const Clock& clock, EngineOptions options);
  /// Gives up what is not committed, and a copy that is not complete. Call drain() on all ranks first to have it all.
  ~CheckpointEngine();
  CheckpointEngine(const CheckpointEngine&) = delete;
  CheckpointEngine& operator=(const CheckpointEngine&) = delete;

  /// Starts copying and returns at once. RunFailed if there is no host memory. The previous snapshot is finished.
  [[nodiscard]] Status begin_snapshot(const SnapshotRequest& request);
  /// Waits until the copy is done: the sources may change. Returns how long that took; zero without a snapshot.
  [[nodiscard]] Result<Duration> finish_snapshot();
  [[nodiscard]] bool copying() const;

  /// Waits until nothing is being written and nothing waits to be.
  void drain();
  /// What has come to its end since the last call, oldest first. Ranks may learn of one commit at different moments:
  /// what they do about it together they must agree on.
  [[nodiscard]] std::vector<CheckpointOutcome> take_outcomes();
  [[nodiscard]] std::int64_t last_committed() const;  // version; 0 if none was by this engine

  /// Fault injection: this node's host memory is gone, and with it what was being copied or written. Waits for the
  /// ranks with which it is writing; if they are gone, abort the communicator first.
  void lose_memory();

 private:
  struct Copy {
    Tensor source;
    void* destination = nullptr;
  };
  struct Written {
    Bytes size{0};
    Instant begin{}, durable{}, committed{};
  };
  CheckpointEngine(Backend& backend, Environment& environment, SnapshotMemory& memory, RankAgreement agreement,
                   const Clock& clock, EngineOptions options, std::int64_t first_version);

  void copy_loop();
  [[nodiscard]] Status copy_all(const std::vector<Copy>& copies, Bytes size);
  void persist_loop();
  /// Until all ranks hold the same version; nullptr when the engine ends or the ranks have failed.
  [[nodiscard]] Snapshot* agree_on_snapshot();
  [[nodiscard]] Snapshot* wait_for_snapshot(std::unique_lock<std::mutex>& lock, std::int64_t from);
  void persist(Snapshot& snapshot);
  [[nodiscard]] CommitResult write_and_commit(const Snapshot& snapshot, Written& written);
  [[nodiscard]] Result<PartReference> write_files(const Snapshot& snapshot, Written& written);
  [[nodiscard]] CommitResult commit(const Snapshot& snapshot, const std::vector<std::int64_t>& codes);
  void remove_files(std::int64_t version);
  void keep_units(const Snapshot& persisting);
  [[nodiscard]] Status collect();

  // With the lock held:
  void end_copy(const Status& status);
  void break_off(const Error& error);
  void end(std::int64_t version, CheckpointOutcome::Kind kind, std::optional<Error> error = std::nullopt);
  void give_up(std::optional<std::int64_t> version);
  void end_persist(std::int64_t version, CheckpointOutcome::Kind kind, const Written& written,
                   std::optional<Error> error);

  Backend& backend_;
  Environment& environment_;
  SnapshotMemory& memory_;
  RankAgreement agreement_;
  const Clock& clock_;
  const EngineOptions options_;
  const std::int64_t first_version_;

  std::atomic<bool> stop_writing_ = false;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_, as is memory_:
  std::int64_t next_version_;
  std::vector<Copy> copies_;
  Bytes copy_size_{0};
  bool copying_ = false;
  bool unfinished_ = false;  // finish_snapshot is still to come
  std::optional<Error> copy_error_;
  bool persisting_ = false;
  bool ending_ = false;
  std::optional<Error> broken_;  // the ranks cannot talk any more: nothing is written from here on
  std::int64_t persist_from_;    // earlier versions are not written (again)
  std::int64_t last_committed_ = 0;
  std::vector<CheckpointOutcome> pending_;  // of snapshots that have no outcome yet
  std::vector<CheckpointOutcome> outcomes_;

  std::thread copier_;
  std::thread persister_;
};

}  // namespace moecast
