#include "tools/description.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "models/model_costs.h"
#include "models/moe_model_names.h"
#include "models/state_inventory.h"
#include "tools/memory_report.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;
using Fact = Description::Fact;
using OperatorRow = Description::OperatorRow;

/// "1.31 G", "512".
std::string count_text(double value) {
  for (const auto& [unit, size] :
       {std::pair("T", 1e12), std::pair("G", 1e9), std::pair("M", 1e6), std::pair("k", 1e4)}) {
    if (value < size) continue;
    const double scaled = value / (unit[0] == 'k' ? 1e3 : size);
    return fmt::format("{:.{}f} {}", scaled, scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2, unit);
  }
  return fmt::format("{}", value);
}

Fact count(std::string name, std::string key, std::int64_t value) {
  return {std::move(name), std::move(key), count_text(static_cast<double>(value)), static_cast<double>(value)};
}

Fact words(std::string name, std::string key, std::string text) {
  return {std::move(name), std::move(key), std::move(text), 0, false};
}

Fact memory(std::string name, std::string key, Bytes value) {
  return {std::move(name), std::move(key), pretty(value), value.value()};
}

std::string attention_text(const Attention& attention) {
  std::string out = fmt::format("{} heads of {}", attention.heads, attention.head_dim);
  if (attention.latent) {
    out += fmt::format(", latent of {} for keys and values", attention.latent->kv_rank);
  } else if (attention.kv_heads != attention.heads) {
    out += fmt::format(", {} for keys and values", attention.kv_heads);
  }
  if (attention.window) out += fmt::format(", window of {}", *attention.window);
  if (attention.full_every > 0) out += fmt::format(" but in one of {} blocks", attention.full_every);
  return out;
}

std::string router_text(const GateRule& gate) {
  std::string out(name_of(kRouters, gate.router));
  if (gate.groups > 1) out += fmt::format(", best {} of {} groups", gate.top_groups, gate.groups);
  if (gate.selection_bias) out += ", chosen with a bias";
  return out;
}

std::string experts_text(const MoeFfn& moe) {
  std::string out = fmt::format("top-{} of {}, width {}", moe.gate.top_k, moe.expert_count, moe.expert_width);
  if (moe.zero_expert_count > 0) out += fmt::format(", and {} that compute nothing", moe.zero_expert_count);
  if (moe.shared_expert_width > 0) out += fmt::format(", shared expert of width {}", moe.shared_expert_width);
  out += moe.capacity_factor ? fmt::format(", capacity factor {}", *moe.capacity_factor) : std::string(", dropless");
  switch (moe.shortcut) {
    case Shortcut::None:
      break;
    case Shortcut::Pos1:
      return out + ", ScMoE Pos-1";
    case Shortcut::Pos2:
      return out + ", ScMoE Pos-2";
    case Shortcut::Pos3:
      return out + ", ScMoE Pos-3";
  }
  return out;
}

void add_model_facts(const MoeModel& model, std::vector<Fact>& facts) {
  const ParameterCount parameters = count_parameters(model);
  std::int64_t moe_count = 0;
  const MoeFfn* moe = nullptr;
  for (const Block& block : model.blocks) {
    if (!block.moe) continue;
    ++moe_count;
    if (moe == nullptr) moe = &*block.moe;
  }
  facts.push_back(words("model", "model", model.name));
  facts.push_back(count("blocks", "block_count", model.layer_count()));
  facts.push_back(count("with experts", "moe_block_count", moe_count));
  facts.push_back(count("width", "d_model", model.d_model));
  facts.push_back(words("attention", "attention", attention_text(model.attention)));
  if (moe != nullptr) {
    facts.push_back(words("experts", "experts", experts_text(*moe)));
    facts.push_back(words("router", "router", router_text(moe->gate)));
  }
  facts.push_back(count("parameters", "parameter_count", parameters.total));
  facts.push_back(count("active a token", "active_parameter_count", parameters.active));
  facts.push_back(count("in experts", "expert_parameter_count", parameters.expert));
}

Fact work(std::string name, std::string key, Flops value) {
  return {std::move(name), std::move(key), pretty(value), value.value()};
}

