#include "tests/sim/campaign_step_by_step_testing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/assert.h"
#include "base/random.h"
#include "models/checkpoint/dynamic_k.h"
#include "models/checkpoint/plt.h"
#include "models/checkpoint/selection.h"
#include "sim/campaign/copy_groups.h"
#include "sim/campaign/failure_stream.h"
#include "sim/campaign/node_pool.h"
#include "sim/campaign/policy.h"

namespace moecast {

namespace {

struct SavedVersionOfRun {
  std::int64_t step = 0;
  Instant begun{};
  std::optional<Instant> in_memory, on_storage;
  std::optional<Selection> selection;  // PEC
};

/// Expert tables of PEC in full: for every expert the steps at which it was saved at each level.
class NaiveExperts {
 public:
  explicit NaiveExperts(const CampaignScenario& scenario)
      : scenario_(scenario),
        policy_(std::get<CheckpointPolicy>(scenario.policy)),
        index_(layers(scenario.experts)),
        memory_(index_.size()),
        storage_(index_.size()),
        state_(index_, policy_),
        counts_(policy_.partial.experts),
        account_(index_) {
    for (auto* table : {&memory_, &storage_}) {
      for (auto& saved : *table) saved.insert(0);  // the beginning
    }
    if (!policy_.partial.first_full) state_.accept_initial_state();
    if (policy_.partial.dynamic) {
      dynamic_.emplace(*policy_.partial.dynamic, counts_, scenario.experts.experts_per_layer);
    }
  }

  [[nodiscard]] double share_in_memory() const { return share(counts_.snapshot); }
  [[nodiscard]] double share_on_storage() const { return share(counts_.persist); }
  [[nodiscard]] ExpertCounts counts() const { return counts_; }
  [[nodiscard]] double plt() const { return plt_; }

  /// Selects the experts of a checkpoint and assumes that it will be complete; a rollback says otherwise.
  void checkpoint(std::int64_t step) {
    before_.insert_or_assign(step, state_);
    const std::vector<std::int64_t> tokens(index_.size(), step);
    const Selection selection = select_experts(policy_, counts_, state_, tokens);
    state_.commit(CheckpointLevel::Memory, selection, step, tokens);
    state_.commit(CheckpointLevel::Storage, selection, step, tokens);
    for (std::size_t m = 0; m < index_.layer_count(); ++m) {
      for (const ExpertId e : selection.snapshot[m]) memory_[index_.at(m, e)].insert(step);
      for (const ExpertId e : selection.persist[m]) storage_[index_.at(m, e)].insert(step);
    }
  }

  void restore(std::int64_t step, std::int64_t interval, const std::vector<std::int64_t>& lost_nodes) {
    const auto newer = before_.upper_bound(step);
    if (newer != before_.end()) state_ = newer->second;
    before_.erase(newer, before_.end());
    std::vector<LostTokens> lost;
    for (std::size_t i = 0; i < index_.size(); ++i) {
      for (auto* table : {&memory_, &storage_}) {
        auto& saved = (*table)[i];
        saved.erase(saved.upper_bound(step), saved.end());
      }
      std::int64_t found = *storage_[i].rbegin();
      if (policy_.recovers_from_memory() && !holder_lost(i, lost_nodes)) {
        found = std::max(found, memory_[i].empty() ? 0 : *memory_[i].rbegin());
      } else {
        memory_[i] = {found};
      }
      lost.push_back({i, found, step});
    }
    if (policy_.recovers_from_memory()) forget_memory(lost_nodes);
    const std::vector<std::int64_t> added = account_.add_fault(lost);
    const double tokens = static_cast<double>(scenario_.training.planned_steps() * scenario_.experts.experts_per_layer);
    const double plt = proportion_of_lost_tokens(index_, added, tokens);
    plt_ += plt;
    if (!dynamic_) return;
    const double part = static_cast<double>(interval) / static_cast<double>(scenario_.training.planned_steps());
    const std::int64_t n = scenario_.experts.experts_per_layer;
    const double next = policy_.recovers_from_memory() ? two_level_plt(n, counts_, lost_share(lost_nodes), part)
                                                       : one_level_plt(n, counts_.persist, part);
    if (dynamic_->recovered(plt, next)) counts_ = dynamic_->counts();
  }

