#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "models/checkpoint/plan_document.h"
#include "runtime/checkpoint/collect.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/checkpoint/posix_environment.h"
#include "runtime/checkpoint/restore.h"
#include "runtime/trainer/train_config.h"
#include "tools/command.h"
#include "tools/revision.h"
#include "tools/table.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// inspect, verify -----------------------------------------------------------------------------------------------------

std::string state_of(const EditSummary& edit) {
  if (edit.restorable) return "restorable";
  return edit.base_collected ? "experts only" : "damaged";
}

Json inspection_json(const Inspection& inspection) {
  Json versions = Json::array();
  for (const EditSummary& each : inspection.edits) {
    versions.push_back({{"version", each.edit.number},
                        {"step", each.edit.state.step},
                        {"state", state_of(each)},
                        {"experts", each.unit_count},
                        {"non_expert_bytes", each.base.count()},
                        {"expert_bytes", each.units.count()},
                        {"files", each.file_count},
                        {"ranks", each.edit.layout.world_size()},
                        {"expert_parallel", each.edit.layout.expert}});
  }
  Json damages = Json::array();
  for (const Damage& damage : inspection.damages) damages.push_back({{"file", damage.file}, {"reason", damage.reason}});
  Json out = {{"schema", "moecast.checkpoint/1"},
              {"revision", revision()},
              {"model", inspection.model},
              {"fingerprint", inspection.fingerprint},
              {"versions", versions}};
  out["newest"] = inspection.newest ? Json(*inspection.newest) : Json(nullptr);
  out["expert_age"] = inspection.unit_age;
  out["damages"] = damages;
  out["unreferred"] = inspection.unreferred;
  out["strangers"] = inspection.strangers;
  out["bytes"] = inspection.size.count();
  return out;
}

std::string age_text(const Inspection& inspection) {
  if (inspection.unit_age.empty()) return "";
  std::int64_t oldest = 0;
  double sum = 0;
  for (const auto& [unit, age] : inspection.unit_age) {
    oldest = std::max(oldest, age);
    sum += static_cast<double>(age);
  }
  return fmt::format("; experts are {:.1f} steps older on average, at most {}",
                     sum / static_cast<double>(inspection.unit_age.size()), oldest);
}

std::string inspection_text(const Inspection& inspection, const Style& style) {
  Table table({{"version", Align::Right},
               {"step", Align::Right},
               {"experts", Align::Right},
               {"non-expert", Align::Right},
               {"expert", Align::Right},
               {"ranks", Align::Right},
               {"state"}});
  for (const EditSummary& each : inspection.edits) {
    table.row({std::to_string(each.edit.number), std::to_string(each.edit.state.step), std::to_string(each.unit_count),
               pretty(each.base), pretty(each.units), std::to_string(each.edit.layout.world_size()),
               Cell(state_of(each), each.restorable ? Tone::Good : Tone::Plain)});
  }
  std::string out = fmt::format("{} ({}), {}\n{}", style.paint(inspection.model, Tone::Strong), inspection.fingerprint,
                                pretty(inspection.size), table.text(style, "  "));
  out += inspection.newest ? fmt::format("  a restore takes version {}{}\n", *inspection.newest, age_text(inspection))
                           : std::string("  nothing can be restored\n");
  for (const Damage& damage : inspection.damages) {
    out += fmt::format("  {} {}: {}\n", style.paint("damaged", Tone::Bad), damage.file, damage.reason);
  }
  if (!inspection.unreferred.empty()) {
    out += fmt::format("  {} files that no version needs (gc removes them)\n", inspection.unreferred.size());
  }
  if (!inspection.strangers.empty()) out += fmt::format("  not ours: {}\n", fmt::join(inspection.strangers, ", "));
  return out;
}

Status check_some(const Inspection& inspection, const fs::path& folder) {
  if (!inspection.edits.empty() || !inspection.damages.empty()) return {};
  return Error{ErrorKind::BadInput, folder.string(), "holds no checkpoints"};
}

Status inspect(const CommandContext& context, Environment& environment, const fs::path& folder) {
  const Result<Inspection> inspection = inspect_checkpoints(environment, folder);
  if (!inspection.ok()) return inspection.error();
  RETURN_IF_ERROR(check_some(*inspection, folder));
  context.print(inspection_text(*inspection, context.style));
  return context.print_json(inspection_json(*inspection));
}

