#pragma once

#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// The campaign of run_campaign without any jump or arithmetic: step after step, with a list of versions and, for PEC,
/// a list of saved versions for every expert; selections by select_experts, lost tokens by LossAccount. Shares with the
/// executor only the failures, the node pool, the costs and the stall of one checkpoint. Not for elastic policies.
[[nodiscard]] CampaignOutcome run_step_by_step(const CampaignScenario& scenario, std::int64_t replica);

}  // namespace moecast