  [[nodiscard]] double lost_share(const std::vector<std::int64_t>& lost_nodes) const {
    std::int64_t lost = 0;
    for (std::size_t i = 0; i < index_.size(); ++i) lost += holder_lost(i, lost_nodes) ? 1 : 0;
    return static_cast<double>(lost) / static_cast<double>(index_.size());
  }

 private:
  static ExpertIndex layers(const ExpertPlacement& place) {
    std::vector<ExpertIndex::Layer> out;
    for (std::int64_t i = 0; i < place.layers; ++i)
      out.push_back({LayerId(static_cast<std::int32_t>(i)), place.experts_per_layer, 1});
    return ExpertIndex(std::move(out));
  }

  void forget_memory(const std::vector<std::int64_t>& lost_nodes) {
    const auto in_memory = state_.versions(CheckpointLevel::Memory);
    std::vector<std::optional<SavedVersion>> left(in_memory.begin(), in_memory.end());
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (holder_lost(i, lost_nodes)) left[i] = state_.versions(CheckpointLevel::Storage)[i];
    }
    state_.set_versions(CheckpointLevel::Memory, std::move(left));
  }

  [[nodiscard]] double share(std::int64_t count) const {
    return static_cast<double>(count) / static_cast<double>(scenario_.experts.experts_per_layer);
  }

  [[nodiscard]] bool holder_lost(std::size_t i, const std::vector<std::int64_t>& nodes) const {
    const ExpertPlacement& place = scenario_.experts;
    const ExpertIndex::Place at = index_.place(i);
    const std::int64_t stage = static_cast<std::int64_t>(at.layer) / (place.layers / place.pipeline);
    const std::int64_t position = at.expert.value() / (place.experts_per_layer / place.expert_parallel);
    const std::int64_t per_stage = scenario_.cluster.gpus / place.pipeline;
    for (std::int64_t gpu = 0; gpu < scenario_.cluster.gpus; ++gpu) {
      if (gpu / per_stage != stage || gpu % per_stage % place.expert_parallel != position) continue;
      if (std::count(nodes.begin(), nodes.end(), gpu / scenario_.cluster.gpus_per_node) > 0) return true;
    }
    return false;
  }

  const CampaignScenario& scenario_;
  const CheckpointPolicy& policy_;
  ExpertIndex index_;
  std::vector<std::set<std::int64_t>> memory_, storage_;
  SelectionState state_;
  std::map<std::int64_t, SelectionState> before_;
  ExpertCounts counts_;
  LossAccount account_;
  std::optional<DynamicKController> dynamic_;
  double plt_ = 0;
};

class StepByStep {
 public:
  StepByStep(const CampaignScenario& scenario, std::int64_t replica)
      : scenario_(scenario),
        costs_(scenario.costs),
        policy_(std::get_if<CheckpointPolicy>(&scenario.policy)),
        policy_object_(make_policy(scenario)),
        stream_(scenario, replica),
        restarts_(scenario.seed, stream_of("campaign.restart")),
        replica_(static_cast<std::uint64_t>(replica)),
        pool_(scenario.cluster.spares),
        horizon_(scenario.training.horizon > Duration::zero() ? Instant(scenario.training.horizon) : Instant::max()) {
    out_.failures_by_mode.resize(scenario.reliability.modes.size());
    versions_.push_back({0, Instant{}, std::nullopt, Instant{}, std::nullopt});
    if (policy_ != nullptr && policy_->is_partial()) experts_.emplace(scenario);
    if (scenario.clock == FailureClock::Fresh) stream_.restart(Instant{});
  }

  CampaignOutcome run() {
    while (!over_) one_step();
    out_.wall = now_ - Instant{};
    out_.steps = step_;
    if (experts_) {
      out_.plt = experts_->plt();
      out_.experts = experts_->counts();
    }
    out_.gpu_hours = static_cast<double>(scenario_.cluster.gpus) * seconds(out_.wall) / 3600;
    out_.cost = out_.gpu_hours * scenario_.cluster.price_per_gpu_hour;
    return out_;
  }

 private:
  struct Spell {
    Instant until{};
    double factor = 1;
  };
  struct Corruption {
    Instant begun{}, found{};
    Failure failure;
  };
  struct Stop {
    Instant at{};
    std::optional<Failure> failure;  // none: horizon
    Instant taint = Instant::max();
  };

  void book(TimeCause cause, Duration time) { out_.time[static_cast<std::size_t>(cause)] += time; }
  [[nodiscard]] FailureEffect effect(const Failure& failure) const {
    return scenario_.reliability.modes[failure.mode_index].effect;
  }

