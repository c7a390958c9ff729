#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "models/forward_chain.h"
#include "models/plan_builder.h"
#include "models/stage_parts.h"
#include "models/step_plan.h"
#include "models/timeline.h"

namespace moecast {
namespace {

/// [stage][part]: what every stage runs.
using StageChains = std::vector<std::vector<ForwardChain>>;

Error bad(std::string place, std::string message) {
  return Error{ErrorKind::BadInput, std::move(place), std::move(message)};
}

/// Tokens that one rank routes in a micro-batch.
std::int64_t routed_tokens(const StepPlanRequest& request) {
  const ParallelLayout& layout = request.layout;
  const std::int64_t tokens = request.task == StepTask::Decode ? request.batch.micro_batch : request.batch.tokens();
  return tokens / layout.context / (layout.sequence_parallel ? layout.tensor : 1);
}

Status check_moe(const StepPlanRequest& request, const MoeSite& site) {
  const MoeFfn& moe = *request.model.blocks[site.layer.index()].moe;
  const std::string place = fmt::format("block {}", site.layer.value());
  const std::int64_t chunks = request.schedule.chunk_count;
  const std::optional<std::int64_t> capacity = moe.capacity(routed_tokens(request));
  if (!capacity && chunks > 1) return bad(place, "chunks divide the capacity, and a dropless MoE has none");
  if (capacity && *capacity < chunks) {
    return bad(place, fmt::format("the capacity of {} slots cannot be divided into {} chunks", *capacity, chunks));
  }
  if (request.schedule.kind != ScheduleKind::Shortcut) return {};
  for (const auto& [name, slot] : {std::pair("forward_slot", request.schedule.forward_slot),
                                   std::pair("backward_slot", request.schedule.backward_slot)}) {
    if (slot && (*slot < 1 || *slot > site.window() + 1)) {
      return bad(place, fmt::format("{} {} is outside the window of {} operators: expected 1..{}", name, *slot,
                                    site.window(), site.window() + 1));
    }
  }
  return {};
}

/// What inference has no use for.
Status check_task(const StepPlanRequest& request) {
  const ParallelLayout& layout = request.layout;
  if (request.task == StepTask::Training) {
    return request.experts_on_host ? bad("experts_on_host", "training needs its experts on the device") : Status();
  }
  if (layout.recomputation != Recomputation::None) {
    return bad("parallel", "recomputation belongs to a backward, and inference has none");
  }
  if (layout.zero_stage > 0) return bad("parallel", "zero_stage divides an optimizer's state, and inference has none");
  if (request.task != StepTask::Decode) return {};
  if (request.batch.sequence >= request.model.max_sequence) {
    return bad("batch", fmt::format("a cache of {} tokens leaves no room for one more: the model's max_sequence is {}",
                                    request.batch.sequence, request.model.max_sequence));
  }
  if (layout.context > 1) return bad("parallel", "one token cannot be divided over context ranks");
  if (layout.sequence_parallel && request.batch.micro_batch % layout.tensor != 0) {
    return bad("batch", fmt::format("one token each of {} sequences cannot be divided evenly over {} sequence-parallel "
                                    "tensor ranks: expected a multiple of {}",
                                    request.batch.micro_batch, layout.tensor, layout.tensor));
  }
  return {};
}

/// How context and sequence parallelism divide a sequence, and an interleaved pipeline the micro-batches.
Status check_batch_division(const StepPlanRequest& request) {
  const ParallelLayout& layout = request.layout;
  const Batch& batch = request.batch;
  if (layout.context > 1 && batch.sequence % (2 * layout.context) != 0) {
    // Megatron-LM: rank i takes parts i and 2 c - 1 - i of 2 c, so that causal attention is even.
    return bad("batch",
               fmt::format("sequence {} cannot be divided into 2 parts for each of {} context ranks: expected a "
                           "multiple of {}",
                           batch.sequence, layout.context, 2 * layout.context));
  }
  const bool decodes = request.task == StepTask::Decode;  // check_task has seen to it
  if (layout.sequence_parallel && !decodes && batch.sequence / layout.context % layout.tensor != 0) {
    return bad("batch", fmt::format("{} tokens of a sequence cannot be divided evenly over {} sequence-parallel tensor "
                                    "ranks: expected a multiple of {}",
                                    batch.sequence / layout.context, layout.tensor, layout.tensor));
  }
  if (layout.virtual_stages > 1 && batch.micro_batch_count % layout.pipeline != 0) {
    return bad("batch",
               fmt::format("an interleaved pipeline takes its micro-batches in groups of {}: micro_batch_count "
                           "{} is not a multiple",
                           layout.pipeline, batch.micro_batch_count));
  }
  return {};
}

Status check(const StepPlanRequest& request, const StageChains& stages) {
  const Batch& batch = request.batch;
  const Schedule& schedule = request.schedule;
  if (batch.micro_batch < 1 || batch.micro_batch_count < 1 || batch.sequence < 1) {
    return bad("batch", fmt::format("expected positive sizes, found micro_batch {}, micro_batch_count {}, sequence {}",
                                    batch.micro_batch, batch.micro_batch_count, batch.sequence));
  }
  if (batch.sequence > request.model.max_sequence) {
    return bad("batch", fmt::format("sequence {} is longer than the model's max_sequence {}", batch.sequence,
                                    request.model.max_sequence));
  }
  if (schedule.chunk_count < 1)
    return bad("schedule", fmt::format("expected 1 chunk or more, found {}", schedule.chunk_count));
  if (schedule.kind == ScheduleKind::Sequential && schedule.chunk_count > 1) {
    return bad("schedule", fmt::format("a sequential schedule has one chunk, found {}", schedule.chunk_count));
  }
  if (schedule.kind != ScheduleKind::Shortcut && (schedule.forward_slot || schedule.backward_slot)) {
    return bad("schedule", "only a shortcut schedule has expert slots");
  }
  RETURN_IF_ERROR(check_task(request));
  RETURN_IF_ERROR(check_batch_division(request));
  for (const std::vector<ForwardChain>& parts : stages) {
    for (const ForwardChain& chain : parts) {
      for (const MoeSite& site : chain.sites) RETURN_IF_ERROR(check_moe(request, site));
    }
  }
  return {};
}

Result<StageChains> stage_chains(const StepPlanRequest& request) {
  StageChains stages;
  for (std::int64_t stage = 0; stage < request.layout.pipeline; ++stage) {
    stages.emplace_back();
    for (const ModelPart& part : parts_of_stage(request.model, request.layout, stage)) {
      Result<ForwardChain> chain = forward_chain(request.model, part);
      if (!chain.ok()) return chain.error();
      stages.back().push_back(std::move(chain).value());
    }
  }
  return stages;
}

Result<StageChains> checked_chains(const StepPlanRequest& request) {
  RETURN_IF_ERROR(check_division(request.model, request.layout));
  Result<StageChains> stages = stage_chains(request);
  if (!stages.ok()) return stages.error();
  RETURN_IF_ERROR(check(request, *stages));
  return stages;
}

Duration wall_time(const StepPlan& plan, const OperatorTime& operator_time) {
  std::vector<Duration> durations;
  durations.reserve(plan.operators.size());
  for (const Operator& op : plan.operators) durations.push_back(operator_time(op));
  Instant end{};
  for (const Span& span : project(plan, durations).spans) end = std::max(end, span.end);
  return end - Instant{};
}

/// The slots asked for; an open one is the argmin of the wall time of one stage's step over the slots that every MoE
/// block has, smallest on ties (ScMoE section 3.2: eq 11 has the same argmin). Forward and backward do not meet, so
/// each is chosen alone.
Slots resolve_slots(const StepPlanRequest& request, const StageChains& stages) {
  Slots slots{request.schedule.forward_slot.value_or(1), request.schedule.backward_slot.value_or(1)};
  if (request.schedule.kind != ScheduleKind::Shortcut) return slots;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
  std::optional<std::size_t> timed;  // the first stage with a MoE
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    for (const ForwardChain& chain : stages[stage]) {
      for (const MoeSite& site : chain.sites) last = std::min(last, site.window() + 1);
      if (!chain.sites.empty() && !timed) timed = stage;
    }
  }
  if (!timed) return slots;
  const auto choose = [&](const std::optional<std::int64_t>& asked, std::int64_t& slot) {
    if (asked || last == 1) return;
    ASSERT(request.operator_time != nullptr, "an open slot needs operator times");
    std::int64_t best = 1;
    Duration best_time = Duration::max();
    for (slot = 1; slot <= last; ++slot) {
      const auto stage = static_cast<std::int64_t>(*timed);
      const Duration time =
          wall_time(PlanBuilder(request, stages[*timed], stage, slots).build(), request.operator_time);
      if (time < best_time) best = slot;
      best_time = std::min(best_time, time);
    }
    slot = best;
  };
  choose(request.schedule.forward_slot, slots.forward);
  choose(request.schedule.backward_slot, slots.backward);
  return slots;
}

}  // namespace