void add_model_costs(const MoeModel& model, std::int64_t sequence, std::vector<Fact>& facts) {
  constexpr std::int64_t kElement = 2;  // bf16
  const Precision precision = precision_of(kElement);
  const Bytes cache = cache_bytes(model, sequence, kElement);
  facts.push_back(count("in sequences of", "sequence", sequence));
  facts.push_back(work("  work a token, forward", "forward_flops_per_token", forward_flops_per_token(model, sequence)));
  facts.push_back(work("  and training", "training_flops_per_token", training_flops_per_token(model, sequence)));
  facts.push_back(memory("  KV cache a token, bf16", "cache_bytes_per_token", Bytes(cache.count() / sequence)));
  facts.push_back(memory("checkpoint, bf16 weights", "checkpoint_weight_bytes", weight_bytes(model, precision)));
  facts.push_back(memory("  with masters, moments", "checkpoint_state_bytes", state_bytes(model, precision)));
}

std::string schedule_text(const Schedule& schedule) {
  std::string out = schedule.kind == ScheduleKind::Sequential  ? "sequential"
                    : schedule.kind == ScheduleKind::Pipelined ? "pipelined"
                                                               : "shortcut";
  if (schedule.chunk_count > 1) out += fmt::format(", {} chunks", schedule.chunk_count);
  if (schedule.kind != ScheduleKind::Shortcut) return out;
  const auto slot = [](std::optional<std::int64_t> value) {
    return value ? fmt::format("slot {}", *value) : "the best slot";
  };
  return out +
         fmt::format(", experts in {} forward, {} backward", slot(schedule.forward_slot), slot(schedule.backward_slot));
}

std::string parallel_text(const ParallelLayout& layout) {
  std::string text = fmt::format("data {}, expert {}, tensor {}, pipeline {}, ZeRO {}", layout.data, layout.expert,
                                 layout.tensor, layout.pipeline, layout.zero_stage);
  if (layout.context > 1) text += fmt::format(", context {}", layout.context);
  if (layout.sequence_parallel) text += ", sequence parallel";
  if (layout.virtual_stages > 1) text += fmt::format(", {} virtual stages", layout.virtual_stages);
  if (layout.pipeline_schedule == PipelineSchedule::ZeroBubble) text += ", zero bubble";
  if (layout.recomputation == Recomputation::Selective) text += ", attention core computed again";
  if (layout.recomputation == Recomputation::Full) text += ", blocks computed again";
  return text;
}

void add_workload_facts(const Workload& workload, std::vector<Fact>& facts) {
  const ParallelLayout& layout = workload.layout;
  const Batch& batch = workload.batch;
  facts.push_back(count("ranks", "rank_count", layout.world_size()));
  facts.push_back(words("parallel", "parallel", parallel_text(layout)));
  if (workload.task != StepTask::Training) {
    facts.push_back(words("task", "task",
                          fmt::format("{}{}", workload.task == StepTask::Prefill ? "prefill" : "decode",
                                      workload.experts_on_host ? ", experts on the host" : "")));
  }
  facts.push_back(
      words("batch of a rank", "batch",
            fmt::format("{} x {} sequences of {} tokens{}", batch.micro_batch_count, batch.micro_batch, batch.sequence,
                        workload.task == StepTask::Decode ? " in the cache, one new" : "")));
  facts.push_back(words("schedule", "schedule", schedule_text(workload.schedule)));
}

void add_memory_facts(const Workload& workload, Bytes device_memory, std::vector<Fact>& facts) {
  const MemoryReport report = report_memory(workload, device_memory);
  const StageMemory& bytes = report.largest;
  facts.push_back(memory("weights of a rank", "weight_bytes", bytes.weights + bytes.master));
  facts.push_back(memory("moments of a rank", "moment_bytes", bytes.moments));
  facts.push_back(memory("gradients of a rank", "gradient_bytes", bytes.gradients));
  facts.push_back(memory("activations of a rank", "activation_bytes", bytes.activations));
  facts.push_back(memory("buffers of a rank", "buffer_bytes", bytes.buffers));
  facts.push_back(words("memory of a rank", "memory", to_text(report)));
}

