#pragma once

#include <memory>

#include "runtime/comm/process_world.h"
#include "tools/command.h"

namespace moecast {

/// The other processes of a command that several run together; null if it runs alone.
[[nodiscard]] Result<std::unique_ptr<ProcessWorld>> meet_others(const CommandContext& context, Duration timeout);

}  // namespace moecast
