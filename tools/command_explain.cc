#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/command.h"
#include "tools/sweep_explanation.h"

namespace moecast {
namespace {

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const std::string& folder = context.arguments.positionals().front();
  if (!is_sweep_result(folder)) {
    return Error{ErrorKind::BadInput, folder,
                 "expected the result folder of a finished sweep (sweep.json, results.jsonl), found none"};
  }
  const Result<SweepResult> result = load_sweep_result(folder);
  if (!result.ok()) return result.error();
  context.print(
      fmt::format("{}\n\n{}", context.style.paint(result->spec.name, Tone::Strong), to_text(explain(*result))));
  return context.finish(explanation_json(*result));
}

}  // namespace

Command explain_command() {
  return {
      {.name = "explain",
       .summary = "in words: why the best point of a sweep wins, and which constraint binds",
       .details = "What the second best loses and to what, what each constraint costs, and what each axis does around\n"
                  "the best point.",
       .positionals = {{.name = "RESULT", .help = "the folder that moecast sweep -o wrote"}},
       .options = with_result_file({}),
       .examples = {"moecast explain out/sweep"}},
      run};
}

}  // namespace moecast
