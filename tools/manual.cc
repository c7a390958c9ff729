#include "tools/manual.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/help.h"
#include "tools/revision.h"

namespace moecast {
namespace {

/// Text that roff takes as it is: no escapes, no requests at the beginning of a line.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string option_entry(const OptionSpec& option) {
  std::string name = option.letter == 0 ? "" : fmt::format("\\-{}, ", option.letter);
  name += "\\-\\-" + roff(option.name);
  if (!option.value.empty()) name += fmt::format(" \\fI{}\\fR", roff(option.value));
  return fmt::format(".TP\n.B {}\n{}\n", name, roff(option_help(option)));
}

std::string command_section(const CommandSpec& spec) {
  std::string out = fmt::format(".SS {}\n{}.\n", roff(usage(spec)), roff(spec.summary));
  if (!spec.details.empty()) out += fmt::format(".PP\n{}\n", roff(spec.details));
  for (const PositionalSpec& positional : spec.positionals) {
    out += fmt::format(".TP\n.I {}\n{}\n", roff(positional.name), roff(positional.help));
  }
  for (const OptionSpec& option : spec.options) out += option_entry(option);
  for (const std::string& example : spec.examples) out += fmt::format(".PP\n.RS\n.nf\n{}\n.fi\n.RE\n", roff(example));
  return out;
}

}  // namespace

std::string manual_page(const std::vector<Command>& commands) {
  std::string out = fmt::format(
      ".TH MOECAST 1 \"\" \"moecast {}\" \"User Commands\"\n.SH NAME\nmoecast \\- predict training of "
      "Mixture\\-of\\-Experts models: steps, failures, checkpoints\n.SH SYNOPSIS\n.B moecast\n.I COMMAND\n[arguments] "
      "[options]\n.SH DESCRIPTION\nTrains a small model for real, measures the machine, and runs the same step plan in "
      "virtual "
      "time on hardware of\nany size; follows trainings of weeks through failures and checkpoints; sweeps over all of "
      "it.\n"
      ".SH COMMANDS\n",
      version());
  for (const Command& command : commands) out += command_section(command.spec);
  out += ".SH OPTIONS OF EVERY COMMAND\n";
  for (const OptionSpec& option : with_common_options({}).options) out += option_entry(option);
  out += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : exit_codes()) out += fmt::format(".TP\n.B {}\n{}\n", code, roff(meaning));
  out += ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nno colour on stdout\n";
  return out;
}

namespace {

std::string option_words(const CommandSpec& spec) {
  std::string out;
  for (const OptionSpec& option : with_common_options(spec).options) out += fmt::format("--{} ", option.name);
  out.pop_back();
  return out;
}

/// "previous word) values": what an option's value may be.
std::string value_cases(const CommandSpec& spec) {
  std::string out;
  for (const OptionSpec& option : with_common_options(spec).options) {
    if (option.kind != ValueKind::Choice) continue;
    out += fmt::format("        {}.--{}) words='{}' ;;\n", spec.name, option.name, fmt::join(option.choices, " "));
  }
  return out;
}

}  // namespace

std::string bash_completion(const std::vector<Command>& commands) {
  std::string names, options, values;
  for (const Command& command : commands) {
    names += command.spec.name + " ";
    options += fmt::format("        {}) words='{}' ;;\n", command.spec.name, option_words(command.spec));
    values += value_cases(command.spec);
  }
  return fmt::format(R"(# bash completion for moecast, made from its option tables
_moecast() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='{}help --help --version'
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    case "${{COMP_WORDS[1]}}.$previous" in
{}    esac
    if [ -z "$words" ] && [[ $current == -* ]]; then
        case "${{COMP_WORDS[1]}}" in
{}        esac
    fi
    # Anything else is a file, which -o default completes.
    [ -z "$words" ] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _moecast moecast
)",
                     names, values, options);
}

}  // namespace moecast
