#pragma once

#include <memory>
#include <utility>

#include "runtime/backend.h"
#include "runtime/checkpoint/faulty_environment.h"
#include "runtime/checkpoint/posix_environment.h"
#include "runtime/checkpoint/snapshot_memory.h"

namespace moecast {

/// What stays on a node while training processes of a rank come and go: the device, the host memory of its checkpoints
/// (an agent's, in a real cluster), and its way to the storage.
struct RankSeat {
  explicit RankSeat(std::unique_ptr<Backend> device) : backend(std::move(device)), memory(*backend) {}

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Environment> storage = make_posix_environment();
  FaultyEnvironment environment{*storage, {}};
  SnapshotMemory memory;
};

}  // namespace moecast