  Failure take() {
    const Failure failure = *stream_.peek();
    ++out_.failures_by_mode[failure.mode_index];
    if (scenario_.clock == FailureClock::Fresh && effect(failure) == FailureEffect::Crash) {
      stream_.halt();
    } else {
      stream_.pop();
    }
    return failure;
  }

  /// What stops training before `end`, if anything does; whatever begins silently or slows down on the way begins.
  std::optional<Stop> stop_before(Instant end) {
    for (;;) {
      const auto found = std::min_element(hidden_.begin(), hidden_.end(),
                                          [](const auto& a, const auto& b) { return a.found < b.found; });
      const Instant found_at = found == hidden_.end() ? Instant::max() : std::max(found->found, now_);
      const Instant failed_at = stream_.peek() == nullptr ? Instant::max() : stream_.peek()->at;
      if (std::min({found_at, failed_at, horizon_}) >= end) return std::nullopt;
      if (horizon_ < found_at && horizon_ < failed_at) return Stop{horizon_, std::nullopt};
      if (found_at < failed_at) {
        Corruption corruption = *found;
        hidden_.erase(found);
        corruption.failure.detection = Duration::zero();
        if (scenario_.clock == FailureClock::Fresh) stream_.halt();
        return Stop{found_at, corruption.failure, corruption.begun};
      }
      const Failure failure = take();
      if (effect(failure) == FailureEffect::Crash) return Stop{failure.at, failure};
      if (effect(failure) == FailureEffect::Corruption)
        hidden_.push_back({failure.at, failure.at + failure.latency, failure});
      if (effect(failure) == FailureEffect::Slow) begin_spell(failure);
    }
  }

  void begin_spell(const Failure& failure) {
    spells_.push_back({failure.at + failure.lasts, scenario_.reliability.modes[failure.mode_index].slow_factor});
  }

  void one_step() {
    double factor = 1;
    for (const Spell& spell : spells_) factor = std::max(factor, spell.until > now_ ? spell.factor : 1.0);
    const Duration plain = scenario_.training.step;
    const Duration step_time =
        factor > 1 ? Duration(static_cast<std::int64_t>(std::ceil(static_cast<double>(plain.count()) * factor)))
                   : plain;
    if (const std::optional<Stop> stop = stop_before(now_ + step_time)) {
      book(TimeCause::Recomputation, stop->at - now_);
      now_ = stop->at;
      handle(*stop);
      return;
    }
    const Cadence cadence = policy_object_->cadence(step_, step_time);
    now_ += step_time;
    ++step_;
    if (step_ <= high_water_) {
      book(TimeCause::Recomputation, step_time);
    } else {
      book(TimeCause::Useful, plain);
      book(TimeCause::Degraded, step_time - plain);
      ++out_.useful_steps;
      high_water_ = step_;
    }
    if (cadence.interval > 0 && step_ % cadence.interval == 0 && !checkpoint(cadence)) return;
    if (step_ == scenario_.training.steps) {
      out_.finished = true;
      over_ = true;
    }
  }

  /// False if something stopped training during the stall.
  bool checkpoint(const Cadence& cadence) {
    SavedVersionOfRun version{step_, now_, std::nullopt, std::nullopt, std::nullopt};
    Duration stall = cadence.stall;
    const bool stored = cadence.storage_every > 0 && step_ / cadence.interval % cadence.storage_every == 0;
    if (stored) stall += cadence.storage_stall;
    if (cadence.to_memory) version.in_memory = now_ + *cadence.to_memory;
    if (stored && cadence.to_storage) version.on_storage = now_ + *cadence.to_storage;
    ++out_.checkpoints;
    out_.storage_checkpoints += stored ? 1 : 0;
    out_.memory_bytes += policy_object_->memory_bytes();
    out_.storage_bytes += stored ? policy_object_->storage_bytes() : 0;
    versions_.push_back(version);
    if (experts_) experts_->checkpoint(step_);
    if (const std::optional<Stop> stop = stop_before(now_ + stall)) {
      book(TimeCause::Stall, stop->at - now_);
      now_ = stop->at;
      handle(*stop);
      return false;
    }
    book(TimeCause::Stall, stall);
    now_ += stall;
    return true;
  }

