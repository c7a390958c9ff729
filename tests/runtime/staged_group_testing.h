#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/backend.h"
#include "runtime/communicator.h"

namespace moecast::testing {

/// One staged end for each backend, over a group of threads.
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_staged_group(
    std::span<const std::unique_ptr<Backend>> backends);

}  // namespace moecast::testing