Status verify(const CommandContext& context, Environment& environment, const fs::path& folder) {
  const Result<Verification> verification = verify_checkpoints(environment, folder);
  if (!verification.ok()) return verification.error();
  RETURN_IF_ERROR(check_some(verification->inspection, folder));
  context.print(inspection_text(verification->inspection, context.style));
  context.print(fmt::format("  {} in {} files read and compared with their checksums\n", pretty(verification->checked),
                            verification->checked_files));
  Json json = inspection_json(verification->inspection);
  json["checked_files"] = verification->checked_files;
  json["checked_bytes"] = verification->checked.count();
  json["good"] = verification->good();
  RETURN_IF_ERROR(context.print_json(json));
  if (verification->good()) return {};
  const std::size_t count = verification->inspection.damages.size();
  return Error{ErrorKind::CheckFailed, folder.string(),
               count > 0 ? fmt::format("{} damaged or missing files", count)
                         : std::string("the newest version cannot be restored")};
}

// restore -------------------------------------------------------------------------------------------------------------

/// A new or empty folder.
Status claim(Environment& environment, const fs::path& folder) {
  RETURN_IF_ERROR(environment.create_folders(folder));
  const Result<std::optional<std::vector<std::string>>> names = environment.list(folder);
  if (!names.ok()) return names.error();
  if (!*names || (*names)->empty()) return {};
  return Error{ErrorKind::BadInput, folder.string(), "is not empty; restore writes into a new folder"};
}

Json restored_json(const RestoreReport& report) {
  Json experts = Json::object();
  for (const RestoredUnit& unit : report.units) experts[unit.unit] = {{"step", unit.step}, {"age", unit.age}};
  Json damages = Json::array();
  for (const Damage& damage : report.damages) damages.push_back({{"file", damage.file}, {"reason", damage.reason}});
  return {{"schema", "moecast.restored/1"},
          {"version", report.version},
          {"step", report.state.step},
          {"data_position", report.state.data_position},
          {"random_state", report.state.random_state},
          {"experts", experts},
          {"damages", damages}};
}

Status restore_to(const CommandContext& context, Environment& environment, const fs::path& folder) {
  const std::optional<std::string> output = context.arguments.text("output");
  if (!output) return Error{ErrorKind::BadInput, "restore", "--output DIR is missing"};
  RestoreBounds bounds;
  if (const std::optional<std::int64_t> version = context.arguments.integer("version")) bounds.version = *version;
  RETURN_IF_ERROR(inspect_checkpoints(environment, folder));  // before anything is written
  const fs::path out = *output;
  RETURN_IF_ERROR(claim(environment, out));
  const Result<RestoreReport> weights =
      export_checkpoint(environment, folder, bounds, {Component::Weight}, out / "weights.safetensors");
  if (!weights.ok()) return weights.error();
  bounds.version = weights->version;
  const Result<RestoreReport> optimizer = export_checkpoint(
      environment, folder, bounds, {Component::Master, Component::FirstMoment, Component::SecondMoment},
      out / "optimizer.safetensors");
  if (!optimizer.ok()) return optimizer.error();
  const Json json = restored_json(*weights);
  RETURN_IF_ERROR(write_synced(environment, out / "state.json", to_json_text(json)));  // last: then all is there
  RETURN_IF_ERROR(environment.sync_folder(out));
  context.print(fmt::format("{}: version {} of step {}: weights.safetensors, optimizer.safetensors, state.json\n",
                            out.string(), weights->version, weights->state.step));
  return context.print_json(json);
}

// gc ------------------------------------------------------------------------------------------------------------------

