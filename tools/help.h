#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/command.h"

namespace moecast {

/// The command's own options and those of every command: --json, --quiet, --verbose, --color, --help.
[[nodiscard]] CommandSpec with_common_options(const CommandSpec& spec);

/// "moecast simulate SCENARIO [options]".
[[nodiscard]] std::string usage(const CommandSpec& spec);
/// An option's help with what its values may be and its fallback.
[[nodiscard]] std::string option_help(const OptionSpec& option);
/// Every exit code with its meaning.
[[nodiscard]] const std::vector<std::pair<std::string, std::string>>& exit_codes();

/// "moecast simulate --help": usage, arguments, options with defaults and ranges, examples.
[[nodiscard]] std::string command_help(const CommandSpec& spec, const Style& style);
/// "moecast --help": all commands and the exit codes.
[[nodiscard]] std::string program_help(const std::vector<Command>& commands, const Style& style);

}  // namespace moecast
