#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/random.h"
#include "sim/campaign/campaign_clock.h"
#include "sim/campaign/checkpoint_history.h"
#include "sim/campaign/node_pool.h"
#include "sim/campaign/policy.h"
#include "sim/campaign/training_run.h"

namespace moecast {

/// From the moment when training stops to the moment when it goes on: detection and diagnosis, in which other failures
/// join; then replacement, restart, load and replay, each of which a further failure cuts short.
class Recovery {
 public:
  /// All of them outlive the recovery.
  Recovery(const CampaignScenario& scenario, std::int64_t replica, const Policy& policy, CampaignClock& clock,
           TrainingRun& training, CheckpointHistory& history, CampaignOutcome& outcome);

  /// Training has stopped, at the clock's time, and may go on by this plan; none: the horizon came first. Versions
  /// begun after `taint` are worthless. Without a failure it is a planned stop, to let repaired nodes join.
  [[nodiscard]] std::optional<RestorePlan> recover(const Failure* failure, Instant taint);

  [[nodiscard]] const LostState& damage() const { return damage_; }
  [[nodiscard]] std::size_t missing_count() const { return missing_.size(); }
  /// Nothing had failed, up to the end.
  [[nodiscard]] bool planned_stop() const { return planned_stop_; }
  /// When the first repaired node can join; never if none is missing.
  [[nodiscard]] Instant rejoin_at() const;
  /// Elastic: repaired nodes take the places of missing ones.
  void let_repaired_join();

 private:
  struct Phase {
    TimeCause cause = TimeCause::Restart;
    Instant until{};
  };
  struct Plan {
    RestorePlan restore;
    Instant ready_at{};  // when the nodes are there
    std::vector<Phase> phases;
  };

  /// Adds a failure at `at` to the damage, and stands still until it is detected and diagnosed.
  void join(const Failure& failure, Instant at);
  void add_damage(const Failure& failure, Instant at);
  void lose_node(const Failure& failure, std::int64_t node, Instant at);
  [[nodiscard]] Plan plan();
  [[nodiscard]] Duration drawn(const TimeDistribution& time, std::uint64_t draw) const;
  /// The first crash before `end`, taken; slow spells on the way begin, and there is nothing to corrupt.
  [[nodiscard]] std::optional<Failure> crash_before(Instant end);
  /// Goes through the phases, up to the failure that cuts them.
  void carry_out(const Plan& plan, const std::optional<Failure>& failure);
  void replace_missing(Instant ready_at);

  const CampaignScenario& scenario_;
  const Policy& policy_;
  CampaignClock& clock_;
  TrainingRun& training_;
  CheckpointHistory& history_;
  CampaignOutcome& outcome_;
  CounterRandom restarts_;
  std::uint64_t replica_;
  std::uint64_t restart_count_ = 0;
  NodePool pool_;
  std::vector<std::int64_t> missing_;  // nodes without a machine, ascending
  LostState damage_;
  bool planned_stop_ = false;
};

}  // namespace moecast
