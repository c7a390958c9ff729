#pragma once

#include "sim/campaign/campaign_scenario.h"
#include "sim/campaign/checkpoint_run.h"

namespace moecast {

/// Cadence of checkpoints that are copied beside forward and backward and written in the background, one at a time:
/// stall max(0, T_snapshot - T_F&B) (eq 10 of MoC-System, arXiv 2408.04307) and what training loses to the traffic;
/// usable on storage T_snapshot + T_persist after it began; an interval below the persist time is stretched.
/// `snapshot_share`, `persist_share`: parts of the experts.
[[nodiscard]] Cadence overlapped_cadence(const CampaignScenario& scenario, std::int64_t interval, Duration step_time,
                                         double snapshot_share, double persist_share);

/// Full checkpoints of that kind every `interval` steps, as a last resort of a policy that needs none; 0: none.
[[nodiscard]] Cadence last_resort_cadence(const CampaignScenario& scenario, std::int64_t interval, Duration step_time);

}  // namespace moecast
