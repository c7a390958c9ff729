#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "models/metrics.h"
#include "models/timeline_json.h"
#include "runtime/trainer/train.h"
#include "tools/checkpoint_result.h"
#include "tools/command.h"
#include "tools/output.h"
#include "tools/processes.h"
#include "tools/progress.h"
#include "tools/result_json.h"
#include "tools/revision.h"
#include "tools/step_summary.h"
#include "tools/table.h"
#include "tools/train_config_json.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

std::filesystem::path checkpoint_folder_of(const std::string& output) {
  std::filesystem::path path = std::filesystem::path(output).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path += ".checkpoints";
}

Result<TrainConfig> load_config(const CommandContext& context) {
  Result<JsonDocument> document = read_document(context.arguments.positionals().front(), context.arguments);
  if (!document.ok()) return document.error();
  if (const std::optional<std::string> seed = context.arguments.text("seed")) {
    RETURN_IF_ERROR(document->set("/training/seed", *seed));
  }
  if (const std::optional<std::string> steps = context.arguments.text("steps")) {
    RETURN_IF_ERROR(document->set("/training/steps", *steps));
  }
  Result<TrainConfig> config = read_train_config(*document);
  if (!config.ok()) return config;
  const bool resume = context.arguments.flag("resume");
  if (resume && !config->checkpoint) {
    return Error{ErrorKind::BadInput, document->file(), "--resume needs a configuration with \"checkpoint\""};
  }
  if (config->checkpoint) {
    config->checkpoint->resume = resume;
    // Beside the result, which appears only when the run has succeeded.
    std::filesystem::path& folder = config->checkpoint->folder;
    if (folder.empty()) folder = checkpoint_folder_of(*context.arguments.text("output"));
  }
  return config;
}

template <typename Value>
Json column(const std::vector<StepRecord>& steps, Value StepRecord::*field) {
  Json out = Json::array();
  for (const StepRecord& step : steps) out.push_back(step.*field);
  return out;
}

Json step_times(const std::vector<StepRecord>& steps) {
  Json out = Json::array();
  for (const StepRecord& step : steps) out.push_back(step.time.count());
  return out;
}

Json expert_load_json(const std::vector<ExpertLoad>& loads) {
  Json out = Json::array();
  for (const ExpertLoad& load : loads) {
    out.push_back({{"layer", load.layer.value()}, {"share", load.share}, {"dropped", load.dropped}});
  }
  return out;
}

Json metrics_json(const TrainConfig& config, const TrainResult& result, const Json& resolved) {
  Json out = {{"schema", "moecast.train/1"},
              {"name", config.name},
              {"revision", revision()},
              {"seed", config.seed},
              {"backend", result.backend},
              {"device", result.device},
              {"paced", result.paced},
              {"step_metrics", to_json(step_metrics(result.timeline))},
              {"bound_metrics", to_json(bound_metrics(result.timeline))},
              {"tokens_per_second", result.tokens_per_second},
              {"unigram_entropy", result.unigram_entropy},
              {"validation_loss", result.validation_loss},
              {"loss", result.loss},
              {"balance_loss", column(result.steps, &StepRecord::balance_loss)},
              {"gradient_norm", column(result.steps, &StepRecord::gradient_norm)},
              {"learning_rate", column(result.steps, &StepRecord::learning_rate)},
              {"step_time_ns", step_times(result.steps)},
              {"expert_load", expert_load_json(result.expert_load)},
              {"operators", to_json(operator_metrics(result.timeline))}};
  if (result.checkpoints) {
    out["first_step"] = result.first_step;
    out["checkpoints"] = to_json(*result.checkpoints);
  }
  out["config"] = resolved;
  return out;
}

std::string summary(const TrainConfig& config, const TrainResult& result, const Style& style) {
  const StepMetrics metrics = step_metrics(result.timeline);
  Table table({{""}, {""}});
  table.row({"loss", fmt::format("{:.3f} -> {:.3f} (unigram entropy {:.3f})", result.loss.front(), result.loss.back(),
                                 result.unigram_entropy)});
  table.row({"step", fmt::format("{} median, {:.0f} tokens/s", pretty(metrics.step_time), result.tokens_per_second)});
  add_communication_rows(result.timeline, table);
  if (result.checkpoints) {
    add_checkpoint_rows(*result.checkpoints, metrics.step_time, config.checkpoint->policy.interval, table);
  }
  table.row({"ran on", fmt::format("{}{}", result.device, result.paced ? ", paced link" : "")});
  return fmt::format("{}\n{}", style.paint(config.name, Tone::Strong), table.text(style, "  "));
}

