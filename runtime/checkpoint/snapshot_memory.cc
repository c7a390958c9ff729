#include "runtime/checkpoint/snapshot_memory.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace moecast {

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::int64_t kSmallBuffer = std::int64_t{1} << 16;

/// Lays the slices out one after another and returns the size of it all.
std::int64_t place(std::vector<HeldSlice>& slices) {
  std::size_t at = 0;
  for (HeldSlice& held : slices) {
    held.begin = at;
    at += (static_cast<std::size_t>(held.slice.bytes().count()) + kAlignment - 1) / kAlignment * kAlignment;
  }
  return static_cast<std::int64_t>(at);
}

/// Is this memory of a sensible size for `needed` bytes? A first, full checkpoint must not keep three full buffers.
bool fits(const std::unique_ptr<DeviceMemory>& memory, std::int64_t needed) {
  if (memory == nullptr) return false;
  const std::int64_t size = memory->size().count();
  return needed <= size && size <= std::max(2 * needed, kSmallBuffer);
}

}  // namespace

std::optional<std::size_t> SnapshotMemory::find(BufferState state) const {
  for (std::size_t i = 0; i < SnapshotBuffers::kCount; ++i) {
    if (buffers_.buffers()[i].state == state) return i;
  }
  return std::nullopt;
}

std::optional<std::int64_t> SnapshotMemory::waiting_to_be_written() const {
  const std::optional<std::size_t> waiting = find(BufferState::Waiting);
  if (!waiting || !snapshots_[*waiting].persist) return std::nullopt;
  return snapshots_[*waiting].version;
}

Result<Snapshot*> SnapshotMemory::begin_snapshot(Snapshot next, std::optional<std::int64_t>& replaced) {
  const std::optional<std::int64_t> waiting = waiting_to_be_written();
  const std::size_t index = buffers_.begin_snapshot(next.version);
  if (waiting && !waiting_to_be_written()) replaced = waiting;
  const std::int64_t size = place(next.slices);
  Snapshot& buffer = snapshots_[index];
  next.memory = std::move(buffer.memory);
  buffer = std::move(next);
  if (!fits(buffer.memory, size)) {
    buffer.memory.reset();  // first, so that old and new are never there together
    Result<std::unique_ptr<DeviceMemory>> memory = backend_->allocate_host(Bytes(size));
    if (!memory.ok()) {
      buffers_.abort_snapshot();
      return memory.error();
    }
    buffer.memory = std::move(memory).value();
  }
  return &buffer;
}

bool SnapshotMemory::complete_snapshot(std::optional<std::int64_t>& replaced) {
  replaced = waiting_to_be_written();
  buffers_.complete_snapshot();
  return waiting_to_be_written().has_value();
}

void SnapshotMemory::abort_snapshot() { buffers_.abort_snapshot(); }

bool SnapshotMemory::can_begin_persist(std::int64_t from) const {
  const std::optional<std::size_t> next = buffers_.next_persist();
  return next && snapshots_[*next].persist && snapshots_[*next].version >= from;
}

Snapshot* SnapshotMemory::begin_persist(std::int64_t from) {
  return can_begin_persist(from) ? &snapshots_[buffers_.begin_persist()] : nullptr;
}

const Snapshot* SnapshotMemory::superseded() const {
  const std::optional<std::size_t> recovery = buffers_.recovery();
  return recovery ? &snapshots_[*recovery] : nullptr;
}

void SnapshotMemory::keep_units(const Snapshot& leaving, const Snapshot& persisting) {
  std::set<std::string> newer;
  for (const HeldSlice& held : persisting.slices) newer.insert(held.slice.unit);
  std::map<std::string, std::vector<const HeldSlice*>> units;
  for (const HeldSlice& held : leaving.slices) {
    if (!held.slice.unit.empty() && !newer.contains(held.slice.unit)) units[held.slice.unit].push_back(&held);
  }
  for (const auto& [name, slices] : units) keep_unit(leaving, name, slices);
}

void SnapshotMemory::keep_unit(const Snapshot& from, const std::string& name,
                               const std::vector<const HeldSlice*>& slices) {
  Unit& unit = units_[name];
  unit.slices.clear();
  for (const HeldSlice* held : slices) unit.slices.push_back(*held);
  const std::int64_t size = place(unit.slices);
  if (!fits(unit.memory, size)) {
    unit.memory.reset();
    Result<std::unique_ptr<DeviceMemory>> memory = backend_->allocate_host(Bytes(size));
    if (!memory.ok()) {
      units_.erase(name);
      return;
    }
    unit.memory = std::move(memory).value();
  }
  unit.version = from.version;
  unit.about = {from.state.step, from.history};
  for (std::size_t i = 0; i < slices.size(); ++i) {
    std::memcpy(static_cast<std::byte*>(unit.memory->data()) + unit.slices[i].begin, from.data(*slices[i]),
                static_cast<std::size_t>(slices[i]->slice.bytes().count()));
  }
}

void SnapshotMemory::complete_persist() { buffers_.complete_persist(); }

void SnapshotMemory::fail_persist() { buffers_.fail_persist(); }

void SnapshotMemory::lose() {
  buffers_ = {};
  snapshots_ = {};
  units_.clear();
}

void SnapshotMemory::roll_back(std::int64_t version, const History& history) {
  if (find(BufferState::Persisting)) buffers_.fail_persist();
  buffers_.roll_back(version);
  std::erase_if(units_, [&](const auto& unit) {
    return unit.second.version != version && !contains(history, unit.second.version);
  });
}

std::vector<SnapshotMemory::Held> SnapshotMemory::held() const {
  std::vector<Held> out;
  const auto add = [&](std::int64_t version, const std::vector<HeldSlice>& slices, const DeviceMemory* memory) {
    for (const HeldSlice& held : slices) {
      const std::byte* data = static_cast<const std::byte*>(memory->data()) + held.begin;
      out.push_back({version, &held.slice, {data, static_cast<std::size_t>(held.slice.bytes().count())}});
    }
  };
  for (const Snapshot* snapshot : snapshots()) add(snapshot->version, snapshot->slices, snapshot->memory.get());
  for (const auto& [name, unit] : units_) add(unit.version, unit.slices, unit.memory.get());
  return out;
}

std::vector<const Snapshot*> SnapshotMemory::snapshots() const {
  std::vector<const Snapshot*> out;
  for (const std::size_t index : buffers_.complete()) out.push_back(&snapshots_[index]);
  return out;
}

std::map<std::int64_t, Version> SnapshotMemory::unit_versions() const {
  std::map<std::int64_t, Version> out;
  for (const auto& [name, unit] : units_) out[unit.version] = unit.about;
  return out;
}

std::int64_t SnapshotMemory::newest_version() const {
  std::int64_t newest = 0;
  for (const Snapshot* snapshot : snapshots()) newest = std::max(newest, snapshot->version);
  for (const auto& [name, unit] : units_) newest = std::max(newest, unit.version);
  return newest;
}

Bytes SnapshotMemory::size() const {
  Bytes size{0};
  for (const Snapshot& snapshot : snapshots_) {
    if (snapshot.memory) size += snapshot.memory->size();
  }
  for (const auto& [name, unit] : units_) size += unit.memory->size();
  return size;
}

}  // namespace moecast
