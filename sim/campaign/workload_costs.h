#pragma once

#include <optional>

#include "base/result.h"
#include "base/units.h"
#include "hwprofiles/profile.h"
#include "models/workload.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// What a workload says about its campaign: the same plans that are trained from and simulated step by step. Nothing
/// else in this folder knows workloads.

/// One step in virtual time.
struct StepTimes {
  Duration step{};
  Duration forward_backward{};  // until the first weight changes on any rank: beside it a snapshot may run
  double communicating = 0;     // share of the step during which bytes move between ranks
};
/// BadInput if model, layout and schedule do not go together. At most hardware.rank_count() ranks.
[[nodiscard]] Result<StepTimes> simulated_step(const Workload& workload, const HardwareProfile& hardware);

/// Time by which training gets longer for each second that a snapshot, copied at `rate`, would take alone:
/// - while bytes move between ranks (a share `communicating` of the step) and they cross the link to the host too, both
///   have their max-min fair part of it;
/// - while the device computes, compute takes `compute_beside_copy` times as long.
/// An upper bound where a schedule hides communication: what gets longer is taken to be exposed.
[[nodiscard]] double snapshot_interference(double communicating, const HardwareProfile& hardware, BytesPerSecond rate);

/// Where the experts of the workload live; none if it has no experts, or not as many in every layer.
[[nodiscard]] std::optional<ExpertPlacement> expert_placement(const Workload& workload);

/// Sizes alone, no rates: those of CheckpointPlan under this policy. Policies that have no plan of their own save
/// everything, evenly divided.
/// - Parts: the plan of every expert and that of none, bytes of the rank that has most.
/// - `uneven`: for every K that the policy can come to, most that any rank has in one turn of the rotation, experts
///   loaded alike.
/// - `held`: what rank 0 needs to go on, of which replicas write a part each.
/// BadInput where plans do not cover the layout.
[[nodiscard]] Result<CheckpointCosts> planned_sizes(const Workload& workload, const PolicySettings& policy);

}  // namespace moecast
