#include "tools/program.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "runtime/comm/mpi.h"
#include "tools/command.h"
#include "tools/help.h"
#include "tools/interrupt.h"
#include "tools/revision.h"

namespace moecast {
namespace {

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : commands()) names.push_back(command.spec.name);
  return names;
}

const Command* find_command(const std::string& name) {
  const auto found = std::find_if(commands().begin(), commands().end(),
                                  [&](const Command& command) { return command.spec.name == name; });
  return found == commands().end() ? nullptr : &*found;
}

nlohmann::ordered_json error_json(const Error& error) {
  nlohmann::ordered_json problems = nlohmann::ordered_json::array();
  for (const Problem& problem : error.problems) {
    problems.push_back({{"file", problem.file},
                        {"line", problem.line},
                        {"column", problem.column},
                        {"pointer", problem.pointer},
                        {"code", problem.code},
                        {"expected", problem.expected},
                        {"found", problem.found},
                        {"suggestion", problem.suggestion}});
  }
  return {{"schema", "moecast.error/1"},
          {"exit_code", exit_code(error.kind)},
          {"place", error.place},
          {"message", error.message},
          {"problems", problems}};
}

int fail(const Error& error, bool json) {
  const std::string text = json ? to_json_text(error_json(error)) : fmt::format("moecast: {}\n", error.text());
  std::fwrite(text.data(), 1, text.size(), stderr);
  return exit_code(error.kind);
}

Error unknown_command(const std::string& word) {
  if (!word.empty() && word.front() == '-') {
    return Error{ErrorKind::BadInput, "", fmt::format("expected a command before {} (moecast --help)", word)};
  }
  const std::string near = nearest_name(word, command_names());
  const std::string hint = near.empty() ? std::string() : fmt::format("; did you mean {}?", near);
  return Error{ErrorKind::BadInput, "", fmt::format("unknown command \"{}\"{} (moecast --help lists all)", word, hint)};
}

LogLevel level_of(const Arguments& arguments) {
  if (arguments.flag("quiet")) return LogLevel::Error;
  return arguments.flag("verbose") ? LogLevel::Debug : LogLevel::Info;
}

int run_command(const Command& command, const std::vector<std::string>& words) {
  const CommandSpec spec = with_common_options(command.spec);
  const Result<Arguments> parsed = parse_arguments(spec, words);
  if (!parsed.ok()) return fail(parsed.error(), std::find(words.begin(), words.end(), "--json") != words.end());
  const Arguments& arguments = *parsed;
  const Style style(wants_colour(*arguments.text("color"), environment_of_process, is_terminal(stdout)));
  if (arguments.flag("help")) {
    fmt::print("{}", command_help(spec, style));
    return 0;
  }
  const Result<Launch> launch = read_launch(environment_of_process, is_mpi_built());
  if (!spec.several_processes && launch.ok() && launch->by == Launch::By::Mpi) {
    return fail({ErrorKind::BadInput, spec.name, "is one process: start it without mpirun"}, false);
  }
  if (spec.several_processes && !launch.ok()) return fail(launch.error(), arguments.flag("json"));
  const Launch own = spec.several_processes ? *launch : Launch{};
  const bool follows = own.rank > 0;
  const bool quiet = arguments.flag("quiet") || follows;
  Log log(follows ? LogLevel::Error : level_of(arguments));
  const CommandContext context{
      arguments,           log, style, arguments.flag("json") && !follows, quiet, !quiet && is_terminal(stderr),
      stop_on_interrupt(), own};
  const Status status = command.run(context);
  if (!status.ok()) {
    std::fflush(stdout);
    // Of several processes the first speaks for all: they fail together.
    return follows ? exit_code(status.error().kind) : fail(status.error(), context.json);
  }
  if (std::fflush(stdout) != 0) return fail(Error{ErrorKind::RunFailed, "standard output", "cannot be written"}, false);
  return 0;
}

}  // namespace

int run_program(const std::vector<std::string>& words) {
  const Style style(wants_colour("auto", environment_of_process, is_terminal(stdout)));
  if (words.empty()) {
    fmt::print(stderr, "{}", program_help(commands(), Style(false)));
    return 2;
  }
  const std::string& first = words.front();
  if (first == "--help" || first == "-h" || (first == "help" && words.size() == 1)) {
    fmt::print("{}", program_help(commands(), style));
    return 0;
  }
  if (first == "--version") {
    fmt::print("moecast {} ({})\n", version(), revision());
    return 0;
  }
  if (first == "help") {
    const Command* command = find_command(words[1]);
    return command == nullptr ? fail(unknown_command(words[1]), false) : run_command(*command, {"--help"});
  }
  const Command* command = find_command(first);
  if (command == nullptr) return fail(unknown_command(first), false);
  return run_command(*command, {words.begin() + 1, words.end()});
}

}  // namespace moecast
