#include "runtime/checkpoint/engine.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "runtime/checkpoint/file_names.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/shard_set.h"

namespace moecast {

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

/// Length and checksum of a part in one number; parts stay below 2 GiB.
std::int64_t code_of(const PartReference& part) {
  ASSERT(part.size.count() < std::int64_t{1} << 31, "{} bytes", part.size.count());
  return part.size.count() << 32 | static_cast<std::int64_t>(part.checksum);
}
PartReference part_of(std::int64_t code) { return {Bytes(code >> 32), static_cast<std::uint32_t>(code & 0xFFFFFFFF)}; }

Snapshot snapshot_of(const SnapshotRequest& request, std::int64_t version, History history) {
  Snapshot snapshot;
  snapshot.version = version;
  snapshot.persist = request.persist;
  snapshot.state = request.state;
  snapshot.history = std::move(history);
  for (const SaveSlice& slice : request.slices) {
    if (slice.elements.count() == 0) continue;
    ASSERT(slice.source.element_count() == slice.elements.count(), "{}", slice.tensor);
    snapshot.slices.push_back(
        {{slice.tensor, slice.component, slice.source.dtype, slice.shape, slice.elements, slice.unit, 0, Bytes(0), 0},
         slice.level,
         0});
  }
  return snapshot;
}

}  // namespace

Result<std::unique_ptr<CheckpointEngine>> CheckpointEngine::make(Backend& backend, Environment& environment,
                                                                 SnapshotMemory& memory, Communicator* storage,
                                                                 const Clock& clock, EngineOptions options) {
  const RankAgreement agreement(storage);
  Result<std::int64_t> next = std::int64_t{0};
  if (agreement.rank() == 0) next = open_checkpoint_folder(environment, options.folder, options.model);
  const Result<std::int64_t> worst = agreement.smallest(next.ok() ? 0 : -1);
  if (!worst.ok()) return worst.error();
  if (worst.value() < 0) {
    if (!next.ok()) return next.error();
    return Error{ErrorKind::RunFailed, options.folder.string(), "rank 0 cannot use the checkpoint folder"};
  }
  const Result<std::int64_t> first = agreement.largest(std::max(next.value(), memory.newest_version() + 1));
  if (!first.ok()) return first.error();
  return std::unique_ptr<CheckpointEngine>(
      new CheckpointEngine(backend, environment, memory, agreement, clock, std::move(options), first.value()));
}

CheckpointEngine::CheckpointEngine(Backend& backend, Environment& environment, SnapshotMemory& memory,
                                   RankAgreement agreement, const Clock& clock, EngineOptions options,
                                   std::int64_t first_version)
    : backend_(backend),
      environment_(environment),
      memory_(memory),
      agreement_(agreement),
      clock_(clock),
      options_(std::move(options)),
      first_version_(first_version),
      next_version_(first_version),
      persist_from_(first_version),
      copier_([this] { copy_loop(); }),
      persister_([this] { persist_loop(); }) {}

CheckpointEngine::~CheckpointEngine() {
  bool busy = false;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    stop_writing_ = true;
    busy = persisting_;
  }
  changed_.notify_all();
  if (busy) agreement_.abort({ErrorKind::RunFailed, "checkpoint", "a rank gave its checkpoint up"});
  copier_.join();
  persister_.join();
}

// Snapshot ------------------------------------------------------------------------------------------------------------

Status CheckpointEngine::begin_snapshot(const SnapshotRequest& request) {
  const std::lock_guard lock(mutex_);
  ASSERT(!copying_, "the previous snapshot is not finished");
  const std::int64_t version = next_version_++;
  std::optional<std::int64_t> replaced;
  const Result<Snapshot*> snapshot = memory_.begin_snapshot(
      snapshot_of(request, version, extended(options_.history, first_version_, version - 1)), replaced);
  give_up(replaced);
  if (!snapshot.ok()) return snapshot.error();
  copies_.clear();
  copy_size_ = Bytes(0);
  std::size_t index = 0;
  for (const SaveSlice& slice : request.slices) {
    if (slice.elements.count() == 0) continue;
    copies_.push_back({slice.source, snapshot.value()->data(snapshot.value()->slices[index++])});
    copy_size_ += slice.source.bytes();
  }
  CheckpointOutcome outcome;
  outcome.version = version;
  outcome.step = request.state.step;
  outcome.copied = copy_size_;
  outcome.copy_begin = clock_.now();
  pending_.push_back(outcome);
  copying_ = unfinished_ = true;
  changed_.notify_all();
  return {};
}

