#pragma once

#include "base/result.h"
#include "models/step_plan.h"
#include "models/timeline.h"
#include "models/workload.h"

namespace moecast {

/// Does the schedule leave a slot open that measurements have to fill?
[[nodiscard]] bool has_open_slot(const Schedule& schedule);

/// The plan to measure with: every open slot is 1.
[[nodiscard]] Result<StepPlan> plan_with_first_slots(const Workload& workload);

/// The plan whose open slots are best under the median operator times of a measured timeline (all ranks, all steps).
[[nodiscard]] Result<StepPlan> plan_with_best_slots(const Workload& workload, const Timeline& measured);

}  // namespace moecast
