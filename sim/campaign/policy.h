#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "models/checkpoint/policy.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/campaign/checkpoint_history.h"
#include "sim/campaign/checkpoint_run.h"

namespace moecast {

/// What one interruption has destroyed so far. Node lists are ascending, without repeats.
struct LostState {
  Instant stopped_at{};               // when training stopped
  Instant taint = Instant::max();     // versions begun after it are worthless (silent corruption)
  std::int64_t step = 0;              // steps that were done when it stopped
  std::vector<std::int64_t> stopped;  // nodes whose processes, and so device memory, are gone
  std::vector<std::int64_t> lost;     // those of them whose host memory is gone too
  std::vector<std::int64_t> missing;  // nodes without a machine now, those of earlier interruptions included
};

enum class RestoreSource { Storage, Memory, Peers, Survivors };
inline constexpr std::size_t kRestoreSourceCount = 4;

/// How a policy comes back. Training goes on from `resume_step` after load and replay.
struct RestorePlan {
  CheckpointHistory::Version version;  // that is loaded
  std::int64_t resume_step = 0;        // version.step, or later after a replay
  RestoreSource source = RestoreSource::Storage;
  Duration load{};
  Duration replay{};            // counts as recomputation
  bool writes_survive = false;  // what was on its way to storage still gets there (nodes that are lost end it anyway)
  bool keeps_running = false;   // elastic: no replacement, no new processes; `load` is the reconfiguration
};

/// What a policy counts by itself.
struct PolicyReport {
  double plt = 0;
  ExpertCounts experts = {0, 0};  // now
};

/// The seam of checkpoint policies. One object serves one replica. `cadence` and `plan_restore` ask and change nothing;
/// `restored` changes.
class Policy {
 public:
  virtual ~Policy() = default;

  /// The cadence of steps after `step`, when a step takes `step_time` (longer than the plain step while degraded).
  [[nodiscard]] virtual Cadence cadence(std::int64_t step, Duration step_time) const = 0;
  /// How to come back from `damage`, decided at `now`.
  [[nodiscard]] virtual RestorePlan plan_restore(const CheckpointHistory& history, const LostState& damage,
                                                 Instant now) const = 0;
  /// The plan was carried out.
  virtual void restored(const RestorePlan&, const LostState&) {}    // nothing to keep, unless a policy counts
  [[nodiscard]] virtual PolicyReport report() const { return {}; }  // nothing counted
  /// Bytes that one checkpoint moves: into memory, and to storage when it goes there (whole job).
  [[nodiscard]] virtual double memory_bytes() const = 0;
  [[nodiscard]] virtual double storage_bytes() const = 0;
  /// Most host memory that checkpoints of one rank fill, in bytes.
  [[nodiscard]] virtual double host_memory() const = 0;
};

/// One entry of the table of policies.
struct PolicyKind {
  std::string_view name;
  std::string_view summary;
  std::unique_ptr<Policy> (*make)(const CampaignScenario&);
};
[[nodiscard]] std::span<const PolicyKind> policy_kinds();
[[nodiscard]] const PolicyKind& policy_kind_of(const PolicySettings& settings);
/// The scenario outlives the policy.
[[nodiscard]] std::unique_ptr<Policy> make_policy(const CampaignScenario& scenario);

/// Steps between two checkpoints that one writer in flight can keep up with: `wanted`, or its smallest multiple whose
/// time is not below `persist` (a checkpoint more often would only wait).
[[nodiscard]] std::int64_t interval_above_floor(std::int64_t wanted, Duration step, Duration stall, Duration persist);

/// What the plans of several policies share: storage alone, everybody rolls back and reads everything. What was on its
/// way to storage when training stopped is lost with the processes that wrote it.
[[nodiscard]] RestorePlan restore_from_storage(const CheckpointHistory& history, const LostState& damage,
                                               const CheckpointCosts& costs);

/// Copies of the newest version in memory, in groups of `copies` neighbouring nodes: if every group keeps a member and
/// the version is not older than the plan's, the plan takes it from there; else the plan stays as it is.
void take_from_copies(const CampaignScenario& scenario, const CheckpointHistory& history, const LostState& damage,
                      std::int64_t copies, RestorePlan& plan);

/// Those that still run have the state of the step at which training stopped: the plan goes on from it.
void resume_from_survivors(const LostState& damage, RestorePlan& plan);

}  // namespace moecast
