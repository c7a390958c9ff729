#include "sim/campaign/campaign_executor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/random.h"
#include "sim/campaign/checkpoint_history.h"
#include "sim/campaign/failure_stream.h"
#include "sim/campaign/node_pool.h"
#include "sim/campaign/policy.h"

namespace moecast {

namespace {

void insert_sorted(std::vector<std::int64_t>& set, std::int64_t value) {
  const auto at = std::lower_bound(set.begin(), set.end(), value);
  if (at == set.end() || *at != value) set.insert(at, value);
}

bool contains(const std::vector<std::int64_t>& sorted, std::int64_t value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

class Executor {
 public:
  Executor(const CampaignScenario& scenario, std::int64_t replica)
      : scenario_(scenario),
        plain_(scenario.training.step),
        horizon_(scenario.training.horizon > Duration::zero() ? Instant(scenario.training.horizon) : Instant::max()),
        policy_(make_policy(scenario)),
        stream_(scenario, replica),
        restarts_(scenario.seed, stream_of("campaign.restart")),
        replica_(static_cast<std::uint64_t>(replica)),
        pool_(scenario.cluster.spares) {
    outcome_.failures_by_mode.resize(scenario.reliability.modes.size());
    if (scenario.clock == FailureClock::Fresh) stream_.restart(Instant{});
  }

  CampaignOutcome run() {
    begin_run();
    while (!over_) next();
    return finish();
  }

 private:
  enum class EventKind { Switch, SlowEnds, Rejoin, Failure, Found, Horizon };
  struct Event {
    EventKind kind = EventKind::Horizon;
    Instant at{};
  };
  struct SlowSpell {
    Instant until{};
    double factor = 1;
  };
  struct Corruption {  // silent so far
    Instant begun{}, found{};
    Failure failure;
  };
  /// One phase of a recovery.
  struct Phase {
    TimeCause cause = TimeCause::Restart;
    Instant until{};
  };

  // Undisturbed training -----------------------------------------------------------------------------------------

  [[nodiscard]] double slowdown() const {
    double factor = 1;
    for (const SlowSpell& spell : slow_) factor = std::max(factor, spell.factor);
    if (!missing_.empty()) {
      const auto nodes = static_cast<double>(scenario_.cluster.nodes());
      factor *= nodes / (nodes - static_cast<double>(missing_.size()));
    }
    return factor;
  }

  /// A new run begins at now_ with step_ steps done, at the speed of this moment.
  void begin_run() {
    std::erase_if(slow_, [&](const SlowSpell& spell) { return spell.until <= now_; });
    const double factor = slowdown();
    run_.start = now_;
    run_.first_step = step_;
    run_.step = plain_;
    if (factor > 1) {
      run_.step = Duration(static_cast<std::int64_t>(std::ceil(static_cast<double>(plain_.count()) * factor)));
    }
    run_.cadence = policy_->cadence(step_, run_.step);
    switch_after_.reset();
    if (run_.cadence.last_step != Cadence::kForever) switch_after_ = run_.cadence.last_step - step_;
    history_.begin(run_);
    set_end_of_run();
  }

  /// Last tick of the training if nothing happens, and the tick at which the run's speed or cadence changes.
  void set_end_of_run() {
    const std::int64_t total = scenario_.training.steps;
    finish_at_ = total > 0 ? clean_after(total - run_.first_step) : Instant::max();
    switch_at_ = switch_after_ ? clean_after(*switch_after_) : Instant::max();
  }

  /// When the n-th step of the run and the stall after it are over.
  [[nodiscard]] Instant clean_after(std::int64_t n) const { return run_.start + run_.elapsed(n) + run_.stall_after(n); }

  [[nodiscard]] std::int64_t steps_done(Instant at) const {
    const std::int64_t n = run_.steps_within(at - run_.start);
    const std::int64_t total = scenario_.training.steps;
    return total > 0 ? std::min(n, total - run_.first_step) : n;
  }

  /// The speed changes at `at`: the step in progress ends as it began.
  void change_speed_after(Instant at) {
    std::int64_t n = steps_done(at);
    if (clean_after(n) < at) ++n;
    switch_after_ = switch_after_ ? std::min(*switch_after_, n) : n;
    set_end_of_run();
  }

  /// Books the run up to `until`, which lies in or at the end of the step or stall after the n-th step.
  void close_run(std::int64_t n, Instant until) {
    const std::int64_t redone = std::clamp<std::int64_t>(high_water_ - run_.first_step, 0, n);
    const std::int64_t fresh = n - redone;
    const Duration rest = until - run_.start - run_.elapsed(n);
    const Duration last_stall = std::min(rest, run_.stall_after(n));
    ASSERT(rest >= Duration::zero(), "run closed before its end");
    book(TimeCause::Useful, fresh * plain_);
    book(TimeCause::Degraded, fresh * (run_.step - plain_));
    book(TimeCause::Recomputation, redone * run_.step + rest - last_stall);
    book(TimeCause::Stall, run_.elapsed(n) - n * run_.step + last_stall);
    outcome_.useful_steps += fresh;
    const std::int64_t stored = run_.storage_checkpoints(n);
    outcome_.checkpoints += run_.checkpoints(n);
    outcome_.storage_checkpoints += stored;
    outcome_.memory_bytes += static_cast<double>(run_.checkpoints(n)) * policy_->memory_bytes();
    outcome_.storage_bytes += static_cast<double>(stored) * policy_->storage_bytes();
    step_ = run_.first_step + n;
    high_water_ = std::max(high_water_, step_);
    history_.close(step_);
    now_ = until;
  }

  void book(TimeCause cause, Duration time) { outcome_.time[static_cast<std::size_t>(cause)] += time; }

  // Events -------------------------------------------------------------------------------------------------------

  /// The earliest event; of several at one instant the first in the order of EventKind.
  [[nodiscard]] Event next_event() const {
    Event out{EventKind::Horizon, horizon_};
    const auto offer = [&](EventKind kind, Instant at) {
      at = std::max(at, now_);
      if (at < out.at || (at == out.at && kind < out.kind)) out = {kind, at};
    };
    offer(EventKind::Switch, switch_at_);
    for (const SlowSpell& spell : slow_) offer(EventKind::SlowEnds, spell.until);
    if (!missing_.empty()) offer(EventKind::Rejoin, pool_.ready_at(1, now_));
    if (stream_.peek() != nullptr) offer(EventKind::Failure, stream_.peek()->at);
    for (const Corruption& corruption : hidden_) offer(EventKind::Found, corruption.found);
    return out;
  }

  void next() {
    const Event event = next_event();
    if (finish_at_ <= event.at) {
      close_run(scenario_.training.steps - run_.first_step, finish_at_);
      outcome_.finished = true;
      over_ = true;
      return;
    }
    switch (event.kind) {
      case EventKind::Switch:
        close_run(*switch_after_, event.at);
        begin_run();
        break;
      case EventKind::SlowEnds:
        std::erase_if(slow_, [&](const SlowSpell& spell) { return spell.until <= event.at; });
        change_speed_after(event.at);
        break;
      case EventKind::Rejoin:
        interrupt(event.at, nullptr);
        break;
      case EventKind::Failure:
        strike();
        break;
      case EventKind::Found:
        find_corruption(event.at);
        break;
      case EventKind::Horizon:
        close_run(steps_done(event.at), event.at);
        over_ = true;
        break;
    }
  }

  /// Takes the next failure from the stream while training runs.
  void strike() {
    const Failure failure = take_failure();
    switch (scenario_.reliability.modes[failure.mode_index].effect) {
      case FailureEffect::Crash:
        interrupt(failure.at, &failure);
        break;
      case FailureEffect::Slow:
        begin_slow_spell(failure);
        change_speed_after(failure.at);
        break;
      case FailureEffect::Corruption:
        hidden_.push_back({failure.at, failure.at + failure.latency, failure});
        break;
    }
  }

  Failure take_failure() {
    const Failure failure = *stream_.peek();
    ++outcome_.failures_by_mode[failure.mode_index];
    const bool stops = scenario_.reliability.modes[failure.mode_index].effect == FailureEffect::Crash;
    if (scenario_.clock == FailureClock::Fresh && stops) {
      stream_.halt();
    } else {
      stream_.pop();
    }
    return failure;
  }

  void begin_slow_spell(const Failure& failure) {
    slow_.push_back({failure.at + failure.lasts, scenario_.reliability.modes[failure.mode_index].slow_factor});
  }

  void find_corruption(Instant at) {
    const auto found = std::find_if(hidden_.begin(), hidden_.end(),
                                    [&](const Corruption& corruption) { return corruption.found <= at; });
    Corruption corruption = *found;
    hidden_.erase(found);
    corruption.failure.detection = Duration::zero();  // its latency was that
    if (scenario_.clock == FailureClock::Fresh) stream_.halt();
    taint_ = corruption.begun;
    interrupt(at, &corruption.failure);
  }

  // Interruptions ------------------------------------------------------------------------------------------------

  /// Training stops at `at`; with no failure it is a planned stop, to let repaired nodes join.
  void interrupt(Instant at, const Failure* failure) {
    close_run(steps_done(at), at);
    damage_ = Damage{};
    damage_.stopped_at = at;
    damage_.taint = std::exchange(taint_, Instant::max());
    damage_.step = step_;
    damage_.missing = missing_;
    planned_stop_ = failure == nullptr;
    if (failure != nullptr) {
      ++outcome_.interruptions;
      if (scenario_.reliability.modes[failure->mode_index].effect == FailureEffect::Corruption) ++outcome_.failures;
      join(*failure, at);
    }
    recover();
  }

  /// Adds a failure at `at` to the damage, and stands still until it is detected and diagnosed; failures on the way
  /// join too.
  void join(const Failure& failure, Instant at) {
    if (std::exchange(planned_stop_, false)) ++outcome_.interruptions;
    add_damage(failure, at);
    const Instant known = at + failure.detection + failure.diagnosis;
    while (stream_.peek() != nullptr && stream_.peek()->at <= known) {
      const Failure other = take_failure();
      if (effect_of(other) == FailureEffect::Crash) add_damage(other, other.at);
      if (effect_of(other) == FailureEffect::Slow) begin_slow_spell(other);
      // There is nothing to corrupt while training stands still.
    }
    spend({TimeCause::Detection, known});
  }

  [[nodiscard]] FailureEffect effect_of(const Failure& failure) const {
    return scenario_.reliability.modes[failure.mode_index].effect;
  }

  void add_damage(const Failure& failure, Instant at) {
    if (effect_of(failure) == FailureEffect::Crash) ++outcome_.failures;
    const auto add = [&](std::int64_t node) {
      insert_sorted(damage_.stopped, node);
      if (!failure.replaced || contains(missing_, node)) return;  // a missing node cannot fail again
      insert_sorted(damage_.lost, node);
      insert_sorted(missing_, node);
      pool_.send_to_repair(at + failure.repair);
      outcome_.node_hours_replaced += seconds(failure.repair) / 3600;
    };
    for (std::int64_t i = 0; i < failure.nodes.count; ++i) add(failure.nodes.first + i);
    for (std::size_t i = 0; i < failure.companion_count; ++i) add(failure.companions[i]);
    damage_.missing = missing_;
    if (!damage_.lost.empty()) history_.cut_writes(damage_.stopped_at);
  }

  /// Books a phase until its end, or until the horizon.
  void spend(const Phase& phase) {
    const Instant until = std::min(std::max(phase.until, now_), horizon_);
    book(phase.cause, until - now_);
    now_ = until;
    if (now_ == horizon_) over_ = true;
  }

  void recover() {
    while (!over_) {
      const Plan plan = plan_recovery();
      const Instant end = plan.phases.back().until;
      const std::optional<Failure> failure = crash_before(end);
      for (const Phase& phase : plan.phases) {
        const bool cut = failure && failure->at < phase.until;
        spend({phase.cause, cut ? failure->at : phase.until});
        if (cut || over_) break;
        if (phase.cause == TimeCause::Replacement) replace_missing(plan.ready_at);
      }
      if (over_) return;
      if (!failure) {
        resume(plan.restore);
        return;
      }
      join(*failure, failure->at);
    }
  }

  struct Plan {
    RestorePlan restore;
    Instant ready_at{};  // when the nodes are there
    std::vector<Phase> phases;
  };

  [[nodiscard]] Plan plan_recovery() {
    Plan plan;
    const std::uint64_t draw = 2 * restart_count_++;
    plan.restore = policy_->plan_restore(history_, damage_, now_);
    if (plan.restore.keeps_running) {
      plan.phases = {{TimeCause::Load, now_ + plan.restore.load}};
      return plan;
    }
    Instant at = now_;
    if (!missing_.empty()) {
      plan.ready_at = pool_.ready_at(static_cast<std::int64_t>(missing_.size()), now_);
      at = plan.ready_at + drawn(scenario_.cluster.spares.swap, draw);
      plan.phases.push_back({TimeCause::Replacement, at});
    }
    const RecoveryTimes& times = scenario_.reliability.recovery;
    at += drawn(times.process_start, draw + 1) +
          duration_from_seconds(times.communicator_fixed +
                                times.communicator_per_gpu * static_cast<double>(scenario_.cluster.gpus));
    plan.phases.push_back({TimeCause::Restart, at});
    plan.restore = policy_->plan_restore(history_, damage_, at);
    plan.phases.push_back({TimeCause::Load, at + plan.restore.load});
    plan.phases.push_back({TimeCause::Recomputation, at + plan.restore.load + plan.restore.replay});
    return plan;
  }

  [[nodiscard]] Duration drawn(const TimeDistribution& time, std::uint64_t draw) const {
    if (time.law == TimeDistribution::Law::Constant) return duration_from_seconds(time.mean);
    return duration_from_seconds(std::min(9e9, time.at_hazard(restarts_.exponential(replica_, draw))));
  }

  /// The first crash before `end`, taken from the stream; slow spells on the way begin, and corruption finds nothing.
  [[nodiscard]] std::optional<Failure> crash_before(Instant end) {
    while (stream_.peek() != nullptr && stream_.peek()->at < end) {
      const Failure failure = take_failure();
      if (effect_of(failure) == FailureEffect::Crash) return failure;
      if (effect_of(failure) == FailureEffect::Slow) begin_slow_spell(failure);
    }
    return std::nullopt;
  }

  void replace_missing(Instant ready_at) {
    pool_.take(static_cast<std::int64_t>(missing_.size()), ready_at);
    missing_.clear();
    damage_.missing.clear();
  }

  void resume(const RestorePlan& plan) {
    if (plan.keeps_running) let_repaired_join();
    const Instant kept = plan.version.begun;
    std::erase_if(hidden_, [&](const Corruption& corruption) { return corruption.begun >= kept; });
    if (!planned_stop_) {
      outcome_.lost_age += damage_.stopped_at - kept;
      ++outcome_.restores[static_cast<std::size_t>(plan.source)];
    }
    policy_->restored(plan, damage_);
    if (!plan.writes_survive) history_.cut_writes(damage_.stopped_at);
    history_.roll_back(plan.version.step);
    step_ = plan.resume_step;
    if (scenario_.clock == FailureClock::Fresh) stream_.restart(now_);
    begin_run();
  }

  void let_repaired_join() {
    const std::int64_t count = std::min(static_cast<std::int64_t>(missing_.size()), pool_.ready_count(now_));
    pool_.take(count, now_);
    missing_.resize(missing_.size() - static_cast<std::size_t>(count));
  }

  CampaignOutcome finish() {
    outcome_.wall = now_ - Instant{};
    outcome_.steps = step_;
    const PolicyReport report = policy_->report();
    outcome_.plt = report.plt;
    outcome_.experts = report.experts;
    outcome_.gpu_hours = static_cast<double>(scenario_.cluster.gpus) * seconds(outcome_.wall) / 3600;
    outcome_.cost = outcome_.gpu_hours * scenario_.cluster.price_per_gpu_hour;
    Duration sum{};
    for (const Duration time : outcome_.time) sum += time;
    ASSERT(sum == outcome_.wall, "{} ns by cause, {} ns of wall time", sum.count(), outcome_.wall.count());
    return outcome_;
  }

  const CampaignScenario& scenario_;
  const Duration plain_;
  const Instant horizon_;
  std::unique_ptr<Policy> policy_;
  FailureStream stream_;
  CounterRandom restarts_;
  std::uint64_t replica_;
  std::uint64_t restart_count_ = 0;
  NodePool pool_;
  CheckpointHistory history_;
  CampaignOutcome outcome_;

  Instant now_{};
  std::int64_t step_ = 0;        // done, in the model's present state
  std::int64_t high_water_ = 0;  // most that were ever done
  CheckpointRun run_;
  std::optional<std::int64_t> switch_after_;  // steps of the run after which speed or cadence changes
  Instant switch_at_ = Instant::max();
  Instant finish_at_ = Instant::max();
  std::vector<SlowSpell> slow_;
  std::vector<Corruption> hidden_;
  std::vector<std::int64_t> missing_;  // nodes without a machine, ascending
  Damage damage_;
  Instant taint_ = Instant::max();
  bool planned_stop_ = false;  // nothing failed: repaired nodes join
  bool over_ = false;
};

}  // namespace

CampaignOutcome run_campaign(const CampaignScenario& scenario, std::int64_t replica) {
  return Executor(scenario, replica).run();
}

}  // namespace moecast
