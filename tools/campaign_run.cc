#include "tools/campaign_run.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_json.h"
#include "sim/campaign/failure_stream.h"
#include "sim/campaign/interval_search.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/revision.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

Result<CampaignFile> load(const CommandContext& context, JsonDocument& document) {
  if (const std::optional<std::string> replicas = context.arguments.text("replicas")) {
    RETURN_IF_ERROR(document.set("/campaign/replicas", *replicas));
  }
  if (const std::optional<std::string> seed = context.arguments.text("seed")) {
    RETURN_IF_ERROR(document.set("/campaign/seed", *seed));
  }
  return read_campaign(document);
}

unsigned thread_count(const Arguments& arguments) {
  const std::optional<std::int64_t> given = arguments.integer("threads");
  return given ? static_cast<unsigned>(*given) : std::max(1U, std::thread::hardware_concurrency());
}

Result<std::vector<CampaignOutcome>> run_with_progress(const CommandContext& context,
                                                       const CampaignScenario& scenario) {
  const SteadyClock clock;
  ProgressLine progress("simulate", context.show_progress, clock, stderr);
  std::mutex mutex;
  std::int64_t begun = 0;
  const auto stop = [&] {
    const std::lock_guard lock(mutex);
    progress.update(begun++, scenario.replicas, "replicas");
    return context.stop.load();
  };
  std::vector<CampaignOutcome> outcomes = run_replicas(scenario, thread_count(context.arguments), stop);
  if (context.stop) {
    return Error{ErrorKind::Interrupted, "",
                 fmt::format("stopped after {} of {} replicas", outcomes.size(), scenario.replicas)};
  }
  return outcomes;
}

/// One row a replica, units in the heading.
std::string replicas_csv(const std::vector<CampaignOutcome>& outcomes) {
  std::string out = "replica,finished,wall_s,goodput";
  for (std::size_t i = 0; i < kTimeCauseCount; ++i) {
    std::string name(name_of(static_cast<TimeCause>(i)));
    std::replace(name.begin(), name.end(), ' ', '_');
    out += fmt::format(",{}_s", name);
  }
  out +=
      ",steps,useful_steps,failures,interruptions,checkpoints,storage_checkpoints,storage_bytes,plt,gpu_hours,cost\n";
  for (std::size_t replica = 0; replica < outcomes.size(); ++replica) {
    const CampaignOutcome& o = outcomes[replica];
    out += fmt::format("{},{},{:.6f},{:.9g}", replica, o.finished ? 1 : 0, seconds(o.wall), o.goodput());
    for (const Duration time : o.time) out += fmt::format(",{:.6f}", seconds(time));
    out +=
        fmt::format(",{},{},{},{},{},{},{:.0f},{:.9g},{:.9g},{:.9g}\n", o.steps, o.useful_steps, o.failures,
                    o.interruptions, o.checkpoints, o.storage_checkpoints, o.storage_bytes, o.plt, o.gpu_hours, o.cost);
  }
  return out;
}

Json with_heading(const CampaignFile& file, const Json& result) {
  Json out = {{"schema", "moecast.campaign/1"}, {"name", file.scenario.name}, {"revision", revision()}};
  out.update(result);
  return out;
}

Status run_all(const CommandContext& context, const CampaignFile& file) {
  std::optional<OutputFolder> output;
  if (const std::optional<std::string> path = context.arguments.text("output")) {
    Result<OutputFolder> created = OutputFolder::create(*path, context.arguments.flag("force"));
    if (!created.ok()) return created.error();
    output.emplace(std::move(created).value());
  }
  const Result<std::vector<CampaignOutcome>> outcomes = run_with_progress(context, file.scenario);
  if (!outcomes.ok()) return outcomes.error();
  const CampaignSummary summary = summarize(file.scenario, *outcomes);
  const Json result = with_heading(file, to_json(file.scenario, summary));
  if (output) {
    RETURN_IF_ERROR(output->write("summary.json", to_json_text(result)));
    RETURN_IF_ERROR(output->write("replicas.csv", replicas_csv(*outcomes)));
    RETURN_IF_ERROR(output->write("scenario.json", to_json_text(to_json(file))));
    RETURN_IF_ERROR(output->commit());
  }
  context.print(to_table(file.scenario, summary));
  return context.print_json(result);
}

Status print_failures(const CommandContext& context, const CampaignScenario& scenario, std::int64_t replica) {
  const CampaignTraining& training = scenario.training;
  const Duration length = training.horizon.count() > 0 ? training.horizon : training.steps * training.step;
  const std::vector<Failure> failures = draw_failures(scenario, replica, Instant{} + length);
  context.print(fmt::format("{}: {} failures of replica {} in {}\n{}", context.style.paint(scenario.name, Tone::Strong),
                            failures.size(), replica, pretty(length), failure_table(scenario, failures)));
  Json list = Json::array();
  for (const Failure& failure : failures) {
    list.push_back({{"at_ns", (failure.at - Instant{}).count()},
                    {"mode", scenario.reliability.modes[failure.mode_index].name},
                    {"first_node", failure.nodes.first},
                    {"node_count", failure.nodes.count},
                    {"replaced", failure.replaced},
                    {"detection_ns", failure.detection.count()},
                    {"diagnosis_ns", failure.diagnosis.count()},
                    {"repair_ns", failure.repair.count()}});
  }
  return context.print_json({{"schema", "moecast.failures/1"}, {"replica", replica}, {"failures", list}});
}

