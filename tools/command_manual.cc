#include <cstdio>

#include "tools/command.h"
#include "tools/manual.h"

namespace moecast {
namespace {

Status print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

Command manual_command() {
  return {{.name = "manual", .summary = "print the manual page (roff)", .examples = {"moecast manual | man -l -"}},
          [](const CommandContext&) { return print(manual_page(commands())); }};
}

Command completion_command() {
  return {
      {.name = "completion", .summary = "print the completion for bash", .examples = {"source <(moecast completion)"}},
      [](const CommandContext&) { return print(bash_completion(commands())); }};
}

}  // namespace moecast
