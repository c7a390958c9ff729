#include "sim/event_queue.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

EventHandle EventQueue::schedule(Instant time, EventPayload payload) {
  ASSERT(time >= now_, "event at {} ns scheduled at {} ns", time.time_since_epoch().count(),
         now_.time_since_epoch().count());
  ASSERT(sequence_ < std::uint64_t{1} << (64 - kSlotBits));
  const std::uint32_t slot = take_slot();
  slots_[slot].payload = payload;
  slots_[slot].live = true;
  ++live_;
  if (end_ / 4 >= lines_.size()) lines_.emplace_back();
  const std::size_t hole = end_++;
  sift_up(hole, Entry{time.time_since_epoch().count(), sequence_++ << kSlotBits | slot});
  return {slot, slots_[slot].generation};
}

bool EventQueue::cancel(EventHandle handle) {
  ASSERT(handle.slot < slots_.size(), "slot {} of {}", handle.slot, slots_.size());
  Slot& slot = slots_[handle.slot];
  if (!slot.live || slot.generation != handle.generation) return false;
  slot.live = false;
  --live_;
  const std::size_t dead = end_ - kRoot - live_;
  constexpr std::size_t kFewDead = 64;
  if (dead > kFewDead && dead > live_) {
    rebuild();
  } else {
    drop_dead_tops();
  }
  return true;
}

Event EventQueue::pop() {
  ASSERT(!empty());
  const Entry top = at(kRoot);
  Slot& slot = slots_[slot_of(top)];
  ASSERT(slot.live);
  slot.live = false;
  --live_;
  now_ = Instant(Duration(top.time));
  const Event event{now_, slot.payload};
  remove_top();
  drop_dead_tops();
  return event;
}

void EventQueue::clear() {
  for (std::size_t i = kRoot; i < end_; ++i) {
    slots_[slot_of(at(i))].live = false;
    ++slots_[slot_of(at(i))].generation;
    free_slots_.push_back(slot_of(at(i)));
  }
  end_ = kRoot;
  live_ = 0;
  sequence_ = 0;
  now_ = Instant{};
}

std::uint32_t EventQueue::take_slot() {
  if (free_slots_.empty()) {
    ASSERT(slots_.size() < std::size_t{1} << kSlotBits, "more than {} pending events", slots_.size());
    slots_.emplace_back();
    return static_cast<std::uint32_t>(slots_.size() - 1);
  }
  const std::uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void EventQueue::sift_up(std::size_t hole, Entry entry) {
  while (hole > kRoot && before(entry, at(parent(hole)))) {
    at(hole) = at(parent(hole));
    hole = parent(hole);
  }
  at(hole) = entry;
}

void EventQueue::sift_down(std::size_t hole, Entry entry) {
  for (;;) {
    const std::size_t first = first_child(hole);
    if (first >= end_) break;
    const std::size_t least = first + 4 <= end_ ? least_of_four(first) : least_in(first, end_);
    if (!before(at(least), entry)) break;
    at(hole) = at(least);
    hole = least;
  }
  at(hole) = entry;
}

/// Which of the siblings is least cannot be predicted, so the choice is made without branches.
std::size_t EventQueue::least_of_four(std::size_t first) const {
  const std::array<Entry, 4>& e = lines_[first / 4].entries;
  const std::size_t low = before(e[1], e[0]) ? 1 : 0;
  const std::size_t high = before(e[3], e[2]) ? 3 : 2;
  return first + (before(e[high], e[low]) ? high : low);
}

std::size_t EventQueue::least_in(std::size_t first, std::size_t last) const {
  std::size_t least = first;
  for (std::size_t child = first + 1; child < last; ++child) {
    if (before(at(child), at(least))) least = child;
  }
  return least;
}

/// Frees the top's slot, whose generation moves on, and closes the gap.
void EventQueue::remove_top() {
  const std::uint32_t slot = slot_of(at(kRoot));
  ++slots_[slot].generation;
  free_slots_.push_back(slot);
  --end_;
  if (end_ > kRoot) sift_down(kRoot, at(end_));
}

void EventQueue::drop_dead_tops() {
  while (end_ > kRoot && !slots_[slot_of(at(kRoot))].live) remove_top();
}

void EventQueue::rebuild() {
  std::size_t kept = kRoot;
  for (std::size_t i = kRoot; i < end_; ++i) {
    const Entry entry = at(i);
    if (slots_[slot_of(entry)].live) {
      at(kept++) = entry;
    } else {
      ++slots_[slot_of(entry)].generation;
      free_slots_.push_back(slot_of(entry));
    }
  }
  end_ = kept;
  if (end_ <= kRoot + 1) return;
  for (std::size_t i = parent(end_ - 1) + 1; i-- > kRoot;) sift_down(i, at(i));
}

}  // namespace moecast
