#pragma once

#include <string>
#include <vector>

#include "tools/command.h"

namespace moecast {

/// The manual page moecast(1), roff, and the completion for bash; both from the option tables.
[[nodiscard]] std::string manual_page(const std::vector<Command>& commands);
[[nodiscard]] std::string bash_completion(const std::vector<Command>& commands);

}  // namespace moecast
