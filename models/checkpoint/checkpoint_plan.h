#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/checkpoint/checkpoint_inventory.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/selection.h"
#include "models/checkpoint/sharding.h"
#include "models/state_inventory.h"

namespace moecast {

/// Part of one tensor that one rank copies to host memory and, with level Storage, writes to storage from there.
struct TensorSlice {
  std::int32_t parameter = 0;  // index into CheckpointInventory::parameters
  Component component = Component::Weight;
  ElementRange elements = {};
  Bytes bytes{0};
  Rank rank;
  CheckpointLevel level = CheckpointLevel::Storage;  // the last one that it reaches

  friend bool operator==(const TensorSlice&, const TensorSlice&) = default;
};

/// Bytes of each rank, [world size]. Memory: copied from the device to host memory (all slices); storage: written.
struct RankBytes {
  std::vector<Bytes> memory;
  std::vector<Bytes> storage;

  [[nodiscard]] const std::vector<Bytes>& of(CheckpointLevel level) const {
    return level == CheckpointLevel::Memory ? memory : storage;
  }
  [[nodiscard]] Bytes total(CheckpointLevel level) const;
  [[nodiscard]] Bytes bottleneck(CheckpointLevel level) const;  // of the rank that has most

  friend bool operator==(const RankBytes&, const RankBytes&) = default;
};

/// Every slice of one checkpoint: ranks ascending; inside a rank parameters in inventory order, then components, each
/// element of a saved tensor exactly once over all ranks.
struct CheckpointPlan {
  std::vector<TensorSlice> slices;
  RankBytes bytes;
};

/// What is saved when `selection` is. Rank and level of every slice:
/// - ZeRO-sharded components: every owner writes its even share of each tensor;
/// - others of an expert: its replicas share the tensors (Sharding::expert);
/// - others of the non-expert part: by module (Sharding::non_expert); adaptive begins with the bytes that each rank
///   already copies for this checkpoint, and the same rank persists what it copied.
/// Experts that a rule saves without selection (ComponentRule::All) reach storage. No plan for CheckpointKind::None.
[[nodiscard]] CheckpointPlan build_checkpoint_plan(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                                   const Selection& selection);

/// The plan's slices of one rank, without listing the others'.
[[nodiscard]] std::vector<TensorSlice> rank_slices(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                                   const Selection& selection, Rank rank);

/// The plan's bytes alone, without slices: for thousands of ranks and experts. Equal to
/// build_checkpoint_plan(..).bytes.
[[nodiscard]] RankBytes checkpoint_bytes(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                         const Selection& selection);

}  // namespace moecast
