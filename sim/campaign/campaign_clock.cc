#include "sim/campaign/campaign_clock.h"

#include <algorithm>

namespace moecast {

CampaignClock::CampaignClock(const CampaignScenario& scenario, std::int64_t replica, CampaignOutcome& outcome)
    : scenario_(scenario),
      outcome_(outcome),
      horizon_(scenario.training.horizon > Duration::zero() ? Instant(scenario.training.horizon) : Instant::max()),
      stream_(scenario, replica) {
  outcome_.failures_by_mode.resize(scenario.reliability.modes.size());
  restart();
}

void CampaignClock::spend(TimeCause cause, Instant until) {
  const Instant end = std::min(std::max(until, now_), horizon_);
  book(cause, end - now_);
  now_ = end;
  if (now_ == horizon_) over_ = true;
}

Failure CampaignClock::take() {
  const Failure failure = *stream_.peek();
  ++outcome_.failures_by_mode[failure.mode_index];
  if (scenario_.clock == FailureClock::Fresh && mode_of(failure).effect == FailureEffect::Crash) {
    stream_.halt();
  } else {
    stream_.pop();
  }
  return failure;
}

void CampaignClock::restart() {
  if (scenario_.clock == FailureClock::Fresh) stream_.restart(now_);
}
void CampaignClock::halt() {
  if (scenario_.clock == FailureClock::Fresh) stream_.halt();
}

}  // namespace moecast
