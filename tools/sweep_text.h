#pragma once

#include <string>

#include "tools/sweep_result.h"
#include "tools/terminal.h"

namespace moecast {

/// What `moecast sweep` prints: how many points, the best ones with a bar, each axis around the best one as a
/// sparkline, what binds.
[[nodiscard]] std::string sweep_table(const SweepResult& result, const Style& style);

}  // namespace moecast
