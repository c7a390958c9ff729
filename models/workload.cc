#include "models/workload.h"

#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/moe_model_json.h"
#include "models/stage_parts.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxDegree = 1'048'576;
constexpr std::int64_t kMaxTokens = 16'777'216;
constexpr std::int64_t kMaxChunks = 1'024;

const EnumNames<ScheduleKind> kScheduleKinds = {{"sequential", ScheduleKind::Sequential},
                                                {"pipelined", ScheduleKind::Pipelined},
                                                {"shortcut", ScheduleKind::Shortcut}};
const EnumNames<PipelineSchedule> kPipelineSchedules = {{"1f1b", PipelineSchedule::OneForwardOneBackward},
                                                        {"interleaved", PipelineSchedule::Interleaved},
                                                        {"zero_bubble", PipelineSchedule::ZeroBubble}};
const EnumNames<Recomputation> kRecomputations = {
    {"none", Recomputation::None}, {"selective", Recomputation::Selective}, {"full", Recomputation::Full}};
const EnumNames<StepTask> kTasks = {
    {"training", StepTask::Training}, {"prefill", StepTask::Prefill}, {"decode", StepTask::Decode}};
const EnumNames<std::int64_t> kPrecisions = {{"f32", 4}, {"bf16", 2}, {"f64", 8}};

MoeModel read_model(JsonReader& reader) {
  if (reader.kind("model") != "string") {
    JsonReader model = reader.object("model");
    return read_moe_model(model);
  }
  Result<MoeModel> loaded = load_moe_model(reader.path("model"));
  if (loaded.ok()) return std::move(loaded).value();
  reader.problems_of("model", loaded.error());
  return {};
}

ParallelLayout read_layout(JsonReader& workload) {
  const std::size_t before = workload.problem_count();
  JsonReader reader = workload.object("parallel", true);
  ParallelLayout layout;
  layout.data = reader.integer("data", 1, kMaxDegree, layout.data);
  layout.expert = reader.integer("expert", 1, kMaxDegree, layout.expert);
  layout.tensor = reader.integer("tensor", 1, kMaxDegree, layout.tensor);
  layout.pipeline = reader.integer("pipeline", 1, kMaxDegree, layout.pipeline);
  layout.zero_stage = static_cast<int>(reader.integer("zero_stage", 0, 3, layout.zero_stage));
  layout.context = reader.integer("context", 1, kMaxDegree, layout.context);
  layout.sequence_parallel = reader.boolean("sequence_parallel", layout.sequence_parallel);
  layout.virtual_stages = reader.integer("virtual_stages", 1, kMaxDegree, layout.virtual_stages);
  layout.pipeline_schedule =
      reader.choice("pipeline_schedule", kPipelineSchedules, std::optional(layout.pipeline_schedule));
  layout.uneven_stages = reader.boolean("uneven_stages", layout.uneven_stages);
  layout.recomputation = reader.choice("recomputation", kRecomputations, std::optional(layout.recomputation));
  if (workload.problem_count() != before) return layout;
  if (const Status fits = layout.check(); !fits.ok()) {
    workload.problem("parallel", "conflict", "degrees that go together", fits.error().message);
  }
  return layout;
}

Batch read_batch(JsonReader& workload) {
  JsonReader reader = workload.object("batch");
  Batch batch;
  batch.micro_batch = reader.integer("micro_batch", 1, kMaxTokens, batch.micro_batch);
  batch.micro_batch_count = reader.integer("micro_batch_count", 1, kMaxTokens, batch.micro_batch_count);
  batch.sequence = reader.integer("sequence", 1, kMaxTokens);
  return batch;
}

/// "auto" (or no such key) or a number from 1.
std::optional<std::int64_t> read_slot(JsonReader& schedule, std::string_view key) {
  if (schedule.kind(key) == "number") return schedule.integer(key, 1, kMaxChunks);
  const std::string text = schedule.text(key, "auto");
  if (text != "auto") schedule.problem(key, "out-of-range", "\"auto\" or an integer, 1 or more", text);
  return std::nullopt;
}

