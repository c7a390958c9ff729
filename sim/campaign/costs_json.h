#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/campaign/campaign_source.h"

namespace moecast {

/// The object "checkpoint" of a campaign. With a workload the sizes may be missing: they are then its plan's under
/// `policy`, and `derived` says so. Empty if there is no such object.
[[nodiscard]] CheckpointCosts read_costs(JsonReader& campaign, const CampaignSource& source,
                                         const PolicySettings& policy, std::vector<std::string>& derived);
[[nodiscard]] nlohmann::ordered_json to_json(const CheckpointCosts& costs);

}  // namespace moecast
