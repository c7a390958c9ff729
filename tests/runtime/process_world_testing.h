#pragma once

#include "runtime/comm/process_world.h"

namespace moecast::testing {

/// The processes of a test program that mpirun or tests/start_ranks.sh has started, from its start to its end.
[[nodiscard]] ProcessWorld& process_world();

}  // namespace moecast::testing