/// Of a pipeline, those of its first stage.
std::vector<OperatorRow> operator_rows(const StepPlan& plan) {
  std::map<std::pair<OpKind, Phase>, OperatorRow> rows;
  for (const Operator& op : plan.operators) {
    OperatorRow& row = rows[{op.kind, op.phase}];
    row.kind = op.kind;
    row.phase = op.phase;
    ++row.count;
    for (const Work& work : op.work) {
      row.work += flops(work);
      row.memory += bytes(work, plan.bytes_per_element);
    }
    if (op.communication) row.communication += op.communication->buffer;
  }
  std::vector<OperatorRow> out;
  for (const auto& [key, row] : rows) out.push_back(row);
  return out;
}

std::string or_dash(double value, std::string text) { return value > 0 ? std::move(text) : std::string("-"); }

}  // namespace

Description describe_model(const MoeModel& model, std::int64_t sequence) {
  Description out{"model", model.name};
  add_model_facts(model, out.facts);
  add_model_costs(model, std::min(sequence, model.max_sequence), out.facts);
  if (!model.source.empty()) out.note = "Source: " + model.source;
  return out;
}

Result<Description> describe_workload(std::string_view kind, std::string_view name, const Workload& workload,
                                      Bytes device_memory) {
  // Which slot is best needs operator times; the amount of work does not depend on it.
  Workload any_slot = workload;
  if (workload.schedule.kind == ScheduleKind::Shortcut) {
    any_slot.schedule.forward_slot = workload.schedule.forward_slot.value_or(1);
    any_slot.schedule.backward_slot = workload.schedule.backward_slot.value_or(1);
  }
  const Result<std::vector<StepPlan>> plans = build_stage_plans(request_of(any_slot));
  if (!plans.ok()) return plans.error();
  Description out{std::string(kind), std::string(name)};
  add_model_facts(workload.model, out.facts);
  add_workload_facts(workload, out.facts);
  add_memory_facts(workload, device_memory, out.facts);
  out.operators = operator_rows(plans->front());
  if (plans->size() > 1) out.facts.push_back(words("operators of", "operators_of", "a rank of the first stage"));
  return out;
}

Description describe_profile(const HardwareProfile& profile) {
  Description out{"hardware profile", profile.name};
  out.note = describe(profile);
  return out;
}

void append(Description& description, const Description& more) {
  description.facts.insert(description.facts.end(), more.facts.begin(), more.facts.end());
  if (!more.note.empty()) description.note += (description.note.empty() ? "" : "\n") + more.note;
}

std::string to_text(const Description& description, const Style& style) {
  std::string out = fmt::format("{} {}\n", description.kind, style.paint(description.name, Tone::Strong));
  Table facts({{""}, {""}});
  for (const Fact& fact : description.facts) facts.row({fact.name, fact.text});
  out += facts.text(style, "  ");
  if (!description.operators.empty()) {
    Table table({{"operator, one step of a rank"},
                 {"phase"},
                 {"count", Align::Right},
                 {"work", Align::Right},
                 {"memory traffic", Align::Right},
                 {"communication", Align::Right}});
    for (const OperatorRow& row : description.operators) {
      table.row({std::string(to_text(row.kind)), std::string(to_text(row.phase)), fmt::format("{}", row.count),
                 or_dash(row.work.value(), pretty(row.work)), or_dash(row.memory.value(), pretty(row.memory)),
                 or_dash(row.communication.value(), pretty(row.communication))});
    }
    out += "\n" + table.text(style, "  ");
  }
  if (!description.note.empty()) out += (description.facts.empty() ? "" : "\n") + description.note;
  if (out.back() != '\n') out += '\n';
  return out;
}

Json to_json(const Description& description) {
  Json out = {{"schema", "moecast.describe/1"}, {"kind", description.kind}, {"name", description.name}};
  for (const Fact& fact : description.facts) {
    const bool whole = fact.value == std::floor(fact.value) && std::abs(fact.value) < 1e18;
    out[fact.key] = !fact.is_number ? Json(fact.text)
                    : whole         ? Json(static_cast<std::int64_t>(fact.value))
                                    : Json(fact.value);
  }
  for (const OperatorRow& row : description.operators) {
    out["operators"].push_back({{"kind", to_text(row.kind)},
                                {"phase", to_text(row.phase)},
                                {"count", row.count},
                                {"flops", row.work.value()},
                                {"memory_bytes", row.memory.count()},
                                {"communication_bytes", row.communication.count()}});
  }
  if (!description.note.empty()) out["note"] = description.note;
  return out;
}

}  // namespace moecast
