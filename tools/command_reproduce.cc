#include <filesystem>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "sim/reproduce.h"
#include "tools/command.h"
#include "tools/revision.h"
#include "tools/shared_data.h"

namespace moecast {
namespace {

std::int64_t failed_count(const Reproduction& reproduction) {
  std::int64_t count = 0;
  for (const ReproducedValue& value : reproduction.values) count += value.pass ? 0 : 1;
  return count;
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  const auto& positionals = context.arguments.positionals();
  const std::filesystem::path folder =
      positionals.empty() ? shared_folder("experiments") : std::filesystem::path(positionals.front());
  const Result<Reproduction> reproduction = reproduce(folder, *context.arguments.integer("jobs"));
  if (!reproduction.ok()) return reproduction.error();
  const std::int64_t failed = failed_count(*reproduction);
  const std::size_t count = reproduction->values.size();
  context.print(to_table(*reproduction));
  context.print(fmt::format(
      "\n{}\n", failed == 0 ? context.style.paint(fmt::format("all {} values pass", count), Tone::Good)
                            : context.style.paint(fmt::format("{} of {} values fail", failed, count), Tone::Bad)));
  nlohmann::ordered_json result = {{"schema", "moecast.reproduce/1"}, {"revision", revision()}};
  result.update(to_json(*reproduction));
  RETURN_IF_ERROR(context.finish(result));
  if (failed == 0) return {};
  return Error{ErrorKind::CheckFailed, "reproduce",
               fmt::format("{} of {} values are outside their tolerance", failed, count)};
}

}  // namespace

Command reproduce_command() {
  return {{.name = "reproduce",
           .summary = "run the experiments that have published results: published value, ours, deviation, verdict",
           .details = "Runs every scenario with an \"expect\" block. Exit code 1 if a value is outside its tolerance.",
           .positionals = {{.name = "DIR",
                            .help = "a folder of scenarios, or one file; without it, those that come with moecast",
                            .at_least = 0,
                            .at_most = 1}},
           .options = with_result_file({{.name = "jobs",
                                         .letter = 'j',
                                         .kind = ValueKind::Integer,
                                         .value = "N",
                                         .help = "scenarios at a time; the result does not depend on it",
                                         .fallback = "1",
                                         .low = 1,
                                         .high = 1024}}),
           .examples = {"moecast reproduce", "moecast reproduce experiments/scmoe --json"}},
          run};
}

}  // namespace moecast
