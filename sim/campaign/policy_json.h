#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// The object "policy": {"kind": "pec_two_level", ...} as in models/checkpoint/policy.h, or one of peer_replicas,
/// just_in_time, sparse_window and elastic with its own keys. A key that another kind owns is named as such.
[[nodiscard]] PolicySettings read_policy(JsonReader& campaign);
[[nodiscard]] nlohmann::ordered_json to_json(const PolicySettings& settings);
/// What the policy asks of the rest of the scenario: experts for PEC, nodes for copies.
void check_policy(JsonReader& campaign, const CampaignScenario& scenario);

}  // namespace moecast
