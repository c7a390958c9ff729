#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/comm/process_world.h"

namespace moecast::testing {

/// A port at which nobody listens.
[[nodiscard]] int free_port();

/// Rank `rank` of `size` that meet at this machine's loopback.
[[nodiscard]] Launch launch_at(int port, int rank, int size);

using World = Result<std::unique_ptr<ProcessWorld>>;

/// What a process would be: each rank on a thread of its own meets the others over TCP, then calls `body`.
void on_tcp_ranks(int size, const std::function<void(ProcessWorld& world)>& body);

}  // namespace moecast::testing