Result<Duration> CheckpointEngine::finish_snapshot() {
  std::unique_lock lock(mutex_);
  Duration stall{};
  if (unfinished_) {
    const Instant begin = clock_.now();
    const bool waits = copying_;
    changed_.wait(lock, [this] { return !copying_; });
    if (waits) stall = clock_.now() - begin;
    for (std::vector<CheckpointOutcome>* list : {&pending_, &outcomes_}) {
      for (CheckpointOutcome& outcome : *list) {
        if (outcome.version != next_version_ - 1) continue;
        outcome.beside = begin - outcome.copy_begin;
        outcome.stall = stall;
      }
    }
    unfinished_ = false;
  }
  if (copy_error_) {
    const Error error = *copy_error_;
    copy_error_.reset();
    return error;
  }
  return stall;
}

bool CheckpointEngine::copying() const {
  const std::lock_guard lock(mutex_);
  return copying_;
}

void CheckpointEngine::copy_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return copying_ || ending_; });
    if (!copying_) return;
    const std::vector<Copy> copies = std::move(copies_);
    const Bytes size = copy_size_;
    lock.unlock();
    const Status status = copy_all(copies, size);
    lock.lock();
    end_copy(status);
    changed_.notify_all();
  }
}

Status CheckpointEngine::copy_all(const std::vector<Copy>& copies, Bytes size) {
  const Instant begin = clock_.now();
  for (const Copy& copy : copies) {
    if (stop_writing_) break;
    backend_.download(Lane::CopyOut, copy.destination, copy.source);
  }
  backend_.synchronize(Lane::CopyOut);
  if (options_.copy_rate) {
    std::unique_lock lock(mutex_);
    const Duration left = size / *options_.copy_rate - (clock_.now() - begin);
    changed_.wait_for(lock, left, [this] { return stop_writing_.load(); });
  }
  if (stop_writing_) return Error{ErrorKind::RunFailed, "checkpoint", "a snapshot was given up"};
  return backend_.check();
}

void CheckpointEngine::end_copy(const Status& status) {
  copying_ = false;
  CheckpointOutcome& outcome = pending_.back();
  outcome.copy_end = clock_.now();
  if (!status.ok()) {
    memory_.abort_snapshot();
    copy_error_ = status.error();
    end(outcome.version, CheckpointOutcome::Kind::Failed, status.error());
    return;
  }
  const std::int64_t version = outcome.version;
  std::optional<std::int64_t> replaced;
  const bool persist = memory_.complete_snapshot(replaced);
  give_up(replaced);
  if (!persist) end(version, CheckpointOutcome::Kind::Held);
  if (persist && broken_) end(version, CheckpointOutcome::Kind::Failed, broken_);
}

// Persist -------------------------------------------------------------------------------------------------------------

void CheckpointEngine::persist_loop() {
  while (Snapshot* snapshot = agree_on_snapshot()) persist(*snapshot);
}

Snapshot* CheckpointEngine::wait_for_snapshot(std::unique_lock<std::mutex>& lock, std::int64_t from) {
  changed_.wait(lock, [&] { return ending_ || memory_.can_begin_persist(from); });
  return ending_ ? nullptr : memory_.begin_persist(from);
}

