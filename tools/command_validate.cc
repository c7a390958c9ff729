#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "models/timeline_json.h"
#include "sim/scenario.h"
#include "tools/command.h"
#include "tools/result_json.h"
#include "tools/revision.h"
#include "tools/run_result.h"
#include "tools/table.h"
#include "tools/table_validation.h"
#include "tools/validation.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Prediction {
  Timeline timeline;
  Workload workload;
};

Result<std::optional<HardwareProfile>> chosen_profile(const CommandContext& context) {
  const std::optional<std::string> name = context.arguments.text("profile");
  if (!name) return std::optional<HardwareProfile>();
  Result<HardwareProfile> profile = find_profile(*name, ".");
  if (!profile.ok()) return profile.error();
  return std::optional(std::move(profile).value());
}

/// A run, or a scenario that is simulated now.
Result<Prediction> load_prediction(const fs::path& path, const std::optional<HardwareProfile>& profile) {
  if (is_run(path)) {
    Result<RunResult> run = load_run(path);
    if (!run.ok()) return run.error();
    return Prediction{std::move(run->recorded.timeline), std::move(run->recorded.info.workload)};
  }
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  Result<Scenario> scenario = read_scenario(*document, profile);
  if (!scenario.ok()) return scenario.error();
  Result<Timeline> timeline = simulate(*scenario);
  if (!timeline.ok()) return timeline.error();
  return Prediction{std::move(timeline).value(), std::move(scenario->workload)};
}

Result<ValidatedPair> load_pair(const fs::path& measured_path, const fs::path& predicted_path,
                                const std::optional<HardwareProfile>& profile) {
  const Result<RunResult> measured = load_run(measured_path);
  if (!measured.ok()) return measured.error();
  const Result<Prediction> predicted = load_prediction(predicted_path, profile);
  if (!predicted.ok()) return predicted.error();
  if (const Status same = check_same_workload(measured->recorded.info.workload, predicted->workload); !same.ok()) {
    return Error{ErrorKind::BadInput, fmt::format("{}, {}", measured_path.string(), predicted_path.string()),
                 same.error().message};
  }
  return ValidatedPair{measured->name(), compare(measured->recorded.timeline, predicted->timeline)};
}

/// Measured and predicted in one cell.
std::string both(const std::string& measured, const std::string& predicted) {
  return fmt::format("{} / {}", measured, predicted);
}

std::string steps_table(const std::vector<ValidatedPair>& pairs, double tolerance, const Style& style) {
  Table table({{"variant"},
               {"measured", Align::Right},
               {"predicted", Align::Right},
               {"error", Align::Right},
               {"communication share", Align::Right},
               {"overlap", Align::Right},
               {"exposed", Align::Right}});
  for (const ValidatedPair& pair : pairs) {
    const Comparison& c = pair.comparison;
    const Tone tone = std::abs(c.step_time_error) <= tolerance ? Tone::Good : Tone::Bad;
    table.row({Cell(pair.name, Tone::Strong), pretty(c.measured.step_time), pretty(c.predicted.step_time),
               Cell(signed_percent(c.step_time_error), tone),
               both(percent(c.measured.communication_share), percent(c.predicted.communication_share)),
               both(percent(c.measured.overlap), percent(c.predicted.overlap)),
               both(pretty(c.measured.exposed), pretty(c.predicted.exposed))});
  }
  return table.text(style);
}

std::string operators_table(const ValidatedPair& pair, const Style& style) {
  Table table(
      {{"operator"}, {"phase"}, {"measured", Align::Right}, {"predicted", Align::Right}, {"error", Align::Right}});
  for (const OperatorComparison& each : pair.comparison.operators) {
    const bool known = each.measured.count() > 0;
    table.row({std::string(to_text(each.kind)), std::string(to_text(each.phase)), pretty(each.measured),
               pretty(each.predicted),
               known ? signed_percent(seconds(each.predicted) / seconds(each.measured) - 1) : "-"});
  }
  return table.text(style, "  ");
}

std::string order_text(const Verdict& verdict) {
  if (verdict.measured_order.size() < 2) return "";
  const std::size_t count = verdict.measured_order.size(), two_by_two = count * (count - 1) / 2;
  std::string text = fmt::format("Order, fast to slow: measured {}; predicted {}\n",
                                 fmt::join(verdict.measured_order, ", "), fmt::join(verdict.predicted_order, ", "));
  if (verdict.measured_order == verdict.predicted_order) {
    text = fmt::format("Order, fast to slow: {}\n", fmt::join(verdict.measured_order, ", "));
  }
  text += fmt::format("The measured steps tell {} of {} pairs apart (their middle halves do not overlap): ",
                      verdict.told_apart, two_by_two);
  if (verdict.order_right()) return text + "all predicted in the right order\n";
  return text + fmt::format("{} predicted in the wrong order\n", verdict.swapped.size());
}

Json validation_json(const std::vector<ValidatedPair>& pairs, const Verdict& verdict,
                     const std::vector<std::string>& paths) {
  Json list = Json::array();
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    Json entry = {{"name", pairs[i].name}, {"measured", paths[2 * i]}, {"predicted", paths[2 * i + 1]}};
    entry.update(Json{{"comparison", to_json(pairs[i].comparison)}});
    list.push_back(std::move(entry));
  }
  return {{"schema", "moecast.validate/1"},
          {"revision", revision()},
          {"pass", verdict.pass()},
          {"tolerance", verdict.tolerance},
          {"median_error", verdict.median_error},
          {"order_right", verdict.order_right()},
          {"told_apart", verdict.told_apart},
          {"measured_order", verdict.measured_order},
          {"predicted_order", verdict.predicted_order},
          {"pairs", list}};
}