bool has_interval(const PolicySettings& policy) {
  if (const auto* checkpoint = std::get_if<CheckpointPolicy>(&policy)) {
    return checkpoint->kind != CheckpointKind::None;
  }
  return !std::holds_alternative<JustInTimeSettings>(policy) && !std::holds_alternative<ElasticSettings>(policy);
}

std::string goodput_text(const MeanInterval& goodput) {
  return fmt::format("{:.2f} % +- {:.2f}", 100 * goodput.mean, 100 * goodput.half_width);
}

Json to_json(const IntervalSearch& search) {
  Json trials = Json::array();
  for (const IntervalTrial& trial : search.trials) {
    trials.push_back({{"interval_steps", trial.interval},
                      {"goodput", trial.goodput.mean},
                      {"half_width", trial.goodput.half_width}});
  }
  const auto steps = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  return {{"best_interval_steps", search.best.interval}, {"goodput", search.best.goodput.mean},
          {"young_steps", steps(search.young)},          {"daly_steps", steps(search.daly)},
          {"exact_steps", steps(search.exact)},          {"trials", trials}};
}

Status search_interval(const CommandContext& context, const CampaignFile& file) {
  const CampaignScenario& scenario = file.scenario;
  if (!has_interval(scenario.policy)) {
    return Error{ErrorKind::BadInput, "--best-interval", "this policy has no interval to search"};
  }
  const std::int64_t most = std::max<std::int64_t>(1, scenario.training.planned_steps() / 2);
  const IntervalSearch search = find_best_interval(scenario, 1, most, thread_count(context.arguments));
  Table table({{"interval", Align::Right}, {"time", Align::Right}, {"goodput", Align::Right}, {""}});
  for (const IntervalTrial& trial : search.trials) {
    const bool best = trial.interval == search.best.interval;
    table.row({fmt::format("{} steps", trial.interval), pretty(trial.interval * scenario.training.step),
               Cell(goodput_text(trial.goodput), best ? Tone::Good : Tone::Plain), best ? "best" : ""});
  }
  const auto formula = [&](const char* name, const std::optional<double>& steps) {
    if (!steps) return;
    table.row({fmt::format("{:.0f} steps", *steps),
               pretty(duration_from_seconds(*steps * seconds(scenario.training.step))), "", name});
  };
  formula("Young's", search.young);
  formula("Daly's", search.daly);
  formula("exact, failures memoryless", search.exact);
  context.print(
      fmt::format("{}\n{}", context.style.paint(scenario.name, Tone::Strong), table.text(context.style, "  ")));
  return context.print_json(with_heading(file, to_json(search)));
}

}  // namespace

bool is_campaign(const JsonDocument& document) {
  return document.json().is_object() && document.json().contains("campaign");
}

Status simulate_campaign(const CommandContext& context, JsonDocument document) {
  if (context.arguments.text("profile")) {
    return Error{ErrorKind::BadInput, "--profile", "belongs to scenarios of a step; this is a campaign"};
  }
  for (const std::string name : {"explain", "search-chunks", "timing", "no-fold"}) {
    if (!context.arguments.flag(name)) continue;
    return Error{ErrorKind::BadInput, "--" + name, "belongs to scenarios of a step; this is a campaign"};
  }
  const Result<CampaignFile> file = load(context, document);
  if (!file.ok()) return file.error();
  if (const std::optional<std::int64_t> replica = context.arguments.integer("failures")) {
    return print_failures(context, file->scenario, *replica);
  }
  if (context.arguments.flag("best-interval")) return search_interval(context, *file);
  return run_all(context, *file);
}

std::vector<OptionSpec> campaign_options() {
  return {{.name = "replicas",
           .kind = ValueKind::Integer,
           .value = "N",
           .help = "campaigns: replicas, instead of the file's",
           .low = 1,
           .high = 100'000'000},
          {.name = "seed",
           .kind = ValueKind::Integer,
           .value = "N",
           .help = "campaigns: seed, instead of the file's",
           .low = 0,
           .high = 9'007'199'254'740'992},
          {.name = "threads",
           .kind = ValueKind::Integer,
           .value = "N",
           .help = "campaigns: replicas at a time [one a core]; the result does not depend on it",
           .low = 1,
           .high = 1024},
          {.name = "failures",
           .kind = ValueKind::Integer,
           .value = "REPLICA",
           .help = "campaigns: print what strikes this replica, and run nothing",
           .low = 0,
           .high = 100'000'000},
          {.name = "best-interval", .help = "campaigns: search the checkpoint interval with the highest goodput"}};
}

Status refuse_campaign_options(const Arguments& arguments) {
  for (const OptionSpec& option : campaign_options()) {
    if (arguments.flag(option.name)) {
      return Error{ErrorKind::BadInput, "--" + option.name, "belongs to campaigns; this is a scenario of a step"};
    }
  }
  return {};
}

}  // namespace moecast
