#include "sim/campaign/recovery.h"

#include <algorithm>
#include <utility>

namespace moecast {

namespace {

void insert_sorted(std::vector<std::int64_t>& set, std::int64_t value) {
  const auto at = std::lower_bound(set.begin(), set.end(), value);
  if (at == set.end() || *at != value) set.insert(at, value);
}

bool contains(const std::vector<std::int64_t>& sorted, std::int64_t value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

}  // namespace

Recovery::Recovery(const CampaignScenario& scenario, std::int64_t replica, const Policy& policy, CampaignClock& clock,
                   TrainingRun& training, CheckpointHistory& history, CampaignOutcome& outcome)
    : scenario_(scenario),
      policy_(policy),
      clock_(clock),
      training_(training),
      history_(history),
      outcome_(outcome),
      restarts_(scenario.seed, stream_of("campaign.restart")),
      replica_(static_cast<std::uint64_t>(replica)),
      pool_(scenario.cluster.spares) {}

std::optional<RestorePlan> Recovery::recover(const Failure* failure, Instant taint) {
  damage_ = LostState{};
  damage_.stopped_at = clock_.now();
  damage_.taint = taint;
  damage_.step = training_.step();
  damage_.missing = missing_;
  planned_stop_ = failure == nullptr;
  if (failure != nullptr) {
    ++outcome_.interruptions;
    if (clock_.mode_of(*failure).effect == FailureEffect::Corruption) ++outcome_.failures;
    join(*failure, clock_.now());
  }
  while (!clock_.over()) {
    const Plan next = plan();
    const std::optional<Failure> other = crash_before(next.phases.back().until);
    carry_out(next, other);
    if (clock_.over()) break;
    if (!other) return next.restore;
    join(*other, other->at);
  }
  return std::nullopt;
}

void Recovery::join(const Failure& failure, Instant at) {
  if (std::exchange(planned_stop_, false)) ++outcome_.interruptions;
  add_damage(failure, at);
  const Instant known = at + failure.detection + failure.diagnosis;
  while (clock_.peek() != nullptr && clock_.peek()->at <= known) {
    const Failure other = clock_.take();
    const FailureEffect effect = clock_.mode_of(other).effect;
    if (effect == FailureEffect::Crash) add_damage(other, other.at);
    if (effect == FailureEffect::Slow) training_.begin_slow_spell(other);
    // There is nothing to corrupt while training stands still.
  }
  clock_.spend(TimeCause::Detection, known);
}

void Recovery::add_damage(const Failure& failure, Instant at) {
  if (clock_.mode_of(failure).effect == FailureEffect::Crash) ++outcome_.failures;
  for (std::int64_t i = 0; i < failure.nodes.count; ++i) lose_node(failure, failure.nodes.first + i, at);
  for (std::size_t i = 0; i < failure.companion_count; ++i) lose_node(failure, failure.companions[i], at);
  damage_.missing = missing_;
  if (!damage_.lost.empty()) history_.cut_writes(damage_.stopped_at);
}

void Recovery::lose_node(const Failure& failure, std::int64_t node, Instant at) {
  insert_sorted(damage_.stopped, node);
  if (!failure.replaced || contains(missing_, node)) return;  // a missing node cannot fail again
  insert_sorted(damage_.lost, node);
  insert_sorted(missing_, node);
  pool_.send_to_repair(at + failure.repair);
  outcome_.node_hours_replaced += seconds(failure.repair) / 3600;
}

Recovery::Plan Recovery::plan() {
  Plan out;
  const Instant now = clock_.now();
  const std::uint64_t draw = 2 * restart_count_++;
  out.restore = policy_.plan_restore(history_, damage_, now);
  if (out.restore.keeps_running) {
    out.phases = {{TimeCause::Load, now + out.restore.load}};
    return out;
  }
  Instant at = now;
  if (!missing_.empty()) {
    out.ready_at = pool_.ready_at(static_cast<std::int64_t>(missing_.size()), now);
    at = out.ready_at + drawn(scenario_.cluster.spares.swap, draw);
    out.phases.push_back({TimeCause::Replacement, at});
  }
  const RecoveryTimes& times = scenario_.reliability.recovery;
  at += drawn(times.process_start, draw + 1) +
        duration_from_seconds(times.communicator_fixed +
                              times.communicator_per_gpu * static_cast<double>(scenario_.cluster.gpus));
  out.phases.push_back({TimeCause::Restart, at});
  out.restore = policy_.plan_restore(history_, damage_, at);
  out.phases.push_back({TimeCause::Load, at + out.restore.load});
  out.phases.push_back({TimeCause::Recomputation, at + out.restore.load + out.restore.replay});
  return out;
}

Duration Recovery::drawn(const TimeDistribution& time, std::uint64_t draw) const {
  if (time.law == TimeDistribution::Law::Constant) return duration_from_seconds(time.mean);
  return duration_from_seconds(std::min(9e9, time.at_hazard(restarts_.exponential(replica_, draw))));
}

std::optional<Failure> Recovery::crash_before(Instant end) {
  while (clock_.peek() != nullptr && clock_.peek()->at < end) {
    const Failure failure = clock_.take();
    const FailureEffect effect = clock_.mode_of(failure).effect;
    if (effect == FailureEffect::Crash) return failure;
    if (effect == FailureEffect::Slow) training_.begin_slow_spell(failure);
  }
  return std::nullopt;
}

void Recovery::carry_out(const Plan& plan, const std::optional<Failure>& failure) {
  for (const Phase& phase : plan.phases) {
    const bool cut = failure && failure->at < phase.until;
    clock_.spend(phase.cause, cut ? failure->at : phase.until);
    if (cut || clock_.over()) return;
    if (phase.cause == TimeCause::Replacement) replace_missing(plan.ready_at);
  }
}

void Recovery::replace_missing(Instant ready_at) {
  pool_.take(static_cast<std::int64_t>(missing_.size()), ready_at);
  missing_.clear();
  damage_.missing.clear();
}

Instant Recovery::rejoin_at() const { return missing_.empty() ? Instant::max() : pool_.ready_at(1, clock_.now()); }

void Recovery::let_repaired_join() {
  const std::int64_t count = std::min(static_cast<std::int64_t>(missing_.size()), pool_.ready_count(clock_.now()));
  pool_.take(count, clock_.now());
  missing_.resize(missing_.size() - static_cast<std::size_t>(count));
}

}  // namespace moecast
