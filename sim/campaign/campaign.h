#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/statistics.h"
#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// All replicas, in the order of their numbers, the same for any number of threads. `stop`, if given, is asked before
/// each replica by whichever thread is free; once it says true the rest is left out.
[[nodiscard]] std::vector<CampaignOutcome> run_replicas(const CampaignScenario& scenario, unsigned threads,
                                                        const std::function<bool()>& stop = {});

/// Means over the replicas with the scenario's confidence.
struct CampaignSummary {
  std::int64_t replica_count = 0;
  std::int64_t finished_count = 0;
  MeanInterval goodput;        // ETTR
  MeanInterval running_share;  // of the wall time, training ran
  MeanInterval wall_hours;
  std::array<MeanInterval, kTimeCauseCount> share{};  // of the wall time, by cause
  MeanInterval useful_steps;
  MeanInterval failures, interruptions;
  std::vector<MeanInterval> failures_by_mode;
  std::array<MeanInterval, kRestoreSourceCount> restores{};
  MeanInterval lost_age_seconds;  // mean age of the restored version at an interruption
  MeanInterval plt;
  MeanInterval snapshot_experts, persist_experts;  // K at the end
  MeanInterval checkpoints, storage_checkpoints;
  MeanInterval storage_bytes, storage_bytes_per_second;
  MeanInterval host_memory;  // bytes of the rank that has most
  MeanInterval gpu_hours, cost;
  Cadence cadence;                 // of plain steps, once the first checkpoints are over
  std::vector<std::string> notes;  // what the reader of the numbers should know
};
/// At least one outcome.
[[nodiscard]] CampaignSummary summarize(const CampaignScenario& scenario, const std::vector<CampaignOutcome>& outcomes);

/// A table for the eye, and everything for programs.
[[nodiscard]] std::string to_table(const CampaignScenario& scenario, const CampaignSummary& summary);
[[nodiscard]] nlohmann::ordered_json to_json(const CampaignScenario& scenario, const CampaignSummary& summary);

/// Crashes per second that the profile means for this cluster (drawn modes).
[[nodiscard]] double crash_rate(const CampaignScenario& scenario);

}  // namespace moecast
