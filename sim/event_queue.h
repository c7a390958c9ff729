#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/units.h"

namespace moecast {

/// What an event means: the queue hands it back and never looks inside.
struct EventPayload {
  std::uint32_t kind = 0;
  std::uint32_t subject = 0;

  friend bool operator==(EventPayload, EventPayload) = default;
};

struct Event {
  Instant time{};
  EventPayload payload;
};

/// Names one scheduled event, also after it is gone: its slot's generation has moved on by then.
struct EventHandle {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};

/// Events in the order of (time, order of scheduling). In steady state nothing is allocated: the storage grows to the
/// largest number of pending events and stays. At most 2^24 pending events and 2^40 in a lifetime.
class EventQueue {
 public:
  EventQueue() { clear(); }

  /// Schedules an event not earlier than now().
  EventHandle schedule(Instant time, EventPayload payload);
  /// False if the event was popped or cancelled before.
  bool cancel(EventHandle handle);

  [[nodiscard]] bool empty() const { return live_ == 0; }
  [[nodiscard]] std::size_t size() const { return live_; }
  /// The time of the next event; none if empty.
  [[nodiscard]] std::optional<Instant> next_time() const {  // inline: asked at every event
    return empty() ? std::nullopt : std::optional(Instant(Duration(at(kRoot).time)));
  }
  /// The time of the last event popped; nothing may be scheduled before it.
  [[nodiscard]] Instant now() const { return now_; }

  /// Removes the next event; the queue is not empty.
  Event pop();

  /// Forgets all events and starts again at time 0. Storage and generations stay, so old handles name nothing.
  void clear();

 private:
  // Method: an implicit 4-ary heap (LaMarca and Ladner, "The influence of caches on the performance of heaps", ACM J.
  // Exp. Algorithmics 1, 1996). The root stands at index 3, the children of i at 4 (i - 2) ... + 3: four siblings share
  // one aligned cache line. A cancelled event stays in the heap as a dead entry until it reaches the top, or until dead
  // entries outnumber the live ones and the heap is rebuilt; the top is always live.
  struct Entry {
    std::int64_t time;
    std::uint64_t order;  // sequence number << kSlotBits | slot
  };
  struct alignas(64) Line {
    std::array<Entry, 4> entries;
  };
  struct Slot {
    EventPayload payload;
    std::uint32_t generation = 0;
    bool live = false;
  };

  static constexpr unsigned kSlotBits = 24;
  static constexpr std::size_t kRoot = 3;

  // Compared as one 128-bit number: the compiler then needs no branch (times are not negative).
  __extension__ using Key = unsigned __int128;
  static Key key(const Entry& entry) { return Key{static_cast<std::uint64_t>(entry.time)} << 64 | entry.order; }
  static bool before(const Entry& a, const Entry& b) { return key(a) < key(b); }
  static std::size_t parent(std::size_t i) { return i / 4 + 2; }
  static std::size_t first_child(std::size_t i) { return 4 * (i - 2); }
  static std::uint32_t slot_of(const Entry& entry) {
    return static_cast<std::uint32_t>(entry.order & ((std::uint64_t{1} << kSlotBits) - 1));
  }

  [[nodiscard]] Entry& at(std::size_t i) { return lines_[i / 4].entries[i % 4]; }
  [[nodiscard]] const Entry& at(std::size_t i) const { return lines_[i / 4].entries[i % 4]; }
  [[nodiscard]] std::uint32_t take_slot();
  void sift_up(std::size_t hole, Entry entry);
  void sift_down(std::size_t hole, Entry entry);
  [[nodiscard]] std::size_t least_of_four(std::size_t first) const;
  [[nodiscard]] std::size_t least_in(std::size_t first, std::size_t last) const;
  void remove_top();
  void drop_dead_tops();
  void rebuild();

  std::vector<Line> lines_;
  std::size_t end_ = kRoot;  // one past the last entry
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::size_t live_ = 0;
  std::uint64_t sequence_ = 0;
  Instant now_{};
};

}  // namespace moecast
