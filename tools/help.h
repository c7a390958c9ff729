#pragma once

#include <string>
#include <vector>

#include "tools/command.h"

namespace moecast {

/// The command's own options and those of every command: --json, --quiet, --verbose, --color, --help.
[[nodiscard]] CommandSpec with_common_options(const CommandSpec& spec);

/// "moecast simulate --help": usage, arguments, options with defaults and ranges, examples.
[[nodiscard]] std::string command_help(const CommandSpec& spec, const Style& style);
/// "moecast --help": all commands and the exit codes.
[[nodiscard]] std::string program_help(const std::vector<Command>& commands, const Style& style);

}  // namespace moecast
