#include <filesystem>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "sim/reproduce.h"
#include "tools/command.h"
#include "tools/revision.h"
#include "tools/shared_data.h"

namespace moecast {
namespace {

/// "31 values pass, 2 deviate as their files say, 1 fails"
std::string summary(const Reproduction& reproduction) {
  std::string text =
      fmt::format("{} of {} values pass", reproduction.count(Judgement::Pass), reproduction.values.size());
  if (const std::size_t known = reproduction.count(Judgement::Known); known > 0) {
    text += fmt::format(", {} miss by what is known and said", known);
  }
  if (const std::size_t failed = reproduction.count(Judgement::Fail); failed > 0) {
    text += fmt::format(", {} fail", failed);
  }
  return text;
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const auto& positionals = context.arguments.positionals();
  const std::filesystem::path folder =
      positionals.empty() ? shared_folder("experiments") : std::filesystem::path(positionals.front());
  const Result<Reproduction> reproduction = reproduce(folder, *context.arguments.integer("jobs"));
  if (!reproduction.ok()) return reproduction.error();
  const bool good = reproduction->count(Judgement::Fail) == 0;
  context.print(to_table(*reproduction));
  if (context.arguments.flag("operators")) context.print(fmt::format("\n{}", operators_table(*reproduction)));
  context.print(fmt::format("\n{}\n", context.style.paint(summary(*reproduction), good ? Tone::Good : Tone::Bad)));
  nlohmann::ordered_json result = {{"schema", "moecast.reproduce/1"}, {"revision", revision()}};
  result.update(to_json(*reproduction));
  RETURN_IF_ERROR(context.finish(result));
  return good ? Status() : Error{ErrorKind::CheckFailed, "reproduce", summary(*reproduction)};
}

}  // namespace

Command reproduce_command() {
  return {
      {.name = "reproduce",
       .summary = "run the experiments that have published results: published value, ours, deviation, verdict",
       .details = "Runs every scenario with an \"expect\" block. Exit code 1 if a value is outside its tolerance and\n"
                  "its file does not know of that deviation.",
       .positionals = {{.name = "DIR",
                        .help = "a folder of scenarios, or one file; without it, those that come with moecast",
                        .at_least = 0,
                        .at_most = 1}},
       .options = with_result_file({{.name = "operators", .help = "what each kind of operator took, too"},
                                    {.name = "jobs",
                                     .letter = 'j',
                                     .kind = ValueKind::Integer,
                                     .value = "N",
                                     .help = "scenarios at a time; the result does not depend on it",
                                     .fallback = "1",
                                     .low = 1,
                                     .high = 1024}}),
       .examples = {"moecast reproduce", "moecast reproduce experiments/scmoe --operators"}},
      run};
}

}  // namespace moecast
