#pragma once

#include <memory>

#include "runtime/backend.h"
#include "runtime/comm/groups.h"
#include "runtime/communicator.h"

namespace moecast {

/// A group of host memory made to serve a backend with memory of its own: what leaves the device goes down to pinned
/// host memory, travels there, and what arrives goes up again. (The way that NCCL takes between GPUs without peer
/// access; with several ranks on one GPU it is real PCIe traffic.) Rows to oneself are copied on the device. Copies are
/// queued on Lane::Comm; a call keeps its thread until the peers' data are in host memory, not until they are on the
/// device. Both arguments are borrowed; RunFailed if there is no pinned memory.
[[nodiscard]] std::unique_ptr<Communicator> make_staged_communicator(Communicator& host, Backend& backend);

/// All groups of a rank.
[[nodiscard]] Groups stage(const Groups& host, Backend& backend);

}  // namespace moecast
