#pragma once

#include <cstdint>
#include <vector>

#include "hwprofiles/profile.h"
#include "models/workload.h"
#include "runtime/backend.h"
#include "runtime/comm/groups.h"

namespace moecast {

/// Kernels take longer inside a training step than in a row of their own: caches hold other operators' operands, and a
/// processor that has waited for the link comes back slower. So calibration also trains a small reference model, unlike
/// any that users have, and compares its operators with what the kernel tables say of them.
struct InStep {              // time inside the reference step / time alone
  double products = 1;       // matrix products and attention
  double memory = 1;         // memory-bound kernels
  double communication = 1;  // collectives
};

/// The reference: a dense block and a top-2 MoE block, sequential, one expert group over all ranks; of a size that a
/// core, or an accelerator, works on for some milliseconds.
[[nodiscard]] Workload reference_workload(std::int64_t ranks, DType compute, bool accelerator = false);

/// Trains `step_count` steps (and a few before that do not count) on random tokens; the mean time of each operator
/// (index = OpId), seconds: a step is a sum of many operators, and what disturbs single ones adds up in it, so means
/// and not medians. Every rank calls it at the same point with the same arguments.
[[nodiscard]] Result<std::vector<double>> bench_step(const Workload& workload, const StepPlan& plan, Rank rank,
                                                     Backend& backend, const Groups& groups, std::int64_t step_count);

/// The ratios that explain the measured times best: least squares over the compute operators, weighted so that an
/// operator counts by its time; for communication the median over the all-to-alls. `times` as from bench_step.
[[nodiscard]] InStep fit_in_step(const StepPlan& plan, std::int64_t ranks, const std::vector<double>& times,
                                 const HardwareProfile& profile);

/// Multiplies every kernel and collective of the profile by its ratio.
void apply(const InStep& in_step, HardwareProfile& profile);

}  // namespace moecast