/// Ranks whose waiting snapshot was replaced propose a newer one; the others follow when they have it. Every rank
/// begins every snapshot, so they meet.
Snapshot* CheckpointEngine::agree_on_snapshot() {
  std::unique_lock lock(mutex_);
  Snapshot* snapshot = wait_for_snapshot(lock, persist_from_);
  while (snapshot != nullptr) {
    persisting_ = true;
    lock.unlock();
    const Result<std::vector<std::int64_t>> proposals = agreement_.all(snapshot->version);
    lock.lock();
    if (!proposals.ok()) {
      memory_.fail_persist();
      end(snapshot->version, CheckpointOutcome::Kind::Failed, proposals.error());
      break_off(proposals.error());
      return nullptr;
    }
    const std::int64_t newest = std::ranges::max(proposals.value());
    if (std::ranges::min(proposals.value()) == newest) return snapshot;
    if (snapshot->version == newest) continue;
    memory_.fail_persist();
    give_up(snapshot->version);
    persist_from_ = newest;
    snapshot = wait_for_snapshot(lock, newest);
  }
  return nullptr;
}

void CheckpointEngine::break_off(const Error& error) {
  broken_ = error;
  persist_from_ = kNever;
  persisting_ = false;
  changed_.notify_all();
}

void CheckpointEngine::persist(Snapshot& snapshot) {
  Written written;
  written.begin = clock_.now();
  const CommitResult result = write_and_commit(snapshot, written);
  written.committed = clock_.now();
  std::optional<Error> error = result.error;
  const bool committed = result.outcome == CommitOutcome::Committed;
  if (committed) {
    keep_units(snapshot);
    if (const Status collected = collect(); !collected.ok()) error = collected.error();
  } else if (result.outcome == CommitOutcome::NotCommitted) {
    remove_files(snapshot.version);
  }
  const std::lock_guard lock(mutex_);
  if (committed) {
    memory_.complete_persist();
    last_committed_ = snapshot.version;
  } else {
    memory_.fail_persist();
  }
  persist_from_ = snapshot.version + 1;
  end_persist(snapshot.version, committed ? CheckpointOutcome::Kind::Committed : CheckpointOutcome::Kind::Failed,
              written, error);
}

void CheckpointEngine::keep_units(const Snapshot& persisting) {
  const Snapshot* leaving = nullptr;
  {
    const std::lock_guard lock(mutex_);
    leaving = memory_.superseded();
  }
  if (leaving != nullptr) memory_.keep_units(*leaving, persisting);
}

Status CheckpointEngine::collect() {
  if (agreement_.rank() != 0 || !options_.retention || stop_writing_) return {};
  const Result<Garbage> garbage = collect_garbage(environment_, options_.folder, *options_.retention, CollectOptions{});
  return garbage.ok() ? Status() : Status(garbage.error());
}

void CheckpointEngine::end_persist(std::int64_t version, CheckpointOutcome::Kind kind, const Written& written,
                                   std::optional<Error> error) {
  for (CheckpointOutcome& outcome : pending_) {
    if (outcome.version != version) continue;
    outcome.persist_begin = written.begin;
    outcome.durable = written.durable;
    outcome.written = written.size;
    outcome.committed = written.committed;
  }
  end(version, kind, std::move(error));
  persisting_ = false;
  changed_.notify_all();
}

CommitResult CheckpointEngine::write_and_commit(const Snapshot& snapshot, Written& written) {
  Result<PartReference> part = write_files(snapshot, written);
  written.durable = clock_.now();
  const Result<std::vector<std::int64_t>> codes = agreement_.all(part.ok() ? code_of(part.value()) : -1);
  if (!codes.ok()) return {CommitOutcome::Unknown, codes.error()};
  const auto failed = std::ranges::find(codes.value(), -1);
  if (failed != codes.value().end()) {
    if (!part.ok()) return {CommitOutcome::NotCommitted, part.error()};
    return {CommitOutcome::NotCommitted, Error{ErrorKind::RunFailed, options_.folder.string(),
                                               fmt::format("rank {} could not write its part of version {}",
                                                           failed - codes.value().begin(), snapshot.version)}};
  }
  CommitResult result;
  if (agreement_.rank() == 0) result = commit(snapshot, codes.value());
  const std::int64_t mine = static_cast<std::int64_t>(result.outcome);
  const Result<std::vector<std::int64_t>> verdicts = agreement_.all(mine);
  if (agreement_.rank() == 0) return result;
  if (!verdicts.ok()) return {CommitOutcome::Unknown, verdicts.error()};
  result.outcome = static_cast<CommitOutcome>(verdicts.value()[0]);
  if (result.outcome != CommitOutcome::Committed) {
    result.error = Error{ErrorKind::RunFailed, options_.folder.string(),
                         fmt::format("rank 0 could not commit version {}", snapshot.version)};
  }
  return result;
}

