#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "models/attribution.h"
#include "models/metrics.h"
#include "models/state_inventory.h"
#include "models/timeline_json.h"
#include "sim/scenario.h"
#include "tools/campaign_run.h"
#include "tools/command.h"
#include "tools/memory_report.h"
#include "tools/output.h"
#include "tools/result_json.h"
#include "tools/revision.h"
#include "tools/step_explanation.h"
#include "tools/step_summary.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

Result<Scenario> load_scenario(const CommandContext& context, const JsonDocument& document) {
  RETURN_IF_ERROR(refuse_campaign_options(context.arguments));
  std::optional<HardwareProfile> profile;
  if (const std::optional<std::string> name = context.arguments.text("profile")) {
    Result<HardwareProfile> found = find_profile(*name, ".");
    if (!found.ok()) return found.error();
    profile = std::move(found).value();
  }
  return read_scenario(document, std::move(profile));
}

/// Largest first, what there is of them: "compute 71 %, all-to-all 20 %, ...".
std::string attribution_text(const StepAttribution& attribution) {
  auto all = parts(attribution);
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [name, time] : all) {
    const double share = seconds(attribution.step) > 0 ? seconds(time) / seconds(attribution.step) : 0;
    if (share < 0.005) continue;
    text += fmt::format("{}{} {:.0f} %", text.empty() ? "" : ", ", name, 100 * share);
  }
  return text;
}

Json attribution_json(const StepAttribution& attribution) {
  Json json = {{"step_ns", attribution.step.count()}};
  for (const auto& [name, time] : parts(attribution)) json[std::string(name)] = time.count();
  return json;
}

Json summary_json(const Scenario& scenario, const Timeline& timeline) {
  return {{"schema", "moecast.simulate/1"},
          {"name", scenario.name},
          {"revision", revision()},
          {"seed", scenario.seed},
          {"hardware", scenario.hardware.name},
          {"ranks", timeline.rank_count},
          {"step_metrics", to_json(step_metrics(timeline))},
          {"bound_metrics", to_json(bound_metrics(timeline))},
          {"attribution", attribution_json(attribute(timeline))},
          {"memory", to_json(report_memory(scenario.workload, scenario.hardware.device.memory))},
          {"operators", to_json(operator_metrics(timeline))}};
}

std::string summary(const Scenario& scenario, const Timeline& timeline, const Style& style) {
  const StepMetrics metrics = step_metrics(timeline);
  Table table({{""}, {""}});
  table.row({"hardware", fmt::format("{}, {} ranks", scenario.hardware.name, timeline.rank_count)});
  table.row({"step", pretty(metrics.step_time)});
  if (scenario.routing) {
    table.row(
        {"routing", describe(*scenario.routing, draw_loads(*scenario.routing, scenario.workload, scenario.seed))});
  }
  add_communication_rows(timeline, table);
  table.row({"time", attribution_text(attribute(timeline))});
  if (const Bytes device = scenario.hardware.device.memory; device.count() > 0) {
    table.row({"memory", to_text(report_memory(scenario.workload, device))});
  }
  return fmt::format("{}\n{}", style.paint(scenario.name, Tone::Strong), table.text(style, "  "));
}

Status write_results(const CommandContext& context, const Scenario& scenario, const Timeline& timeline,
                     const Json& summary) {
  const std::optional<std::string> path = context.arguments.text("output");
  if (!path) return {};
  Result<OutputFolder> output = OutputFolder::create(*path, context.arguments.flag("force"));
  if (!output.ok()) return output.error();
  const RunInfo info{"simulate", scenario.name, scenario.workload,     scenario.seed,
                     revision(), false,         scenario.hardware.name};
  RETURN_IF_ERROR(output->write("timeline.json", to_chrome_trace(timeline, info)));
  RETURN_IF_ERROR(output->write("summary.json", to_json_text(summary)));
  RETURN_IF_ERROR(output->write("scenario.json", to_json_text(to_json(scenario))));
  return output->commit();
}

