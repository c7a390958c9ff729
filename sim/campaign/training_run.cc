#include "sim/campaign/training_run.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace moecast {

TrainingRun::TrainingRun(const CampaignScenario& scenario, const Policy& policy, CampaignClock& clock,
                         CheckpointHistory& history, CampaignOutcome& outcome)
    : scenario_(scenario),
      policy_(policy),
      clock_(clock),
      history_(history),
      outcome_(outcome),
      plain_(scenario.training.step) {}

double TrainingRun::slowdown(std::size_t missing_count) const {
  double factor = 1;
  for (const SlowSpell& spell : slow_) factor = std::max(factor, spell.factor);
  if (missing_count > 0) {
    const auto nodes = static_cast<double>(scenario_.cluster.nodes());
    factor *= nodes / (nodes - static_cast<double>(missing_count));
  }
  return factor;
}

void TrainingRun::begin(std::size_t missing_count) {
  end_slow_spells(clock_.now());
  const double factor = slowdown(missing_count);
  run_.start = clock_.now();
  run_.first_step = step_;
  run_.step = plain_;
  if (factor > 1) {
    run_.step = Duration(static_cast<std::int64_t>(std::ceil(static_cast<double>(plain_.count()) * factor)));
  }
  run_.cadence = policy_.cadence(step_, run_.step);
  switch_after_.reset();
  if (run_.cadence.last_step != Cadence::kForever) switch_after_ = run_.cadence.last_step - step_;
  history_.begin(run_);
  set_end();
}

void TrainingRun::set_end() {
  const std::int64_t total = scenario_.training.steps;
  finish_at_ = total > 0 ? clean_after(total - run_.first_step) : Instant::max();
  switch_at_ = switch_after_ ? clean_after(*switch_after_) : Instant::max();
}

std::int64_t TrainingRun::steps_done(Instant at) const {
  const std::int64_t n = run_.steps_within(at - run_.start);
  const std::int64_t total = scenario_.training.steps;
  return total > 0 ? std::min(n, total - run_.first_step) : n;
}

void TrainingRun::change_speed_after(Instant at) {
  std::int64_t n = steps_done(at);
  if (clean_after(n) < at) ++n;
  switch_after_ = switch_after_ ? std::min(*switch_after_, n) : n;
  set_end();
}

void TrainingRun::close(std::int64_t n, Instant until) {
  const std::int64_t redone = std::clamp<std::int64_t>(high_water_ - run_.first_step, 0, n);
  const std::int64_t fresh = n - redone;
  const Duration rest = until - run_.start - run_.elapsed(n);
  const Duration last_stall = std::min(rest, run_.stall_after(n));
  ASSERT(rest >= Duration::zero(), "run closed before its end");
  clock_.book(TimeCause::Useful, fresh * plain_);
  clock_.book(TimeCause::Degraded, fresh * (run_.step - plain_));
  clock_.book(TimeCause::Recomputation, redone * run_.step + rest - last_stall);
  clock_.book(TimeCause::Stall, run_.elapsed(n) - n * run_.step + last_stall);
  clock_.move_to(until);
  outcome_.useful_steps += fresh;
  count_checkpoints(n);
  step_ = run_.first_step + n;
  high_water_ = std::max(high_water_, step_);
  history_.close(step_);
}

void TrainingRun::count_checkpoints(std::int64_t n) {
  const std::int64_t begun = run_.checkpoints(n);
  const std::int64_t stored = run_.storage_checkpoints(n);
  outcome_.checkpoints += begun;
  outcome_.storage_checkpoints += stored;
  outcome_.memory_bytes += static_cast<double>(begun) * policy_.memory_bytes();
  outcome_.storage_bytes += static_cast<double>(stored) * policy_.storage_bytes();
}

void TrainingRun::close_finished() { close(scenario_.training.steps - run_.first_step, finish_at_); }
void TrainingRun::close_at_switch() { close(*switch_after_, switch_at_); }

void TrainingRun::begin_slow_spell(const Failure& failure) {
  slow_.push_back({failure.at + failure.lasts, clock_.mode_of(failure).slow_factor});
}
void TrainingRun::end_slow_spells(Instant at) {
  std::erase_if(slow_, [&](const SlowSpell& spell) { return spell.until <= at; });
}
Instant TrainingRun::slow_until() const {
  Instant first = Instant::max();
  for (const SlowSpell& spell : slow_) first = std::min(first, spell.until);
  return first;
}

}  // namespace moecast