Result<PartReference> CheckpointEngine::write_files(const Snapshot& snapshot, Written& written) {
  ShardSetRequest request;
  request.edit = snapshot.version;
  request.rank = agreement_.rank();
  request.step = snapshot.state.step;
  for (const HeldSlice& held : snapshot.slices) {
    if (held.level != CheckpointLevel::Storage) continue;
    request.payloads.push_back(
        {held.slice, {snapshot.data(held), static_cast<std::size_t>(held.slice.bytes().count())}});
  }
  request.shard_size = options_.shard_size;
  request.writer_count = options_.writer_count;
  const Result<Part> part = write_shard_set(environment_, options_.folder, std::move(request), stop_writing_);
  if (!part.ok()) return part.error();
  for (const StoredFile& file : part->files) written.size += file.size;
  return write_part(environment_, options_.folder, part.value());
}

CommitResult CheckpointEngine::commit(const Snapshot& snapshot, const std::vector<std::int64_t>& codes) {
  Edit edit;
  edit.number = snapshot.version;
  edit.fingerprint = options_.model.fingerprint();
  edit.layout = options_.layout;
  edit.state = snapshot.state;
  edit.history = snapshot.history;
  for (const std::int64_t code : codes) edit.parts.push_back(part_of(code));
  return commit_edit(environment_, options_.folder, edit);
}

/// Best effort: garbage collection finds what stays.
void CheckpointEngine::remove_files(std::int64_t version) {
  const Result<std::optional<std::vector<std::string>>> names = environment_.list(options_.folder);
  if (!names.ok() || !names.value()) return;
  for (const std::string& name : *names.value()) {
    const std::optional<FileName> parsed = parse_file_name(name);
    if (!parsed || parsed->edit != version || parsed->rank != agreement_.rank()) continue;
    if (parsed->kind == FileKind::Edit) continue;
    if (!environment_.remove(options_.folder / name).ok()) return;
  }
}

// Outcomes ------------------------------------------------------------------------------------------------------------

void CheckpointEngine::end(std::int64_t version, CheckpointOutcome::Kind kind, std::optional<Error> error) {
  const auto found = std::ranges::find(pending_, version, &CheckpointOutcome::version);
  if (found == pending_.end()) return;
  found->kind = kind;
  found->error = std::move(error);
  outcomes_.push_back(std::move(*found));
  pending_.erase(found);
}

void CheckpointEngine::give_up(std::optional<std::int64_t> version) {
  if (version) end(*version, CheckpointOutcome::Kind::Replaced);
}

void CheckpointEngine::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !copying_ && !persisting_ && !memory_.can_begin_persist(persist_from_); });
}

std::vector<CheckpointOutcome> CheckpointEngine::take_outcomes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outcomes_, {});
}

std::int64_t CheckpointEngine::last_committed() const {
  const std::lock_guard lock(mutex_);
  return last_committed_;
}

void CheckpointEngine::lose_memory() {
  std::unique_lock lock(mutex_);
  stop_writing_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !copying_ && !persisting_; });
  memory_.lose();
  const Error lost = {ErrorKind::RunFailed, "checkpoint", "the host memory of this rank was lost"};
  while (!pending_.empty()) end(pending_.front().version, CheckpointOutcome::Kind::Failed, lost);
  stop_writing_ = false;
}

}  // namespace moecast
