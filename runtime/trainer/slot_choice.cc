#include "runtime/trainer/slot_choice.h"

#include <string>
#include <unordered_map>

#include "models/metrics.h"

namespace moecast {
namespace {

/// Operators keep their names when slots move; ids change. Of the micro-batches' equal names the last one's time
/// counts.
std::unordered_map<std::string, Duration> times_by_name(const Timeline& measured) {
  const std::vector<Duration> medians = median_durations(measured);
  std::unordered_map<std::string, Duration> times;
  for (const Operator& op : measured.plan.operators) times[op.name()] = medians[op.id.index()];
  return times;
}

}  // namespace

bool has_open_slot(const Schedule& schedule) {
  return schedule.kind == ScheduleKind::Shortcut && (!schedule.forward_slot || !schedule.backward_slot);
}

Result<StepPlan> plan_with_first_slots(const Workload& workload) {
  StepPlanRequest request = request_of(workload);
  if (has_open_slot(request.schedule)) {
    request.schedule.forward_slot = request.schedule.forward_slot.value_or(1);
    request.schedule.backward_slot = request.schedule.backward_slot.value_or(1);
  }
  return build_step_plan(request);
}

Result<StepPlan> plan_with_best_slots(const Workload& workload, const Timeline& measured) {
  const std::unordered_map<std::string, Duration> times = times_by_name(measured);
  return build_step_plan(request_of(workload, [&](const Operator& op) {
    const auto found = times.find(op.name());
    ASSERT(found != times.end(), "{} was never measured", op.name());
    return found->second;
  }));
}

}  // namespace moecast
