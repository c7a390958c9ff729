#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_document.h"
#include "base/log.h"
#include "base/result.h"
#include "runtime/comm/launch.h"
#include "tools/options.h"
#include "tools/terminal.h"

namespace moecast {

/// What a command gets from the program.
struct CommandContext {
  const Arguments& arguments;
  Log& log;                       // stderr
  Style style;                    // of stdout
  bool json = false;              // --json
  bool quiet = false;             // --quiet
  bool show_progress = false;     // stderr is a terminal and not --quiet
  const std::atomic<bool>& stop;  // Ctrl-C
  Launch launch = {};             // which of several processes this is, if the command knows of them

  /// Text for people on stdout; nothing with --json or --quiet.
  void print(std::string_view text) const;
  /// The result as JSON on stdout, with --json only.
  [[nodiscard]] Status print_json(const nlohmann::ordered_json& result) const;
  /// For commands whose -o names a file: can it be written? Ask before the work begins.
  [[nodiscard]] Status check_output() const;
  /// print_json, and the result in the file that -o names.
  [[nodiscard]] Status finish(const nlohmann::ordered_json& result) const;
};

/// One subcommand: what the command line knows of it, and what it does. An Error of kind CheckFailed says that it ran
/// and the answer is no.
struct Command {
  CommandSpec spec;
  Status (*run)(const CommandContext& context) = nullptr;
};

/// All of them, in the order of the help.
[[nodiscard]] const std::vector<Command>& commands();

/// JSON text as it stands in files and on stdout: indented, bytes that are not UTF-8 replaced, a newline at the end.
[[nodiscard]] std::string to_json_text(const nlohmann::ordered_json& json);

/// The command's own options, then -o FILE (the result as JSON in a file too) and --force.
[[nodiscard]] std::vector<OptionSpec> with_result_file(std::vector<OptionSpec> options);
/// -o DIR: a result folder.
[[nodiscard]] OptionSpec output_folder_option(bool required);
/// --set: values of the document that the command reads.
[[nodiscard]] OptionSpec set_option();
/// The document in `path`, with what --set puts in.
[[nodiscard]] Result<JsonDocument> read_document(const std::string& path, const Arguments& arguments);
/// --force: what -o names may be replaced.
[[nodiscard]] OptionSpec force_option();

// One file each: command_<name>.cc.
[[nodiscard]] Command doctor_command();
[[nodiscard]] Command describe_command();
[[nodiscard]] Command train_command();
[[nodiscard]] Command calibrate_command();
[[nodiscard]] Command simulate_command();
[[nodiscard]] Command validate_command();
[[nodiscard]] Command compare_command();
[[nodiscard]] Command reproduce_command();
[[nodiscard]] Command report_command();
[[nodiscard]] Command checkpoint_command();

}  // namespace moecast
