#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/campaign/campaign_clock.h"
#include "sim/campaign/checkpoint_history.h"
#include "sim/campaign/policy.h"

namespace moecast {

/// Training between two interruptions: stretches of one speed and one cadence, each booked when it is closed. Speed
/// changes take effect with the next step.
class TrainingRun {
 public:
  /// All of them outlive the run.
  TrainingRun(const CampaignScenario& scenario, const Policy& policy, CampaignClock& clock, CheckpointHistory& history,
              CampaignOutcome& outcome);

  /// A stretch begins now, with this many nodes missing.
  void begin(std::size_t missing_count);
  /// Ends the stretch at `until`, which lies in or at the end of the step or stall after its n-th step, or in the
  /// middle of a step that is then lost.
  void close(std::int64_t n, Instant until);
  /// ... at what was asked for: all steps done; the end of the stretch at this speed; an interruption.
  void close_finished();
  void close_at_switch();
  void close_at(Instant at) { close(steps_done(at), at); }
  /// Training goes on from this step.
  void go_back_to(std::int64_t step) { step_ = step; }

  void begin_slow_spell(const Failure& failure);
  void end_slow_spells(Instant at);
  /// The step in progress at `at` ends as it began.
  void change_speed_after(Instant at);

  [[nodiscard]] std::int64_t step() const { return step_; }
  [[nodiscard]] Instant finish_at() const { return finish_at_; }  // if nothing happens
  [[nodiscard]] Instant switch_at() const { return switch_at_; }  // speed or cadence changes
  [[nodiscard]] Instant slow_until() const;                       // the first slow spell to end

 private:
  struct SlowSpell {
    Instant until{};
    double factor = 1;
  };

  [[nodiscard]] double slowdown(std::size_t missing_count) const;
  void set_end();
  [[nodiscard]] std::int64_t steps_done(Instant at) const;
  /// When the n-th step of the stretch and the stall after it are over.
  [[nodiscard]] Instant clean_after(std::int64_t n) const { return run_.start + run_.elapsed(n) + run_.stall_after(n); }
  void count_checkpoints(std::int64_t n);

  const CampaignScenario& scenario_;
  const Policy& policy_;
  CampaignClock& clock_;
  CheckpointHistory& history_;
  CampaignOutcome& outcome_;
  const Duration plain_;
  std::int64_t step_ = 0;        // done, in the model's present state
  std::int64_t high_water_ = 0;  // most that were ever done
  CheckpointRun run_;
  std::optional<std::int64_t> switch_after_;  // steps of the stretch after which speed or cadence changes
  Instant switch_at_ = Instant::max();
  Instant finish_at_ = Instant::max();
  std::vector<SlowSpell> slow_;
};

}  // namespace moecast