Status collect(const CommandContext& context, Environment& environment, const fs::path& folder) {
  const Retention retention{*context.arguments.integer("versions"), *context.arguments.integer("unit-copies")};
  CollectOptions options;
  options.verify = true;
  options.idle = context.arguments.flag("idle");
  options.dry_run = context.arguments.flag("dry-run");
  const Result<Garbage> garbage = collect_garbage(environment, folder, retention, options);
  if (!garbage.ok()) return garbage.error();
  context.print(fmt::format("{} {} files, {}; {} can be restored\n", options.dry_run ? "would remove" : "removed",
                            garbage->removed.size(), pretty(garbage->bytes),
                            garbage->kept_versions.empty()
                                ? std::string("nothing")
                                : fmt::format("version {}", fmt::join(garbage->kept_versions, ", "))));
  return context.print_json({{"schema", "moecast.checkpoint_gc/1"},
                             {"dry_run", options.dry_run},
                             {"removed", garbage->removed},
                             {"bytes", garbage->bytes.count()},
                             {"kept_versions", garbage->kept_versions}});
}

// plan ----------------------------------------------------------------------------------------------------------------

constexpr std::size_t kShownRanks = 16;

/// A document of its own, or the policy of a training configuration.
Result<PlanDocument> load_plan(const CommandContext& context, const std::string& path) {
  const Result<JsonDocument> document = read_document(path, context.arguments);
  if (!document.ok()) return document.error();
  if (!document->json().is_object() || !document->json().contains("training")) return read_plan_document(*document);
  const Result<TrainConfig> config = read_train_config(*document);
  if (!config.ok()) return config.error();
  if (!config->checkpoint) return Error{ErrorKind::BadInput, path, "saves no checkpoints: it has no \"checkpoint\""};
  return PlanDocument{config->name, config->workload, config->checkpoint->policy, {}, {}};
}

Json plan_json(const PlanSummary& summary) {
  Json ranks = Json::array();
  for (std::size_t rank = 0; rank < summary.most.memory.size(); ++rank) {
    ranks.push_back(
        {{"memory_bytes", summary.most.memory[rank].count()}, {"storage_bytes", summary.most.storage[rank].count()}});
  }
  return {{"checkpoints", summary.checkpoint_count},
          {"full_bytes", summary.full.count()},
          {"memory_bytes", summary.memory.count()},
          {"storage_bytes", summary.storage.count()},
          {"memory_share", summary.share(CheckpointLevel::Memory)},
          {"storage_share", summary.share(CheckpointLevel::Storage)},
          {"balanced", summary.balanced},
          {"ranks", ranks}};
}

std::string plan_text(const PlanDocument& document, const PlanResult& result, const Style& style) {
  Table table({{""}, {"host memory", Align::Right}, {"storage", Align::Right}});
  const auto row = [&](const std::string& name, const PlanSummary& plan) {
    const auto cell = [&](CheckpointLevel level, Bytes bytes) {
      return fmt::format("{} ({:.1f} %)", pretty(bytes), 100 * plan.share(level));
    };
    table.row({name, cell(CheckpointLevel::Memory, plan.memory), cell(CheckpointLevel::Storage, plan.storage)});
    table.row({name + ", rank with most", pretty(plan.most.bottleneck(CheckpointLevel::Memory)),
               pretty(plan.most.bottleneck(CheckpointLevel::Storage))});
  };
  row("one checkpoint", result.plan);
  if (result.baseline) row("baseline", *result.baseline);
  const std::size_t ranks = result.plan.most.memory.size();
  for (std::size_t rank = 0; rank < std::min(ranks, kShownRanks); ++rank) {
    table.row(
        {fmt::format("rank {}", rank), pretty(result.plan.most.memory[rank]), pretty(result.plan.most.storage[rank])});
  }
  std::string kind(to_text(document.policy.kind));
  if (document.policy.is_partial()) kind += fmt::format(", {}", preset_name(document.policy.components()));
  std::string out = fmt::format("{}: {}; the whole state is {}\n{}", style.paint(document.name, Tone::Strong), kind,
                                pretty(result.plan.full), table.text(style, "  "));
  if (ranks > kShownRanks) out += fmt::format("  and {} ranks more\n", ranks - kShownRanks);
  for (const JudgedPlan& each : result.judged) {
    out += fmt::format("  {} {} (published {}, {}): {}\n", each.expectation.metric,
                       pretty_metric(each.expectation.metric, each.ours),
                       pretty_metric(each.expectation.metric, each.expectation.value), each.expectation.source,
                       each.pass ? style.paint("pass", Tone::Good) : style.paint("FAIL", Tone::Bad));
  }
  return out;
}

