#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "models/attribution.h"
#include "models/metrics.h"
#include "models/overlap.h"
#include "models/state_inventory.h"
#include "models/timeline_json.h"
#include "sim/chunk_search.h"
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

Json to_json(const OverlapWindow& window) {
  return {{"blocks", window.block_count},
          {"window_ns", window.window.count()},
          {"experts_ns", window.experts.count()},
          {"exchanges_ns", window.exchanges.count()}};
}

/// Slots resolved.
Json schedule_json(const Schedule& schedule) {
  const auto slot = [](const std::optional<std::int64_t>& number) { return number ? Json(*number) : Json(); };
  return {{"chunks", schedule.chunk_count},
          {"forward_slot", slot(schedule.forward_slot)},
          {"backward_slot", slot(schedule.backward_slot)}};
}

/// "shortcut, experts in slot 2 forward and 3 backward, 4 chunks".
std::string to_text(const Schedule& schedule) {
  std::string text(schedule.kind == ScheduleKind::Shortcut    ? "shortcut"
                   : schedule.kind == ScheduleKind::Pipelined ? "pipelined"
                                                              : "sequential");
  if (schedule.kind == ScheduleKind::Shortcut && schedule.forward_slot && schedule.backward_slot) {
    text +=
        fmt::format(", experts in slot {} forward and {} backward", *schedule.forward_slot, *schedule.backward_slot);
  }
  if (schedule.chunk_count > 1) text += fmt::format(", {} chunks", schedule.chunk_count);
  return text;
}

/// Of a block: "forward 5.1 ms of compute for 4.2 ms of exchanges, backward ...".
std::string to_text(const OverlapWindows& windows) {
  const auto one = [](std::string_view pass, const OverlapWindow& window) {
    return fmt::format("{} {} of compute for {} of exchanges", pass, pretty(window.window), pretty(window.exchanges));
  };
  return one("forward", windows.forward) + ", " + one("backward", windows.backward);
}

/// What is printed and written of a timeline.
struct Sums {
  explicit Sums(const Timeline& timeline)
      : metrics(step_metrics(timeline)),
        bound(bound_metrics(timeline)),
        attribution(attribute(timeline)),
        windows(overlap_windows(timeline)) {}
  StepMetrics metrics, bound;
  StepAttribution attribution;
  OverlapWindows windows;
};

Json summary_json(const Scenario& scenario, const Timeline& timeline, const Sums& sums, const MemoryReport& memory) {
  return {{"schema", "moecast.simulate/1"},
          {"name", scenario.name},
          {"revision", revision()},
          {"seed", scenario.seed},
          {"hardware", scenario.hardware.name},
          {"ranks", timeline.rank_count},
          {"step_metrics", to_json(sums.metrics)},
          {"bound_metrics", to_json(sums.bound)},
          {"attribution", attribution_json(sums.attribution)},
          {"schedule", schedule_json(timeline.plan.schedule)},
          {"windows", {{"forward", to_json(sums.windows.forward)}, {"backward", to_json(sums.windows.backward)}}},
          {"memory", to_json(memory)},
          {"operators", to_json(operator_metrics(timeline))}};
}

std::string summary(const Scenario& scenario, const Timeline& timeline, const Sums& sums, const MemoryReport& memory,
                    const Style& style) {
  Table table({{""}, {""}});
  table.row({"hardware", fmt::format("{}, {} ranks", scenario.hardware.name, timeline.rank_count)});
  table.row({"step", pretty(sums.metrics.step_time)});
  if (scenario.routing) {
    table.row(
        {"routing", describe(*scenario.routing, draw_loads(*scenario.routing, scenario.workload, scenario.seed))});
  }
  add_communication_rows(sums.metrics, sums.bound, table);
  if (sums.metrics.all_to_all.count() > 0) table.row({"schedule", to_text(timeline.plan.schedule)});
  if (sums.windows.forward.window.count() > 0) table.row({"window", to_text(sums.windows)});
  table.row({"time", attribution_text(sums.attribution)});
  if (scenario.hardware.device.memory.count() > 0) table.row({"memory", to_text(memory)});
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

/// Of this process; the clock on the wall also counts what others do.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::string timing_line(const Timeline& timeline, double simulating, double summing) {
  const std::size_t simulated =
      timeline.stands_for.empty() ? static_cast<std::size_t>(timeline.rank_count) : timeline.stands_for.size();
  return fmt::format("  simulated in {:.3g} ms of CPU time ({} of {} ranks, {} spans), summed up in {:.3g} ms\n",
                     1e3 * simulating, simulated, timeline.rank_count, timeline.spans.size(), 1e3 * summing);
}

std::string to_text(const std::vector<ChunkTrial>& trials, const Style& style) {
  Table table({{"chunks", Align::Right}, {"step", Align::Right}, {""}});
  const std::int64_t best = best_chunk_count(trials);
  for (const ChunkTrial& trial : trials) {
    table.row({std::to_string(trial.chunk_count), pretty(trial.step_time), trial.chunk_count == best ? "taken" : ""});
  }
  return fmt::format("\n{}", table.text(style, "  "));
}

/// With --search-chunks: what was tried; the scenario takes the best.
Result<std::vector<ChunkTrial>> settle_chunks(const CommandContext& context, Scenario& scenario) {
  if (!context.arguments.flag("search-chunks")) return std::vector<ChunkTrial>{};
  Result<std::vector<ChunkTrial>> trials = search_chunks(scenario);
  if (trials.ok()) scenario.workload.schedule.chunk_count = best_chunk_count(*trials);
  return trials;
}

Status simulate_step(const CommandContext& context, const JsonDocument& document) {
  Result<Scenario> scenario = load_scenario(context, document);
  if (!scenario.ok()) return scenario.error();
  scenario->fold = !context.arguments.flag("no-fold");
  const Result<std::vector<ChunkTrial>> trials = settle_chunks(context, *scenario);
  if (!trials.ok()) return trials.error();
  StepExplanation explanation;
  const bool explains = context.arguments.flag("explain");
  const double begin = cpu_seconds();
  const Result<Timeline> timeline = simulate(*scenario, explains ? &explanation.path : nullptr);
  const double end = cpu_seconds();
  if (!timeline.ok()) return timeline.error();
  const Sums sums(*timeline);
  const double summed = cpu_seconds();
  if (explains) {
    Result<std::vector<WhatIf>> helps = what_helps(*scenario, sums.metrics.step_time);
    RETURN_IF_ERROR(helps);
    explanation.helps = std::move(helps).value();
  }
  const MemoryReport memory = report_memory(scenario->workload, scenario->hardware.device.memory);
  Json result = summary_json(*scenario, *timeline, sums, memory);
  if (explains) result["explanation"] = to_json(explanation, *timeline);
  for (const ChunkTrial& trial : *trials) {
    result["chunk_search"].push_back({{"chunks", trial.chunk_count}, {"step_time_ns", trial.step_time.count()}});
  }
  RETURN_IF_ERROR(write_results(context, *scenario, *timeline, result));
  context.print(summary(*scenario, *timeline, sums, memory, context.style));
  if (!trials->empty()) context.print(to_text(*trials, context.style));
  if (explains) context.print(to_text(explanation, *timeline, context.style));
  if (context.arguments.flag("timing")) context.print(timing_line(*timeline, end - begin, summed - end));
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
      {.name = "search-chunks", .help = "try exchanges in 1, 2, 4, 8 and 16 chunks and take the shortest step"},
      {.name = "explain", .help = "print what each operator of the critical path waited for, and what would help"},
      {.name = "timing", .help = "print the CPU time that the simulation took"}};
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
