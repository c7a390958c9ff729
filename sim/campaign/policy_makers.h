#pragma once

#include <memory>

#include "sim/campaign/policy.h"

namespace moecast {

// One maker for each policy, in the file of its name. The settings in the scenario are of the right kind.
[[nodiscard]] std::unique_ptr<Policy> make_no_checkpoints(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_blocking_full(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_asynchronous_full(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_pec_one_level(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_pec_two_level(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_peer_replicas(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_just_in_time(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_sparse_window(const CampaignScenario& scenario);
[[nodiscard]] std::unique_ptr<Policy> make_elastic(const CampaignScenario& scenario);

}  // namespace moecast