Status plan(const CommandContext& context, const std::string& path) {
  const Result<PlanDocument> document = load_plan(context, path);
  if (!document.ok()) return document.error();
  const Result<PlanResult> result = evaluate(*document);
  if (!result.ok()) return result.error();
  context.print(plan_text(*document, *result, context.style));
  Json json = {{"schema", "moecast.checkpoint_plan/1"},
               {"name", document->name},
               {"revision", revision()},
               {"policy", to_json(document->policy)},
               {"plan", plan_json(result->plan)}};
  if (result->baseline) json["baseline"] = plan_json(*result->baseline);
  json["expect"] = Json::array();
  for (const JudgedPlan& each : result->judged) {
    Json row = to_json(each.expectation);
    row["ours"] = each.ours;
    row["pass"] = each.pass;
    json["expect"].push_back(std::move(row));
  }
  RETURN_IF_ERROR(context.print_json(json));
  const auto failed = std::ranges::count(result->judged, false, &JudgedPlan::pass);
  if (failed == 0) return {};
  return Error{ErrorKind::CheckFailed, path, fmt::format("{} values are outside their tolerance", failed)};
}

Status run(const CommandContext& context) {
  const std::string& action = context.arguments.positionals()[0];
  const std::string& path = context.arguments.positionals()[1];
  const std::unique_ptr<Environment> environment = make_posix_environment();
  if (action == "inspect") return inspect(context, *environment, path);
  if (action == "verify") return verify(context, *environment, path);
  if (action == "restore") return restore_to(context, *environment, path);
  if (action == "gc") return collect(context, *environment, path);
  if (action == "plan") return plan(context, path);
  return Error{ErrorKind::BadInput, "checkpoint",
               fmt::format("expected inspect, verify, restore, gc or plan, found \"{}\"", action)};
}

OptionSpec copies_option(std::string name, std::string help) {
  return {.name = std::move(name),
          .kind = ValueKind::Integer,
          .value = "N",
          .help = std::move(help),
          .fallback = "2",
          .low = 1,
          .high = 1'000'000};
}

}  // namespace

Command checkpoint_command() {
  return {
      {.name = "checkpoint",
       .summary = "look at, check, restore and tidy checkpoints; the sizes of a policy",
       .details =
           "inspect DIR   versions in a checkpoint folder, what a restore would take, how old every expert would be\n"
           "verify DIR    the same after every byte was read and compared with its checksum; exit code 1 for damage\n"
           "restore DIR   put the newest restorable version (or the newest up to --version) together and write whole\n"
           "              tensors of all ranks into the new folder -o: weights.safetensors, optimizer.safetensors\n"
           "              (masters and moments), state.json (step, age of every expert; written last). Nothing is\n"
           "              overwritten. Training goes on from DIR itself, on any number of ranks: moecast train "
           "--resume\n"
           "gc DIR        remove what the newest --versions do not need; every byte that stays is verified first\n"
           "plan CONFIG   bytes of a checkpoint by level and rank, for a training configuration or a document with\n"
           "              \"checkpoint_plan\"; compares with published sizes if it has some (exit code 1 if one is "
           "missed)",
       .positionals = {{.name = "ACTION", .help = "inspect, verify, restore, gc or plan"},
                       {.name = "DIR", .help = "a checkpoint folder; plan: a JSON file"}},
       .options = {{.name = "output",
                    .letter = 'o',
                    .kind = ValueKind::Text,
                    .value = "DIR",
                    .help = "restore: the folder to write, new or empty"},
                   {.name = "version",
                    .kind = ValueKind::Integer,
                    .value = "N",
                    .help = "restore: the newest version that may be taken",
                    .low = 1,
                    .high = 1'000'000'000'000},
                   copies_option("versions", "gc: restorable versions that stay"),
                   copies_option("unit-copies", "gc: intact copies of every expert for each of them"),
                   {.name = "idle",
                    .help = "gc: nobody writes to DIR; remove what a killed run left half written, too"},
                   {.name = "dry-run", .help = "gc: only say what would go"},
                   set_option()},
       .examples = {"moecast checkpoint inspect out/run.checkpoints",
                    "moecast checkpoint restore out/run.checkpoints -o out/merged",
                    "moecast checkpoint plan experiments/pec/sizes/gpt_350m_16e.json"}},
      run};
}

}  // namespace moecast
