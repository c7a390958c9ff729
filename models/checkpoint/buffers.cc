#include "models/checkpoint/buffers.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

std::optional<std::size_t> SnapshotBuffers::find(BufferState state) const {
  for (std::size_t i = 0; i < kCount; ++i) {
    if (buffers_[i].state == state) return i;
  }
  return std::nullopt;
}

std::optional<std::size_t> SnapshotBuffers::next_snapshot() const {
  if (find(BufferState::Filling)) return std::nullopt;
  const std::optional<std::size_t> free = find(BufferState::Free);
  return free ? free : find(BufferState::Waiting);
}

std::optional<std::size_t> SnapshotBuffers::next_persist() const {
  if (find(BufferState::Persisting)) return std::nullopt;
  return find(BufferState::Waiting);
}

std::optional<std::size_t> SnapshotBuffers::recovery() const { return find(BufferState::Recovery); }

std::vector<std::size_t> SnapshotBuffers::complete() const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < kCount; ++i) {
    const BufferState state = buffers_[i].state;
    if (state != BufferState::Free && state != BufferState::Filling) found.push_back(i);
  }
  std::sort(found.begin(), found.end(),
            [this](std::size_t a, std::size_t b) { return buffers_[a].step > buffers_[b].step; });
  return found;
}

std::size_t SnapshotBuffers::begin_snapshot(std::int64_t step) {
  const std::optional<std::size_t> next = next_snapshot();
  ASSERT(next.has_value(), "step {}: another snapshot is being filled", step);
  for (const Buffer& buffer : buffers_) {
    ASSERT(buffer.state == BufferState::Free || buffer.step < step, "step {} after step {}", step, buffer.step);
  }
  buffers_[*next] = {BufferState::Filling, step};
  return *next;
}

void SnapshotBuffers::complete_snapshot() {
  const std::optional<std::size_t> filling = find(BufferState::Filling);
  ASSERT(filling.has_value(), "no snapshot is being filled");
  if (const auto older = find(BufferState::Waiting)) buffers_[*older].state = BufferState::Free;
  buffers_[*filling].state = BufferState::Waiting;
}

void SnapshotBuffers::abort_snapshot() {
  const std::optional<std::size_t> filling = find(BufferState::Filling);
  ASSERT(filling.has_value(), "no snapshot is being filled");
  buffers_[*filling].state = BufferState::Free;
}

std::size_t SnapshotBuffers::begin_persist() {
  const std::optional<std::size_t> next = next_persist();
  ASSERT(next.has_value(), "nothing waits, or another buffer persists");
  buffers_[*next].state = BufferState::Persisting;
  return *next;
}

void SnapshotBuffers::complete_persist() {
  const std::optional<std::size_t> persisting = find(BufferState::Persisting);
  ASSERT(persisting.has_value(), "no buffer persists");
  if (const auto superseded = recovery()) buffers_[*superseded].state = BufferState::Free;
  buffers_[*persisting].state = BufferState::Recovery;
}

void SnapshotBuffers::fail_persist() {
  const std::optional<std::size_t> persisting = find(BufferState::Persisting);
  ASSERT(persisting.has_value(), "no buffer persists");
  buffers_[*persisting].state = find(BufferState::Waiting) ? BufferState::Free : BufferState::Waiting;
}

void SnapshotBuffers::roll_back(std::int64_t step) {
  for (Buffer& buffer : buffers_) {
    if (buffer.state == BufferState::Filling || buffer.step > step) buffer.state = BufferState::Free;
  }
}

std::string_view to_text(BufferState state) {
  switch (state) {
    case BufferState::Free:
      return "free";
    case BufferState::Filling:
      return "filling";
    case BufferState::Waiting:
      return "waiting";
    case BufferState::Persisting:
      return "persisting";
    case BufferState::Recovery:
      return "recovery";
  }
  ASSERT(false, "no such state: {}", static_cast<int>(state));
}

}  // namespace moecast
