#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_document.h"
#include "hwprofiles/profile_json.h"
#include "sim/scenario.h"
#include "tools/command.h"
#include "tools/report_data.h"
#include "tools/revision.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Puts a run into the variant of its name, or into a new one.
void add_run(ReportContent& content, RunResult run, const std::string& name) {
  auto found = std::find_if(content.variants.begin(), content.variants.end(),
                            [&](const ReportVariant& variant) { return variant.name == name; });
  if (found == content.variants.end()) {
    content.variants.push_back({name});
    found = std::prev(content.variants.end());
  }
  auto& place = run.measured() ? found->measured : found->predicted;
  place = std::move(run);
}

Status add_run_at(ReportContent& content, const fs::path& path, std::string name = "") {
  Result<RunResult> run = load_run(path);
  if (!run.ok()) return run.error();
  if (name.empty()) name = run->name();
  add_run(content, std::move(run).value(), name);
  return {};
}

/// What `moecast validate -o` wrote: its tolerance and its pairs, paths relative to the file.
Status add_validation(ReportContent& content, const JsonDocument& document, const fs::path& folder) {
  const Json& json = document.json();
  try {
    content.tolerance = json.at("tolerance").get<double>();
    for (const Json& pair : json.at("pairs")) {
      const std::string name = pair.at("name").get<std::string>();
      RETURN_IF_ERROR(add_run_at(content, folder / pair.at("measured").get<std::string>(), name));
      const fs::path predicted = folder / pair.at("predicted").get<std::string>();
      if (is_run(predicted)) RETURN_IF_ERROR(add_run_at(content, predicted, name));
    }
  } catch (const Json::exception&) {
    return Error{ErrorKind::BadInput, document.file(), "expected what moecast validate writes, found other content"};
  }
  return {};
}

Status add_profile(ReportContent& content, const JsonDocument& document) {
  JsonReader reader(document);
  HardwareProfile profile = read_profile(reader);
  RETURN_IF_ERROR(reader.finish());
  content.profile = std::move(profile);
  return {};
}

/// The sweep, and of a sweep of steps the best point's timeline.
Status add_sweep(ReportContent& content, const fs::path& folder) {
  if (content.sweep) return Error{ErrorKind::BadInput, folder.string(), "a report holds one sweep, found a second"};
  Result<SweepResult> sweep = load_sweep_result(folder);
  if (!sweep.ok()) return sweep.error();
  content.sweep = std::move(sweep).value();
  const fs::path best = folder / "scenario.json";
  if (content.sweep->spec.kind == SweepKind::Campaign || !fs::exists(best)) return {};
  const Result<JsonDocument> document = JsonDocument::read(best);
  if (!document.ok()) return document.error();
  const Result<Scenario> scenario = read_scenario(*document);
  if (!scenario.ok()) return scenario.error();
  Result<Timeline> timeline = simulate(*scenario);
  if (!timeline.ok()) return timeline.error();
  const RunInfo info{"simulate", scenario->name, scenario->workload,     scenario->seed,
                     revision(), false,          scenario->hardware.name};
  add_run(content, RunResult{best, {std::move(timeline).value(), info}}, scenario->name);
  return {};
}

Status add_argument(ReportContent& content, const fs::path& path) {
  if (is_sweep_result(path)) return add_sweep(content, path);
  if (is_run(path)) return add_run_at(content, path);
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  const Json& json = document->json();
  if (json.is_object() && json.contains("pairs")) return add_validation(content, *document, path.parent_path());
  if (json.is_object() && json.contains("device")) return add_profile(content, *document);
  return Error{ErrorKind::BadInput, path.string(),
               "expected a result folder, a timeline, a validation or a hardware profile, found none of these"};
}

Status run(const CommandContext& context) {
  RETURN_IF_ERROR(context.check_output());
  ReportContent content;
  content.title = context.arguments.text("title").value_or("");
  for (const std::string& path : context.arguments.positionals()) RETURN_IF_ERROR(add_argument(content, path));
  if (content.variants.empty() && !content.sweep) {
    return Error{ErrorKind::BadInput, "report", "expected at least one run or sweep, found only a hardware profile"};
  }
  if (content.title.empty() && content.sweep) content.title = content.sweep->spec.name;
  const std::string output = *context.arguments.text("output");
  const std::string page = report_page(report_data(content));
  RETURN_IF_ERROR(write_file_atomically(output, page));
  const std::string size = pretty(Bytes(static_cast<std::int64_t>(page.size())));
  const std::string what = content.sweep ? fmt::format("{} points", content.sweep->rows.newest().size())
                                         : fmt::format("{} variants", content.variants.size());
  context.print(fmt::format("{} ({}, {})\n", output, what, size));
  return context.print_json({{"schema", "moecast.report/1"},
                             {"report", output},
                             {"variant_count", content.variants.size()},
                             {"bytes", page.size()}});
}

}  // namespace

Command report_command() {
  return {
      {.name = "report",
       .summary = "one self-contained page: timelines, tables, losses, profile; or a sweep's maps and fronts",
       .details =
           "Measured and predicted runs of the same name stand beside each other; a validation.json brings its\n"
           "own pairs and its tolerance. A sweep's folder gives maps over its axes, Pareto fronts, time by cause\n"
           "and a table of all points; of steps also the best point's timeline, and those of other points that\n"
           "sweep --show and simulate have made.",
       .positionals = {{.name = "RESULT",
                        .help = "result folders (of a sweep too), timeline.json, validation.json, a hardware profile",
                        .at_least = 1,
                        .at_most = 1000}},
       .options = {{.name = "output",
                    .letter = 'o',
                    .kind = ValueKind::Text,
                    .value = "FILE",
                    .help = "the page",
                    .fallback = "report.html"},
                   force_option(),
                   {.name = "title", .kind = ValueKind::Text, .value = "TEXT", .help = "what stands above it"}},
       .examples = {"moecast report out/validation.json out/profile.json -o out/report.html",
                    "moecast report out/sweep -o out/sweep/report.html"}},
      run};
}

}  // namespace moecast
