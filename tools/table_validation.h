#pragma once

#include "tools/command.h"

namespace moecast {

/// `moecast validate TABLE.csv --profile PROFILE`: a profile against measurements that others published.
[[nodiscard]] Status validate_table(const CommandContext& context);

}  // namespace moecast
