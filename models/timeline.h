#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/step_plan.h"

namespace moecast {

/// One operator's execution on one rank: from when its lane began it (a collective may first wait for its peers) to
/// when it was done.
struct Span {
  OpId op;
  Rank rank;
  Lane lane = Lane::Compute;
  std::int32_t step = 0;
  Instant start{};
  Instant end{};
  [[nodiscard]] Duration duration() const { return end - start; }
};

/// What happened, measured or simulated: spans refer to the operators of `plan`. The same metrics judge both.
struct Timeline {
  std::string source;  // "measured", "simulated", with what made it: "measured: cpu x2, inproc paced 1 GB/s"
  StepPlan plan;       // of all ranks, or of the first pipeline stage
  std::int64_t rank_count = 1;
  std::vector<Span> spans;  // ordered by (step, rank, lane, start)
  std::vector<StepPlan> later_stages = {};
  /// Ranks that have spans, ascending, and how many ranks each stands for, itself included; empty: all have their own.
  std::vector<std::pair<Rank, std::int64_t>> stands_for = {};

  [[nodiscard]] std::int64_t stage_count() const { return 1 + static_cast<std::int64_t>(later_stages.size()); }
  /// Stages hold equal numbers of consecutive ranks: the pipeline is the outermost dimension of a layout.
  [[nodiscard]] std::int64_t stage_of(Rank rank) const { return rank.value() * stage_count() / rank_count; }
  [[nodiscard]] const StepPlan& plan_of_stage(std::int64_t stage) const {
    return stage == 0 ? plan : later_stages[static_cast<std::size_t>(stage - 1)];
  }
  [[nodiscard]] const StepPlan& plan_of(Rank rank) const { return plan_of_stage(stage_of(rank)); }
};

/// Lays one rank's plan out in time with the given duration for each operator (index = OpId), lanes first in, first
/// out, dependencies obeyed, nothing else in the way: the best that the plan allows. One step, rank 0.
[[nodiscard]] Timeline project(const StepPlan& plan, const std::vector<Duration>& durations);

/// The same for the stages of a pipeline, one rank each: durations[stage][OpId]. A Receive ends no sooner than the Send
/// that it matches; its own duration is not used. The plans do not wait for each other for ever (asserted).
[[nodiscard]] Timeline project_stages(std::span<const StepPlan> plans,
                                      std::span<const std::vector<Duration>> durations);

}  // namespace moecast
