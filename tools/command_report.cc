#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_document.h"
#include "hwprofiles/profile_json.h"
#include "tools/command.h"
#include "tools/report_data.h"

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

Status add_argument(ReportContent& content, const fs::path& path) {
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
  if (content.variants.empty()) {
    return Error{ErrorKind::BadInput, "report", "expected at least one run, found only a hardware profile"};
  }
  const std::string output = *context.arguments.text("output");
  const std::string page = report_page(report_data(content));
  RETURN_IF_ERROR(write_file_atomically(output, page));
  context.print(fmt::format("{} ({} variants, {})\n", output, content.variants.size(),
                            pretty(Bytes(static_cast<std::int64_t>(page.size())))));
  return context.print_json({{"schema", "moecast.report/1"},
                             {"report", output},
                             {"variant_count", content.variants.size()},
                             {"bytes", page.size()}});
}

}  // namespace

Command report_command() {
  return {
      {.name = "report",
       .summary = "one self-contained page: timelines, tables, losses, profile",
       .details = "Measured and predicted runs of the same name stand beside each other; a validation.json brings its\n"
                  "own pairs and its tolerance.",
       .positionals = {{.name = "RESULT",
                        .help = "result folders, timeline.json, validation.json, a hardware profile",
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
       .examples = {"moecast report out/validation.json out/profile.json -o out/report.html"}},
      run};
}

}  // namespace moecast
