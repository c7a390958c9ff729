#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace moecast {

/// What one of a node's three host buffers is doing (MoC-System, arXiv 2408.04307, section 5.1: snapshot, persist,
/// recovery; the first three are its snapshot role).
enum class BufferState {
  Free,
  Filling,     // a snapshot is being copied in
  Waiting,     // a complete snapshot; another buffer is persisting
  Persisting,  // being written to storage
  Recovery,    // the newest one that storage has, kept until the next is persisted
};

/// The agent of one node: which buffer a snapshot goes to, which is written, which is kept. Asking changes nothing;
/// doing what may not be done is our own bug.
///
///   Free, Waiting --begin_snapshot--> Filling --complete_snapshot--> Waiting --begin_persist--> Persisting
///   Persisting --complete_persist--> Recovery --(superseded)--> Free
///
/// At most one buffer is filling, one persisting, one waiting, one recovery. A newer snapshot replaces a waiting one.
class SnapshotBuffers {
 public:
  static constexpr std::size_t kCount = 3;
  struct Buffer {
    BufferState state = BufferState::Free;
    std::int64_t step = 0;  // version; meaningless while free

    friend bool operator==(const Buffer&, const Buffer&) = default;
  };

  [[nodiscard]] const std::array<Buffer, kCount>& buffers() const { return buffers_; }
  /// Where the next snapshot goes: a free buffer, else the waiting one (whose snapshot is then given up). None only
  /// while a snapshot is being filled.
  [[nodiscard]] std::optional<std::size_t> next_snapshot() const;
  /// The waiting buffer, if no other persists.
  [[nodiscard]] std::optional<std::size_t> next_persist() const;
  /// Buffers with a complete snapshot (waiting, persisting, recovery), newest version first: what a recovery may read.
  [[nodiscard]] std::vector<std::size_t> complete() const;
  [[nodiscard]] std::optional<std::size_t> recovery() const;

  /// Starts filling next_snapshot() and returns it. Versions ascend.
  std::size_t begin_snapshot(std::int64_t step);
  /// The filling buffer is complete; an older waiting one becomes free.
  void complete_snapshot();
  void abort_snapshot();
  /// Starts writing next_persist() and returns it.
  std::size_t begin_persist();
  void complete_persist();
  /// The write failed: the snapshot waits again for another try, unless a newer one waits. Storage still has the
  /// recovery buffer's version.
  void fail_persist();
  /// Rolled back to `step`: newer snapshots are of a past that did not happen.
  void roll_back(std::int64_t step);

  friend bool operator==(const SnapshotBuffers&, const SnapshotBuffers&) = default;

 private:
  [[nodiscard]] std::optional<std::size_t> find(BufferState state) const;

  std::array<Buffer, kCount> buffers_ = {};
};

[[nodiscard]] std::string_view to_text(BufferState state);

}  // namespace moecast