Result<TrainResult> train_with_progress(const TrainConfig& config, ProcessWorld* world, const CommandContext& context) {
  const SteadyClock clock;
  ProgressLine progress(config.name, context.show_progress, clock, stderr);
  const auto on_step = [&](const TrainProgress& step) {
    progress.update(step.step, step.steps, fmt::format("loss {:.3f}  {} a step", step.loss, pretty(step.step_time)));
  };
  return world == nullptr ? train(config, context.log, on_step, context.stop)
                          : train_as_process(*world, config, context.log, on_step, context.stop);
}

/// The folder for the results, on the process that writes them; no process goes on if that fails.
Result<std::optional<OutputFolder>> create_output(const CommandContext& context, ProcessWorld* world) {
  std::optional<OutputFolder> output;
  Status status;
  if (world == nullptr || world->rank() == 0) {
    Result<OutputFolder> created =
        OutputFolder::create(*context.arguments.text("output"), context.arguments.flag("force"));
    if (created.ok()) {
      output.emplace(std::move(created).value());
    } else {
      status = created.error();
    }
  }
  if (world != nullptr) {
    const Result<std::unique_ptr<Communicator>> group = world->make_world_group("start", {});
    if (!group.ok()) return group.error();
    status = share_failure(**group, status);
  }
  if (!status.ok()) return status.error();
  return output;
}

Status run(const CommandContext& context) {
  Result<TrainConfig> config = load_config(context);
  if (!config.ok()) return config.error();
  const Result<std::unique_ptr<ProcessWorld>> world = meet_others(context, config->runtime.timeout);
  if (!world.ok()) return world.error();
  Result<std::optional<OutputFolder>> created = create_output(context, world->get());
  if (!created.ok()) return created.error();
  const Result<TrainResult> result = train_with_progress(*config, world->get(), context);
  if (!result.ok()) {
    const ErrorKind kind = result.error().kind;
    if (config->checkpoint && (kind == ErrorKind::RunFailed || kind == ErrorKind::Interrupted)) {
      context.log.info("--resume goes on from what {} holds", config->checkpoint->folder.string());
    }
    return result.error();
  }
  std::optional<OutputFolder>& output = *created;
  if (!output) return {};  // another process writes

  const std::string path = *context.arguments.text("output");
  config->workload.schedule = result->schedule;
  const Json resolved = to_json(*config, path);
  const Json metrics = metrics_json(*config, *result, resolved);
  const RunInfo info{"train", config->name, config->workload, config->seed, revision(), result->paced, result->device};
  RETURN_IF_ERROR(output->write("timeline.json", to_chrome_trace(result->timeline, info)));
  RETURN_IF_ERROR(output->write("metrics.json", to_json_text(metrics)));
  RETURN_IF_ERROR(output->write("config.json", to_json_text(resolved)));
  RETURN_IF_ERROR(output->commit());
  context.print(summary(*config, *result, context.style));
  return context.print_json(metrics);
}

}  // namespace

Command train_command() {
  return {
      {.name = "train",
       .summary = "train a Mixture-of-Experts model for real, and record every operator",
       .details =
           "Writes timeline.json (opens in Perfetto), metrics.json and config.json (resolved) into DIR; DIR\n"
           "appears only when the run has succeeded. With \"checkpoint\" in CONFIG it saves checkpoints into\n"
           "DIR.checkpoints (or the folder that CONFIG names); with \"faults\" it kills ranks, loses nodes, fills,\n"
           "slows or corrupts the disk, and goes on from what is left. Ranks are threads, or processes that find each\n"
           "other: under mpirun, srun or torchrun, or with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set for each.",
       .positionals = {{.name = "CONFIG", .help = "a training configuration (JSON)"}},
       .options = {output_folder_option(true),
                   force_option(),
                   set_option(),
                   {.name = "resume", .help = "go on from the newest checkpoint, or begin if there is none yet"},
                   {.name = "steps",
                    .kind = ValueKind::Integer,
                    .value = "N",
                    .help = "steps, instead of the configuration's",
                    .low = 1,
                    .high = 100'000'000},
                   {.name = "seed",
                    .kind = ValueKind::Integer,
                    .value = "N",
                    .help = "seed, instead of the configuration's",
                    .low = 0,
                    .high = 9'007'199'254'740'992}},
       .examples = {"moecast train experiments/quickstart/train/top2.json -o out/train/top2",
                    "mpirun -n 2 moecast train experiments/quickstart/train/top2.json -o out/train/top2",
                    "RANK=0 WORLD_SIZE=2 MASTER_ADDR=node0 MASTER_PORT=29500 moecast train top2.json -o out/top2",
                    "moecast train top2.json -o out/fast --set \"/runtime/link/bandwidth=1 GB/s\" --set /name=fast"},
       .several_processes = true},
      run};
}

}  // namespace moecast
