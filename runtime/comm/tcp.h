#pragma once

#include <memory>

#include "runtime/comm/process_world.h"

namespace moecast {

/// Meets the processes of a launch over TCP, without a launcher's help: rank 0 listens at the launch's port (at every
/// address of its machine, unless the launch's address is the loopback) and tells everybody where everybody is; then
/// every group has a connection of its own for each pair. Nothing is encrypted or authenticated, as in MPI and NCCL:
/// for networks whose machines trust each other. Errors as of meet_processes.
[[nodiscard]] Result<std::unique_ptr<ProcessWorld>> meet_over_tcp(const Launch& launch, Duration timeout);

}  // namespace moecast
