#include "sim/campaign/campaign_executor.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "sim/campaign/campaign_clock.h"
#include "sim/campaign/checkpoint_history.h"
#include "sim/campaign/policy.h"
#include "sim/campaign/recovery.h"
#include "sim/campaign/training_run.h"

namespace moecast {

namespace {

class Executor {
 public:
  Executor(const CampaignScenario& scenario, std::int64_t replica)
      : scenario_(scenario),
        policy_(make_policy(scenario)),
        clock_(scenario, replica, outcome_),
        training_(scenario, *policy_, clock_, history_, outcome_),
        recovery_(scenario, replica, *policy_, clock_, training_, history_, outcome_) {}

  CampaignOutcome run() {
    training_.begin(recovery_.missing_count());
    while (!clock_.over()) next();
    return finish();
  }

 private:
  enum class EventKind { Switch, SlowEnds, Rejoin, Failure, Found, Horizon };
  struct Event {
    EventKind kind = EventKind::Horizon;
    Instant at{};
  };
  struct Corruption {  // silent so far
    Instant begun{}, found{};
    Failure failure;
  };

  /// The earliest event; of several at one instant the first in the order of EventKind.
  [[nodiscard]] Event next_event() const {
    Event out{EventKind::Horizon, clock_.horizon()};
    const auto offer = [&](EventKind kind, Instant at) {
      at = std::max(at, clock_.now());
      if (at < out.at || (at == out.at && kind < out.kind)) out = {kind, at};
    };
    offer(EventKind::Switch, training_.switch_at());
    offer(EventKind::SlowEnds, training_.slow_until());
    offer(EventKind::Rejoin, recovery_.rejoin_at());
    if (clock_.peek() != nullptr) offer(EventKind::Failure, clock_.peek()->at);
    for (const Corruption& corruption : hidden_) offer(EventKind::Found, corruption.found);
    return out;
  }

  void next() {
    const Event event = next_event();
    if (training_.finish_at() <= event.at) {
      training_.close_finished();
      outcome_.finished = true;
      clock_.end();
      return;
    }
    switch (event.kind) {
      case EventKind::Switch:
        training_.close_at_switch();
        training_.begin(recovery_.missing_count());
        break;
      case EventKind::SlowEnds:
        training_.end_slow_spells(event.at);
        training_.change_speed_after(event.at);
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
        training_.close_at(event.at);
        clock_.end();
        break;
    }
  }

  /// Takes the next failure from the stream while training runs.
  void strike() {
    const Failure failure = clock_.take();
    switch (clock_.mode_of(failure).effect) {
      case FailureEffect::Crash:
        interrupt(failure.at, &failure);
        break;
      case FailureEffect::Slow:
        training_.begin_slow_spell(failure);
        training_.change_speed_after(failure.at);
        break;
      case FailureEffect::Corruption:
        hidden_.push_back({failure.at, failure.at + failure.latency, failure});
        break;
    }
  }

  void find_corruption(Instant at) {
    const auto found = std::find_if(hidden_.begin(), hidden_.end(),
                                    [&](const Corruption& corruption) { return corruption.found <= at; });
    Corruption corruption = *found;
    hidden_.erase(found);
    corruption.failure.detection = Duration::zero();  // its latency was that
    clock_.halt();
    interrupt(at, &corruption.failure, corruption.begun);
  }

  /// Training stops at `at`; with no failure it is a planned stop, to let repaired nodes join.
  void interrupt(Instant at, const Failure* failure, Instant taint = Instant::max()) {
    training_.close_at(at);
    const std::optional<RestorePlan> plan = recovery_.recover(failure, taint);
    if (plan) resume(*plan);
  }

  void resume(const RestorePlan& plan) {
    if (plan.keeps_running) recovery_.let_repaired_join();
    const Instant kept = plan.version.begun;
    std::erase_if(hidden_, [&](const Corruption& corruption) { return corruption.begun >= kept; });
    const LostState& damage = recovery_.damage();
    if (!recovery_.planned_stop()) {
      outcome_.lost_age += damage.stopped_at - kept;
      ++outcome_.restores[static_cast<std::size_t>(plan.source)];
    }
    policy_->restored(plan, damage);
    if (!plan.writes_survive) history_.cut_writes(damage.stopped_at);
    history_.roll_back(plan.version.step);
    training_.go_back_to(plan.resume_step);
    clock_.restart();
    training_.begin(recovery_.missing_count());
  }

  CampaignOutcome finish() {
    outcome_.wall = clock_.now() - Instant{};
    outcome_.steps = training_.step();
    const PolicyReport report = policy_->report();
    outcome_.plt = report.plt;
    outcome_.experts = report.experts;
    outcome_.host_memory = policy_->host_memory();
    outcome_.gpu_hours = static_cast<double>(scenario_.cluster.gpus) * seconds(outcome_.wall) / 3600;
    outcome_.cost = outcome_.gpu_hours * scenario_.cluster.price_per_gpu_hour;
    Duration sum{};
    for (const Duration time : outcome_.time) sum += time;
    ASSERT(sum == outcome_.wall, "{} ns by cause, {} ns of wall time", sum.count(), outcome_.wall.count());
    return outcome_;
  }

  const CampaignScenario& scenario_;
  std::unique_ptr<Policy> policy_;
  CheckpointHistory history_;
  CampaignOutcome outcome_;
  CampaignClock clock_;
  TrainingRun training_;
  Recovery recovery_;
  std::vector<Corruption> hidden_;
};

}  // namespace

CampaignOutcome run_campaign(const CampaignScenario& scenario, std::int64_t replica) {
  return Executor(scenario, replica).run();
}

}  // namespace moecast
