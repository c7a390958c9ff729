#pragma once

#include <memory>
#include <vector>

#include "runtime/comm/transport.h"

namespace moecast::testing {

/// A network of threads: one end for each rank. Messages are copied when they are sent, or wait for their receiver if
/// `rendezvous` (as large ones do in real networks).
[[nodiscard]] std::vector<std::unique_ptr<Transport>> make_memory_network(int size, bool rendezvous = false);

}  // namespace moecast::testing
