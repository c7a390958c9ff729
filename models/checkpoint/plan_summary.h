#pragma once

#include <cstdint>
#include <vector>

#include "models/checkpoint/checkpoint_plan.h"

namespace moecast {

/// What a policy's checkpoints amount to once all experts have been saved: over one period of the selection, with equal
/// loads. The first, full checkpoint of a run is not counted.
struct PlanSummary {
  std::int64_t checkpoint_count = 0;  // in the period
  Bytes full{0};                      // the whole state, each element once
  Bytes memory{0}, storage{0};        // of one checkpoint, all ranks: the mean
  RankBytes most;                     // of each rank: the most in any checkpoint
  bool balanced = true;               // can all ranks write equally many experts? (expert_part_balanced)

  [[nodiscard]] double share(CheckpointLevel level) const {
    return (level == CheckpointLevel::Memory ? memory : storage) / full;
  }
};
[[nodiscard]] PlanSummary summarise_plan(const CheckpointInventory& inventory, const CheckpointPolicy& policy);

}  // namespace moecast