  void handle(const Stop& stop) {
    if (!stop.failure) {
      over_ = true;
      return;
    }
    damage_ = LostState{};
    damage_.stopped_at = now_;
    damage_.taint = stop.taint;
    damage_.step = step_;
    ++out_.interruptions;
    if (effect(*stop.failure) == FailureEffect::Corruption) ++out_.failures;
    join(*stop.failure, now_);
    while (!over_ && !recovered()) {
    }
  }

  void join(const Failure& failure, Instant at) {
    damaged_by(failure, at);
    const Instant known = at + failure.detection + failure.diagnosis;
    while (stream_.peek() != nullptr && stream_.peek()->at <= known) {
      const Failure other = take();
      if (effect(other) == FailureEffect::Crash) damaged_by(other, other.at);
      if (effect(other) == FailureEffect::Slow) begin_spell(other);
    }
    wait(TimeCause::Detection, known);
  }

  void damaged_by(const Failure& failure, Instant at) {
    if (effect(failure) == FailureEffect::Crash) ++out_.failures;
    std::vector<std::int64_t> nodes;
    for (std::int64_t i = 0; i < failure.nodes.count; ++i) nodes.push_back(failure.nodes.first + i);
    for (std::size_t i = 0; i < failure.companion_count; ++i) nodes.push_back(failure.companions[i]);
    std::set<std::int64_t> stopped(damage_.stopped.begin(), damage_.stopped.end());
    std::set<std::int64_t> lost(damage_.lost.begin(), damage_.lost.end());
    for (const std::int64_t node : nodes) {
      stopped.insert(node);
      if (!failure.replaced || missing_.contains(node)) continue;
      lost.insert(node);
      missing_.insert(node);
      pool_.send_to_repair(at + failure.repair);
      out_.node_hours_replaced += seconds(failure.repair) / 3600;
    }
    damage_.stopped.assign(stopped.begin(), stopped.end());
    damage_.lost.assign(lost.begin(), lost.end());
    if (lost.empty()) return;
    drop_unfinished_writes();
  }

  void drop_unfinished_writes() {
    for (SavedVersionOfRun& version : versions_) {
      if (version.on_storage && *version.on_storage > damage_.stopped_at) version.on_storage.reset();
    }
  }

  void wait(TimeCause cause, Instant until) {
    const Instant end = std::min(std::max(until, now_), horizon_);
    book(cause, end - now_);
    now_ = end;
    over_ = over_ || now_ == horizon_;
  }

  /// One attempt to recover: false if a failure came in between.
  bool recovered() {
    Instant at = now_;
    Instant ready = now_;
    const std::uint64_t draw = 2 * attempts_++;
    const bool replaces = !missing_.empty();
    if (replaces) {
      ready = pool_.ready_at(static_cast<std::int64_t>(missing_.size()), now_);
      at = ready + drawn(scenario_.cluster.spares.swap, draw);
    }
    const RecoveryTimes& times = scenario_.reliability.recovery;
    const Instant swapped = at;
    const Instant started =
        at + drawn(times.process_start, draw + 1) +
        duration_from_seconds(times.communicator_fixed +
                              times.communicator_per_gpu * static_cast<double>(scenario_.cluster.gpus));
    const RestorePlan plan = plan_restore(started);
    const Instant loaded = started + plan.load;
    for (const auto& [cause, until] :
         {std::pair(TimeCause::Replacement, swapped), std::pair(TimeCause::Restart, started),
          std::pair(TimeCause::Load, loaded), std::pair(TimeCause::Recomputation, loaded + plan.replay)}) {
      while (stream_.peek() != nullptr && stream_.peek()->at < until) {
        const Failure failure = take();
        if (effect(failure) == FailureEffect::Slow) begin_spell(failure);
        if (effect(failure) != FailureEffect::Crash) continue;
        wait(cause, failure.at);
        if (!over_) join(failure, failure.at);
        return false;
      }
      wait(cause, until);
      if (over_) return false;
      if (cause == TimeCause::Replacement && replaces) {
        pool_.take(static_cast<std::int64_t>(missing_.size()), ready);
        missing_.clear();
      }
    }
    resume(plan);
    return true;
  }

  [[nodiscard]] Duration drawn(const TimeDistribution& time, std::uint64_t draw) const {
    return duration_from_seconds(time.at_hazard(restarts_.exponential(replica_, draw)));
  }

  [[nodiscard]] const SavedVersionOfRun* newest(std::optional<Instant> SavedVersionOfRun::*when) const {
    const SavedVersionOfRun* out = nullptr;
    for (const SavedVersionOfRun& version : versions_) {
      const std::optional<Instant>& usable = version.*when;
      if (usable && *usable <= damage_.stopped_at && version.begun <= damage_.taint) out = &version;
    }
    return out;
  }