std::string timing_line(const Timeline& timeline, double simulating, double summing) {
  const std::size_t simulated =
      timeline.stands_for.empty() ? static_cast<std::size_t>(timeline.rank_count) : timeline.stands_for.size();
  return fmt::format("  simulated in {:.3g} ms ({} of {} ranks, {} spans), summed up in {:.3g} ms\n", 1e3 * simulating,
                     simulated, timeline.rank_count, timeline.spans.size(), 1e3 * summing);
}

Status simulate_step(const CommandContext& context, const JsonDocument& document) {
  Result<Scenario> scenario = load_scenario(context, document);
  if (!scenario.ok()) return scenario.error();
  scenario->fold = !context.arguments.flag("no-fold");
  const auto begin = std::chrono::steady_clock::now();
  StepExplanation explanation;
  const bool explains = context.arguments.flag("explain");
  const Result<Timeline> timeline = simulate(*scenario, explains ? &explanation.path : nullptr);
  const auto end = std::chrono::steady_clock::now();
  if (!timeline.ok()) return timeline.error();
  Json result = summary_json(*scenario, *timeline);
  const auto summed = std::chrono::steady_clock::now();
  if (explains) {
    Result<std::vector<WhatIf>> helps = what_helps(*scenario);
    RETURN_IF_ERROR(helps);
    explanation.helps = std::move(helps).value();
    result["explanation"] = to_json(explanation, *timeline);
  }
  RETURN_IF_ERROR(write_results(context, *scenario, *timeline, result));
  context.print(summary(*scenario, *timeline, context.style));
  if (explains) context.print(to_text(explanation, *timeline, context.style));
  if (context.arguments.flag("timing")) {
    const auto elapsed = [](auto from, auto to) { return std::chrono::duration<double>(to - from).count(); };
    context.print(timing_line(*timeline, elapsed(begin, end), elapsed(end, summed)));
  }
  return context.print_json(result);
}

Status run(const CommandContext& context) {
  Result<JsonDocument> document = read_document(context.arguments.positionals().front(), context.arguments);
  if (!document.ok()) return document.error();
  if (is_campaign(*document)) return simulate_campaign(context, std::move(document).value());
  return simulate_step(context, *document);
}

std::vector<OptionSpec> options() {
  std::vector<OptionSpec> all = {
      output_folder_option(false),
      force_option(),
      set_option(),
      {.name = "profile",
       .kind = ValueKind::Text,
       .value = "PROFILE",
       .help = "a built-in hardware profile or a file, instead of the scenario's"},
      {.name = "no-fold", .help = "simulate every rank, also those that are alike"},
      {.name = "explain", .help = "print what each operator of the critical path waited for, and what would help"},
      {.name = "timing", .help = "print how long the simulation took"}};
  for (OptionSpec& each : campaign_options()) all.push_back(std::move(each));
  return all;
}

}  // namespace

Command simulate_command() {
  return {
      {.name = "simulate",
       .summary = "predict a training step of a scenario, or weeks of training with failures",
       .details = "A scenario of a step: writes summary.json, timeline.json (opens in Perfetto) and scenario.json\n"
                  "(resolved) into DIR. A campaign: summary.json, replicas.csv and scenario.json. The same file gives\n"
                  "the same bytes on every machine.",
       .positionals = {{.name = "SCENARIO", .help = "a scenario or a campaign (JSON)"}},
       .options = options(),
       .examples = {"moecast simulate experiments/quickstart/simulate/top2.json -o out/simulate/top2",
                    "moecast simulate top2.json --profile out/profile.json -o out/simulate/top2",
                    "moecast simulate experiments/campaign/llama3_54_days.json --replicas 100",
                    "moecast simulate experiments/campaign/policies_16384/async_full.json --best-interval"}},
      run};
}

}  // namespace moecast
