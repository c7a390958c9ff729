#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "sim/campaign/policy.h"

namespace moecast {

/// Where the wall time of a campaign goes. Every tick has one cause, so the parts sum to the wall time.
enum class TimeCause {
  Useful,         // steps done for the first time, at plain speed
  Stall,          // training waits for a checkpoint
  Detection,      // nobody knows yet, or it is not known which node
  Replacement,    // waiting for a spare or for a repair
  Restart,        // processes and communicators
  Load,           // state back into the devices
  Recomputation,  // steps done again, replays, and the step that a failure cut short
  Degraded,       // what slow devices or missing nodes add to steps done for the first time
};
inline constexpr std::size_t kTimeCauseCount = 8;
[[nodiscard]] std::string_view name_of(TimeCause cause);

/// What one replica came to.
struct CampaignOutcome {
  bool finished = false;  // all steps done (false: the horizon came first)
  Duration wall{};
  std::array<Duration, kTimeCauseCount> time{};
  std::int64_t steps = 0;                      // of the model at the end
  std::int64_t useful_steps = 0;               // done at least once
  std::int64_t failures = 0;                   // that stopped the job or struck while it stood still
  std::int64_t interruptions = 0;              // times that training stopped
  std::vector<std::int64_t> failures_by_mode;  // every effect, also those that stop nothing
  std::array<std::int64_t, kRestoreSourceCount> restores{};
  std::int64_t checkpoints = 0;          // begun
  std::int64_t storage_checkpoints = 0;  // ... for storage
  double memory_bytes = 0;               // copied into host memory, whole job
  double storage_bytes = 0;              // written to storage
  double host_memory = 0;                // bytes for the checkpoints of the rank that has most, at the end
  Duration lost_age{};  // sum over interruptions of the time from the beginning of the restored version to the stop
  double plt = 0;
  ExpertCounts experts = {0, 0};   // K at the end
  double node_hours_replaced = 0;  // of nodes in repair
  double gpu_hours = 0;            // of the job's own GPUs, over the wall time
  double cost = 0;

  [[nodiscard]] Duration of(TimeCause cause) const { return time[static_cast<std::size_t>(cause)]; }
  /// Goodput (ETTR): useful time over wall time.
  [[nodiscard]] double goodput() const;
  /// Share of the wall time during which training ran at all, whether or not its steps were kept.
  [[nodiscard]] double running_share() const;

  friend bool operator==(const CampaignOutcome&, const CampaignOutcome&) = default;
};

}  // namespace moecast
