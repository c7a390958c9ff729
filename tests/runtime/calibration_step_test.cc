#include <gtest/gtest.h>

#include "hwprofiles/profile_json.h"
#include "runtime/calibration/step_bench.h"

namespace moecast {
namespace {

bool reference_fits(std::int64_t ranks) {
  const Workload workload = reference_workload(ranks, DType::F32);
  return build_step_plan(request_of(workload)).ok();
}

HardwareProfile profile() { return find_profile("a100_nvlink_8", ".").value(); }

StepPlan reference_plan(const Workload& workload) { return build_step_plan(request_of(workload)).value(); }

/// What the reference step would show if everything took so many times as long as alone.
std::vector<double> times_with(const StepPlan& plan, const HardwareProfile& profile, const InStep& in_step) {
  std::vector<double> times;
  for (const Operator& op : plan.operators) {
    double time = 0;
    for (const Work& work : op.work) {
      const double factor = std::holds_alternative<MemoryWork>(work) ? in_step.memory : in_step.products;
      time += factor * seconds(profile.device.time(work));
    }
    if (op.communication) time = in_step.communication * seconds(profile.time(*op.communication, 2));
    times.push_back(time);
  }
  return times;
}

TEST(InStep, FindsTheRatiosThatMadeTheTimes) {
  const Workload workload = reference_workload(2, DType::F32);
  const StepPlan plan = reference_plan(workload);
  const InStep found = fit_in_step(plan, 2, times_with(plan, profile(), {1.3, 1.8, 1.1}), profile());
  EXPECT_NEAR(found.products, 1.3, 1e-6);
  EXPECT_NEAR(found.memory, 1.8, 1e-6);
  EXPECT_NEAR(found.communication, 1.1, 1e-6);
}

TEST(InStep, AppliedRatiosMakeTheProfileGiveTheTimesOfTheStep) {
  const Workload workload = reference_workload(2, DType::F32);
  const StepPlan plan = reference_plan(workload);
  const InStep in_step{1.25, 2.0, 1.5};
  const std::vector<double> expected = times_with(plan, profile(), in_step);
  HardwareProfile scaled = profile();
  apply(in_step, scaled);
  const std::vector<double> actual = times_with(plan, scaled, {});
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Tables hold whole nanoseconds.
    EXPECT_NEAR(actual[i], expected[i], 1e-3 * expected[i] + 1e-7) << plan.operators[i].name();
  }
}

TEST(InStep, TheReferenceFitsAnyNumberOfRanks) {
  for (const std::int64_t ranks : {1, 2, 3, 8}) {
    EXPECT_TRUE(reference_fits(ranks)) << ranks;
  }
}

}  // namespace
}  // namespace moecast
