#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "sim/folding.h"
#include "sim/operator_cost.h"

namespace moecast {

/// One phase of a collective of one class of groups.
struct MeetingPhase {
  std::int32_t pattern = 0;  // of its kind
  Duration latency{};
  double bytes = 0;
  double rate = 0;   // alone, undisturbed
  double scale = 1;  // of the pattern's loads
};

/// An operator whose ranks meet others.
struct MeetingOperator {
  std::int32_t kind = 0;
  std::int32_t first_group = 0;  // classes of groups whose ranks run it: first_group ... + group_count
  std::int32_t group_count = 0;
  std::vector<std::int32_t> first_phase;  // [group_count + 1]: into MeetingPlan::phases
  std::vector<std::int32_t> operators;    // by pipeline stage of a member: its operator; one for all stages, else
  std::optional<std::int32_t> receive;    // of a point-to-point: the operator at the other end
};

/// Who meets whom over what, and at what cost: the collectives of the plans of all stages, on folded ranks. Operators
/// are numbered through the stages.
struct MeetingPlan {
  FoldedNetwork network;
  std::vector<std::optional<std::int32_t>> meeting_of;  // by operator: into meetings; none: it runs on its rank alone
  std::vector<MeetingOperator> meetings;
  std::vector<MeetingPhase> phases;
  std::vector<std::int32_t> receives;  // operators that end when bytes arrive, ascending
};

/// `slowdown` empty or by rank. Every group has as many Send as Receive operators between two stages, and all stages
/// have as many collectives over World and Pipeline (asserted).
[[nodiscard]] MeetingPlan plan_meetings(std::span<const StepPlan> stages, const ParallelLayout& layout,
                                        const PlanCosts& costs, const std::vector<double>& slowdown, bool fold);

}  // namespace moecast
