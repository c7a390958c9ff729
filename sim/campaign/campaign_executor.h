#pragma once

#include <cstdint>

#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// One replica of the campaign, jumping from event to event: time and memory do not depend on the number of steps. A
/// pure function of the scenario and the replica's number. What counts as what:
/// - A failure stops training at once. Detection and diagnosis follow; failures that strike meanwhile join it.
/// - Then nodes are replaced, processes start, communicators are built, state is loaded (and steps are replayed); a
///   failure during any of these begins anew with its own detection.
/// - Speed changes (slow devices) take effect with the next step; a checkpoint's stall lies after the step that ends on
///   its turn, the one after the last step included.
[[nodiscard]] CampaignOutcome run_campaign(const CampaignScenario& scenario, std::int64_t replica);

}  // namespace moecast
