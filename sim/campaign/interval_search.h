#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/statistics.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

struct IntervalTrial {
  std::int64_t interval = 0;  // steps
  MeanInterval goodput;
};
struct IntervalSearch {
  IntervalTrial best;
  std::vector<IntervalTrial> trials;  // ascending in the interval
  /// For a stall that the checkpoint itself causes; none without one (the shortest interval is best then), or without
  /// crashes.
  std::optional<double> young, daly, exact;  // steps
};

/// The interval of the scenario's policy (window for sparse windows) with the highest mean goodput: golden-section
/// search on the logarithm of the interval in [low, high] steps. Every trial sees the same failures, so the search
/// compares policies and not luck. The policy has an interval.
[[nodiscard]] IntervalSearch find_best_interval(const CampaignScenario& scenario, std::int64_t low, std::int64_t high,
                                                unsigned threads);

/// Steps between checkpoints (or length of the window) that the policy asks for; 0: none.
[[nodiscard]] std::int64_t interval_of(const PolicySettings& policy);

/// The same scenario with this interval.
[[nodiscard]] CampaignScenario with_interval(CampaignScenario scenario, std::int64_t interval);

}  // namespace moecast
