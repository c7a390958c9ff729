#pragma once

#include <cstdint>

#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/campaign/failure_stream.h"

namespace moecast {

/// The wall time of one replica and what strikes in it: every tick is booked to one cause, every failure is taken once.
class CampaignClock {
 public:
  /// Scenario and outcome outlive the clock.
  CampaignClock(const CampaignScenario& scenario, std::int64_t replica, CampaignOutcome& outcome);

  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] Instant horizon() const { return horizon_; }
  [[nodiscard]] bool over() const { return over_; }
  void end() { over_ = true; }

  void book(TimeCause cause, Duration time) { outcome_.time[static_cast<std::size_t>(cause)] += time; }
  /// What lies between is booked by the caller.
  void move_to(Instant at) { now_ = at; }
  /// Books the time until `until`, or until the horizon, and moves there; the campaign is over at the horizon.
  void spend(TimeCause cause, Instant until);

  /// The next failure; none: nothing strikes any more.
  [[nodiscard]] const Failure* peek() const { return stream_.peek(); }
  /// Takes and counts it. With fresh clocks nothing else strikes after a crash, until restart().
  Failure take();
  /// Fresh clocks: training goes on, a new gap begins. Wall clocks run always.
  void restart();
  /// Fresh clocks: nothing strikes until restart().
  void halt();

  [[nodiscard]] const FailureMode& mode_of(const Failure& failure) const {
    return scenario_.reliability.modes[failure.mode_index];
  }

 private:
  const CampaignScenario& scenario_;
  CampaignOutcome& outcome_;
  Instant horizon_;
  Instant now_{};
  bool over_ = false;
  FailureStream stream_;
};

}  // namespace moecast
