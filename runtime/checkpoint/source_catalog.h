#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/environment.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/restore_plan.h"
#include "runtime/checkpoint/snapshot_memory.h"

namespace moecast {

/// Everything that a state can be put together from: payloads in storage and slices in host memory.
class SourceCatalog {
 public:
  /// Both outlive the catalog. Payloads that are missing or have the wrong length are left out.
  SourceCatalog(const CheckpointFolder& folder, std::span<const SnapshotMemory* const> memories);

  [[nodiscard]] const Versions& versions() const { return versions_; }
  /// Without those that failed to load.
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
  /// The state that belongs to a version, from its edit or from memory.
  [[nodiscard]] const TrainingState& state(std::int64_t version) const { return *states_.at(version); }
  /// nullptr if it is not known.
  [[nodiscard]] const TrainingState* find_state(std::int64_t version) const {
    const auto found = states_.find(version);
    return found == states_.end() ? nullptr : found->second;
  }

  struct Loaded {
    Bytes memory{0}, storage{0};  // read
    std::vector<Damage> damages;  // payloads whose checksum was wrong; their pieces are no longer offered
  };
  /// Reads the plan's pieces, each once and whole, checks them, and hands over the wanted elements: `deliver(need,
  /// first element, bytes)`. With damages the state is incomplete: plan again.
  using Deliver = std::function<void(std::size_t need, std::int64_t element, std::span<const std::byte> data)>;
  [[nodiscard]] Loaded load(Environment& environment, const RestorePlan& plan, const Deliver& deliver);

 private:
  struct Source {
    const StoredFile* file = nullptr;  // storage
    const StoredSlice* slice = nullptr;
    std::span<const std::byte> memory;  // memory
  };
  void add_folder();
  void add_memory(const SnapshotMemory& memory);

  const CheckpointFolder& folder_;
  Versions versions_;
  std::map<std::int64_t, const TrainingState*> states_;
  std::vector<Source> sources_;
  std::vector<Piece> pieces_;
};

/// Reads a payload and compares its checksum. RunFailed if it is damaged.
[[nodiscard]] Status read_payload(Environment& environment, const std::filesystem::path& folder, const StoredFile& file,
                                  const StoredSlice& slice, std::vector<std::byte>& data);

}  // namespace moecast
