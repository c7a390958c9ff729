#pragma once

#include <string>
#include <vector>

#include "models/memory.h"
#include "models/workload.h"

namespace moecast {

/// A change of a workload that keeps its ranks, its tokens a step and its model.
struct MemoryOption {
  std::string change;  // "recomputation full", "tensor 4, data 8"
  StageMemory memory;  // of the stage that needs most
};

/// What would bring the largest stage under `available`: one change each (recomputation, a higher ZeRO stage, smaller
/// micro-batches, larger tensor, pipeline or expert degrees), or where no single one is enough, pairs and threes of
/// them. At most `count`, those that change least first; empty if nothing tried fits. The workload can be planned.
[[nodiscard]] std::vector<MemoryOption> fitting_changes(const Workload& workload, Bytes available, std::size_t count);

}  // namespace moecast
