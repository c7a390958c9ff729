#include "tools/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/table.h"

namespace moecast {
namespace {

std::string option_names(const OptionSpec& option) {
  std::string out = option.letter == 0 ? "    " : fmt::format("-{}, ", option.letter);
  out += "--" + option.name;
  if (!option.value.empty()) out += " " + option.value;
  return out;
}

std::string section(std::string_view title, const Table& table, const Style& style) {
  return fmt::format("\n{}\n{}", style.paint(title, Tone::Strong), table.text(style, "  "));
}

const Table::Column kName{"", Align::Left};
const Table::Column kText{"", Align::Left};

}  // namespace

std::string usage(const CommandSpec& spec) {
  std::string out = "moecast " + spec.name;
  for (const PositionalSpec& positional : spec.positionals) {
    const bool optional = positional.at_least == 0;
    const bool many = positional.at_most > positional.at_least && positional.at_most > 1;
    out += fmt::format(" {}{}{}{}", optional ? "[" : "", positional.name, many ? "..." : "", optional ? "]" : "");
  }
  return out + " [options]";
}

std::string option_help(const OptionSpec& option) {
  std::string out = option.help;
  if (option.kind == ValueKind::Choice) out += fmt::format(": {}", fmt::join(option.choices, ", "));
  if (option.kind == ValueKind::Integer) out += fmt::format(", {}..{}", option.low, option.high);
  if (!option.fallback.empty()) out += fmt::format(" [{}]", option.fallback);
  return out;
}

const std::vector<std::pair<std::string, std::string>>& exit_codes() {
  static const std::vector<std::pair<std::string, std::string>> codes = {
      {"0", "done"},
      {"1", "it ran, and the answer is no (validate, reproduce)"},
      {"2", "bad usage, bad input, or something that this computer lacks"},
      {"3", "the run failed"},
      {"130", "interrupted, after a clean stop"}};
  return codes;
}

CommandSpec with_common_options(const CommandSpec& spec) {
  CommandSpec out = spec;
  out.options.push_back({.name = "json", .help = "the result as JSON on stdout instead of a table"});
  out.options.push_back(
      {.name = "quiet", .letter = 'q', .help = "no table, no notes, no progress; errors still appear"});
  out.options.push_back({.name = "verbose", .letter = 'v', .help = "more notes on stderr"});
  out.options.push_back({.name = "color",
                         .kind = ValueKind::Choice,
                         .value = "WHEN",
                         .help = "colour on stdout (NO_COLOR is honoured)",
                         .fallback = "auto",
                         .choices = {"auto", "always", "never"}});
  out.options.push_back({.name = "help", .letter = 'h', .help = "this text"});
  return out;
}

std::string command_help(const CommandSpec& spec, const Style& style) {
  std::string out = fmt::format("{}\n\n{} {}\n", spec.summary, style.paint("Usage:", Tone::Strong), usage(spec));
  if (!spec.details.empty()) out += fmt::format("\n{}\n", spec.details);
  if (!spec.positionals.empty()) {
    Table table({kName, kText});
    for (const PositionalSpec& positional : spec.positionals) table.row({positional.name, positional.help});
    out += section("Arguments", table, style);
  }
  Table table({kName, kText});
  for (const OptionSpec& option : spec.options) table.row({option_names(option), option_help(option)});
  out += section("Options", table, style);
  if (!spec.examples.empty()) {
    out += fmt::format("\n{}\n", style.paint("Examples", Tone::Strong));
    for (const std::string& example : spec.examples) out += fmt::format("  {}\n", example);
  }
  return out;
}

std::string program_help(const std::vector<Command>& commands, const Style& style) {
  std::string out = fmt::format(
      "moecast: how long does a Mixture-of-Experts training step take, and how much of its communication is hidden?\n\n"
      "{} moecast COMMAND [arguments] [options]      moecast COMMAND --help explains one command\n",
      style.paint("Usage:", Tone::Strong));
  Table table({kName, kText});
  for (const Command& command : commands) table.row({command.spec.name, command.spec.summary});
  out += section("Commands", table, style);
  Table codes({kName, kText});
  for (const auto& [code, meaning] : exit_codes()) codes.row({code, meaning});
  return out + section("Exit codes", codes, style);
}

}  // namespace moecast