  RestorePlan plan_restore(Instant now) const {
    RestorePlan plan;
    const SavedVersionOfRun* stored = newest(&SavedVersionOfRun::on_storage);
    const SavedVersionOfRun* held = newest(&SavedVersionOfRun::in_memory);
    plan.version = {stored->step, stored->begun, {}};
    plan.load = costs_.storage_load_time(1);
    const std::int64_t nodes = scenario_.cluster.nodes();
    const auto from_memory = [&](bool own) {
      plan.version = {held->step, held->begun, {}};
      plan.writes_survive = true;
      plan.source = own ? RestoreSource::Memory : RestoreSource::Peers;
      plan.load = own ? costs_.memory_load_time() : costs_.peer_load_time();
    };
    const bool newer = held != nullptr && held->step >= stored->step;
    const bool none_lost = damage_.lost.empty();
    if (policy_ != nullptr && policy_->recovers_from_memory()) {
      plan.load = costs_.storage_load_time(experts_->lost_share(damage_.lost));
      if (none_lost && newer) {
        from_memory(true);
        plan.load = std::max(plan.load, *held->on_storage - now);
      }
    }
    if (const auto* peers = std::get_if<PeerReplicaSettings>(&scenario_.policy)) {
      if (newer && neighbours_survive(damage_.lost, nodes, peers->copies)) from_memory(none_lost);
    }
    plan.resume_step = plan.version.step;
    if (const auto* sparse = std::get_if<SparseWindowSettings>(&scenario_.policy)) {
      if (newer && neighbours_survive(damage_.lost, nodes, sparse->copies)) from_memory(none_lost);
      const double window = plan.version.step > 0 ? static_cast<double>(sparse->window) : 0;
      const double steps =
          window * sparse->conversion_factor + static_cast<double>(step_ - plan.version.step) * sparse->replay_factor;
      plan.replay = duration_from_seconds(steps * seconds(scenario_.training.step));
      plan.resume_step = step_;
    }
    if (const auto* just = std::get_if<JustInTimeSettings>(&scenario_.policy)) {
      if (damage_.taint == Instant::max() && strided_survive(damage_.stopped, nodes, just->copies)) {
        plan.version = {step_, damage_.stopped_at, {}};
        plan.resume_step = step_;
        plan.source = RestoreSource::Survivors;
        plan.load += costs_.snapshot_time(1) + costs_.persist_time(1);
      }
    }
    return plan;
  }

  void resume(const RestorePlan& plan) {
    std::erase_if(hidden_, [&](const Corruption& corruption) { return corruption.begun >= plan.version.begun; });
    out_.lost_age += damage_.stopped_at - plan.version.begun;
    ++out_.restores[static_cast<std::size_t>(plan.source)];
    if (experts_) {
      experts_->restore(plan.version.step,
                        policy_object_->cadence(scenario_.training.planned_steps(), scenario_.training.step).interval,
                        damage_.lost);
    }
    policy_object_->restored(plan, damage_);  // for the stall that follows K
    if (!plan.writes_survive) drop_unfinished_writes();
    std::erase_if(versions_, [&](const SavedVersionOfRun& version) { return version.step > plan.version.step; });
    step_ = plan.resume_step;
    if (scenario_.clock == FailureClock::Fresh) stream_.restart(now_);
  }

  const CampaignScenario& scenario_;
  const CheckpointCosts& costs_;
  const CheckpointPolicy* policy_;
  std::unique_ptr<Policy> policy_object_;
  std::optional<NaiveExperts> experts_;
  FailureStream stream_;
  CounterRandom restarts_;
  std::uint64_t replica_;
  std::uint64_t attempts_ = 0;
  NodePool pool_;
  const Instant horizon_;
  CampaignOutcome out_;
  Instant now_{};
  std::int64_t step_ = 0, high_water_ = 0;
  std::vector<SavedVersionOfRun> versions_;
  std::vector<Spell> spells_;
  std::vector<Corruption> hidden_;
  std::set<std::int64_t> missing_;
  LostState damage_;
  bool over_ = false;
};

}  // namespace

CampaignOutcome run_step_by_step(const CampaignScenario& scenario, std::int64_t replica) {
  return StepByStep(scenario, replica).run();
}

}  // namespace moecast