Schedule read_schedule(JsonReader& workload) {
  JsonReader reader = workload.object("schedule", true);
  Schedule schedule;
  schedule.kind = reader.choice("kind", kScheduleKinds, std::optional(schedule.kind));
  schedule.chunk_count = reader.integer("chunks", 1, kMaxChunks, schedule.chunk_count);
  schedule.forward_slot = read_slot(reader, "forward_slot");
  schedule.backward_slot = read_slot(reader, "backward_slot");
  return schedule;
}

/// What holds between the parts; called when each of them was read without a problem.
void check_together(JsonReader& reader, const Workload& workload) {
  if (const Status fits = check_division(workload.model, workload.layout); !fits.ok()) {
    reader.problem("parallel", "conflict", "degrees that divide the model", fits.error().message);
  }
  if (workload.experts_on_host && workload.task == StepTask::Training) {
    reader.problem("experts_on_host", "conflict", "\"task\": \"prefill\" or \"decode\"", "training");
  }
  if (workload.batch.sequence > workload.model.max_sequence) {
    reader.problem("batch", "conflict",
                   fmt::format("a sequence of at most the model's {}", workload.model.max_sequence),
                   std::to_string(workload.batch.sequence));
  }
}

Json slot_json(const std::optional<std::int64_t>& slot) { return slot ? Json(*slot) : Json("auto"); }

}  // namespace

Workload read_workload(JsonReader& parent) {
  const std::size_t before = parent.problem_count();
  JsonReader reader = parent.object("workload");
  Workload workload;
  workload.model = read_model(reader);
  workload.layout = read_layout(reader);
  workload.batch = read_batch(reader);
  workload.schedule = read_schedule(reader);
  workload.bytes_per_element = reader.choice("precision", kPrecisions, std::optional(workload.bytes_per_element));
  workload.task = reader.choice("task", kTasks, std::optional(workload.task));
  workload.experts_on_host = reader.boolean("experts_on_host", workload.experts_on_host);
  if (parent.problem_count() == before) check_together(reader, workload);
  return workload;
}

Json to_json(const Workload& workload) {
  Json json;
  json["model"] = to_json(workload.model);
  json["parallel"] = {{"data", workload.layout.data},
                      {"expert", workload.layout.expert},
                      {"tensor", workload.layout.tensor},
                      {"pipeline", workload.layout.pipeline},
                      {"zero_stage", workload.layout.zero_stage},
                      {"context", workload.layout.context},
                      {"sequence_parallel", workload.layout.sequence_parallel},
                      {"virtual_stages", workload.layout.virtual_stages},
                      {"pipeline_schedule", name_of(kPipelineSchedules, workload.layout.pipeline_schedule)},
                      {"uneven_stages", workload.layout.uneven_stages},
                      {"recomputation", name_of(kRecomputations, workload.layout.recomputation)}};
  json["batch"] = {{"micro_batch", workload.batch.micro_batch},
                   {"micro_batch_count", workload.batch.micro_batch_count},
                   {"sequence", workload.batch.sequence}};
  json["schedule"] = {{"kind", name_of(kScheduleKinds, workload.schedule.kind)},
                      {"chunks", workload.schedule.chunk_count},
                      {"forward_slot", slot_json(workload.schedule.forward_slot)},
                      {"backward_slot", slot_json(workload.schedule.backward_slot)}};
  json["precision"] = name_of(kPrecisions, workload.bytes_per_element);
  if (workload.task != StepTask::Training) json["task"] = name_of(kTasks, workload.task);
  if (workload.experts_on_host) json["experts_on_host"] = true;
  return json;
}

StepPlanRequest request_of(const Workload& workload, OperatorTime operator_time) {
  return StepPlanRequest{
      workload.model,           workload.layout, workload.batch,          workload.schedule, workload.bytes_per_element,
      std::move(operator_time), workload.task,   workload.experts_on_host};
}

}  // namespace moecast