Status check_plan(const StepPlanRequest& request) {
  const Result<StageChains> stages = checked_chains(request);
  return stages.ok() ? Status() : Status(stages.error());
}

Result<std::vector<StepPlan>> build_stage_plans(const StepPlanRequest& request) {
  const Result<StageChains> stages = checked_chains(request);
  if (!stages.ok()) return stages.error();
  const Slots slots = resolve_slots(request, *stages);
  std::vector<StepPlan> plans;
  for (std::size_t stage = 0; stage < stages->size(); ++stage) {
    plans.push_back(PlanBuilder(request, (*stages)[stage], static_cast<std::int64_t>(stage), slots).build());
    if (request.schedule.kind == ScheduleKind::Shortcut) continue;
    plans.back().schedule.forward_slot.reset();
    plans.back().schedule.backward_slot.reset();
  }
  return plans;
}

Result<StepPlan> build_step_plan(const StepPlanRequest& request) {
  if (request.layout.pipeline != 1) {
    return bad("parallel",
               fmt::format("one plan for all ranks needs a pipeline of one stage, found {}", request.layout.pipeline));
  }
  Result<std::vector<StepPlan>> plans = build_stage_plans(request);
  if (!plans.ok()) return plans.error();
  return std::move(plans->front());
}

}  // namespace moecast