/// Paths as validation.json has them: relative to its folder, so that the whole can move.
std::vector<std::string> stored_paths(const CommandContext& context) {
  const std::optional<std::string> output = context.arguments.text("output");
  std::vector<std::string> out;
  for (const std::string& path : context.arguments.positionals()) {
    out.push_back(output ? fs::proximate(path, fs::absolute(*output).parent_path()).generic_string() : path);
  }
  return out;
}

Status failure(const Verdict& verdict) {
  std::string message;
  if (verdict.median_error > verdict.tolerance) {
    message = fmt::format("the median error of the step time is {}, above the tolerance of {}",
                          percent(verdict.median_error), percent(verdict.tolerance));
  }
  if (!verdict.order_right()) {
    const auto& [faster, slower] = verdict.swapped.front();
    message += fmt::format("{}the predicted order is wrong: {} is faster than {}", message.empty() ? "" : "; ", faster,
                           slower);
  }
  return Error{ErrorKind::CheckFailed, "validate", message};
}

Status run(const CommandContext& context) {
  const std::vector<std::string>& paths = context.arguments.positionals();
  if (fs::path(paths.front()).extension() == ".csv") return validate_table(context);
  for (const char* option : {"device", "kernel"}) {
    if (context.arguments.text(option)) {
      return Error{ErrorKind::BadInput, fmt::format("--{}", option), "belongs to a table of measurements (.csv)"};
    }
  }
  if (paths.size() % 2 != 0) {
    return Error{ErrorKind::BadInput, "validate",
                 fmt::format("expected pairs MEASURED PREDICTED, found {} arguments", paths.size())};
  }
  RETURN_IF_ERROR(context.check_output());
  const Result<std::optional<HardwareProfile>> profile = chosen_profile(context);
  if (!profile.ok()) return profile.error();
  std::vector<ValidatedPair> pairs;
  for (std::size_t i = 0; i < paths.size(); i += 2) {
    Result<ValidatedPair> pair = load_pair(paths[i], paths[i + 1], *profile);
    if (!pair.ok()) return pair.error();
    pairs.push_back(std::move(pair).value());
  }
  const Verdict verdict = judge(pairs, *context.arguments.fraction("tolerance"));
  context.print(steps_table(pairs, verdict.tolerance, context.style));
  if (context.arguments.flag("operators")) {
    for (const ValidatedPair& pair : pairs) {
      context.print(
          fmt::format("\n{}\n{}", context.style.paint(pair.name, Tone::Strong), operators_table(pair, context.style)));
    }
  }
  context.print(fmt::format("\nMedian error of the step time: {} (tolerance {})\n{}", percent(verdict.median_error),
                            percent(verdict.tolerance), order_text(verdict)));
  RETURN_IF_ERROR(context.finish(validation_json(pairs, verdict, stored_paths(context))));
  return verdict.pass() ? Status() : failure(verdict);
}

}  // namespace

Command validate_command() {
  return {
      {.name = "validate",
       .summary = "lay measured runs beside predicted ones: time, communication, overlap, order",
       .details =
           "Exit code 1 if the median error of the step time is above the tolerance, or if two variants\n"
           "whose measured step times differ (their middle halves do not overlap) are predicted in the wrong\n"
           "order.\n"
           "A table (.csv) of measurements that others published is held against --profile instead: products,\n"
           "routed experts, collectives or iteration times, by their columns. Exit code 1 if the median error of\n"
           "the rows that fits keep apart (every second) is above the tolerance.",
       .positionals = {{.name = "MEASURED PREDICTED",
                        .help =
                            "pairs of result folders or timeline.json files; PREDICTED may be a scenario; or one table",
                        .at_least = 1,
                        .at_most = 2000}},
       .options = with_result_file({{.name = "tolerance",
                                     .kind = ValueKind::Fraction,
                                     .value = "FRACTION",
                                     .help = "allowed median error of the step time",
                                     .fallback = "10 %"},
                                    {.name = "operators", .help = "a table for each kind of operator too"},
                                    {.name = "profile",
                                     .kind = ValueKind::Text,
                                     .value = "PROFILE",
                                     .help = "hardware for scenarios, instead of their own; of a table"},
                                    {.name = "device",
                                     .kind = ValueKind::Text,
                                     .value = "NAME",
                                     .help = "of a table: the rows of this device alone"},
                                    {.name = "kernel",
                                     .kind = ValueKind::Text,
                                     .value = "NAME",
                                     .help = "of a table: the rows of this kernel alone"},
                                    {.name = "jobs",
                                     .letter = 'j',
                                     .kind = ValueKind::Integer,
                                     .value = "N",
                                     .help = "of a table: iterations simulated at a time",
                                     .fallback = "1",
                                     .low = 1,
                                     .high = 1024}}),
       .examples = {"moecast validate out/train/top2 out/simulate/top2",
                    "moecast validate gemm_h200_bf16.csv --profile h200_nvlink_8 --tolerance \"8 %\"",
                    "moecast validate out/train/top2 top2.json --profile out/profile.json --tolerance \"5 %\""}},
      run};
}

}  // namespace moecast
