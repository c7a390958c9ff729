#include "tools/command.h"

#include <cstdio>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tools/output.h"

namespace moecast {

void CommandContext::print(std::string_view text) const {
  if (!json && !quiet) std::fwrite(text.data(), 1, text.size(), stdout);
}

Status CommandContext::check_output() const {
  const std::optional<std::string> path = arguments.text("output");
  return path ? check_output_file(*path, arguments.flag("force")) : Status();
}

Status CommandContext::print_json(const nlohmann::ordered_json& result) const {
  if (!json) return {};
  const std::string text = to_json_text(result);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

Status CommandContext::finish(const nlohmann::ordered_json& result) const {
  if (const std::optional<std::string> path = arguments.text("output")) {
    RETURN_IF_ERROR(write_file_atomically(*path, to_json_text(result)));
  }
  return print_json(result);
}

std::string to_json_text(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

OptionSpec output_folder_option(bool required) {
  return {.name = "output",
          .letter = 'o',
          .kind = ValueKind::Text,
          .value = "DIR",
          .help = "the folder for the results",
          .required = required};
}

OptionSpec set_option() {
  return {.name = "set",
          .kind = ValueKind::Setting,
          .value = "POINTER=VALUE",
          .help = "put a value into the file before it is read, by JSON pointer; may be given more than once"};
}

Result<JsonDocument> read_document(const std::string& path, const Arguments& arguments) {
  Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  for (const Setting& setting : arguments.settings()) RETURN_IF_ERROR(document->set(setting.pointer, setting.value));
  return document;
}

OptionSpec force_option() { return {.name = "force", .help = "replace what -o names if it exists"}; }

std::vector<OptionSpec> with_result_file(std::vector<OptionSpec> options) {
  options.push_back({.name = "output",
                     .letter = 'o',
                     .kind = ValueKind::Text,
                     .value = "FILE",
                     .help = "write the result as JSON to this file too"});
  options.push_back(force_option());
  return options;
}

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      doctor_command(), describe_command(),   train_command(),    calibrate_command(), simulate_command(),
      sweep_command(),  explain_command(),    validate_command(), compare_command(),   reproduce_command(),
      report_command(), checkpoint_command(), export_command(),   manual_command(),    completion_command(),
  };
  return table;
}

}  // namespace moecast
