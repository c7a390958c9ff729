#pragma once

#include <functional>
#include <vector>

#include "sim/campaign/campaign.h"
#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

inline Duration seconds_of(double value) { return duration_from_seconds(value); }

/// One node of eight GPUs, steps of one second, no failures, nothing saved, recovery in no time.
[[nodiscard]] CampaignScenario plain_campaign();
/// A mode that stops the job every `mean` seconds on average (whole cluster together); `replaced`: memory lost.
[[nodiscard]] FailureMode crash_mode(double mean, double replaced = 0);
/// Sizes such that a full snapshot, persist and load take these times, and nothing else.
[[nodiscard]] CheckpointCosts costs_of(double snapshot, double persist, double load);
/// Blocking, asynchronous or PEC.
[[nodiscard]] CheckpointPolicy checkpoint_policy(CheckpointKind kind, std::int64_t interval, ExpertCounts counts = {});

/// The mean of `value` over the replicas, with the Monte Carlo's 99 % interval.
[[nodiscard]] MeanInterval mean_of(const std::vector<CampaignOutcome>& outcomes,
                                   const std::function<double(const CampaignOutcome&)>& value);

}  // namespace moecast
