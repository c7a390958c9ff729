#include "runtime/trainer/checkpoint_director.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json_document.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

std::string random_state_of(const TrainConfig& config) { return fmt::format("seed {}", config.seed); }

/// Sequences that all ranks take in one step.
std::int64_t sequences_of_step(const TrainConfig& config) {
  const Workload& workload = config.workload;
  return workload.layout.data * workload.batch.micro_batch * workload.batch.micro_batch_count;
}

std::int64_t smallest_layer(const ExpertIndex& experts) {
  std::int64_t smallest = experts.layers().front().expert_count;
  for (const ExpertIndex::Layer& layer : experts.layers()) smallest = std::min(smallest, layer.expert_count);
  return smallest;
}

/// The checkpoint over all ranks: sums of bytes, the slowest times.
SavedCheckpoint merged(const std::vector<CheckpointOutcome>& ranks) {
  SavedCheckpoint saved;
  const CheckpointOutcome& first = ranks.front();
  saved.version = first.version;
  saved.step = first.step;
  saved.kind = first.kind;
  saved.beside = first.beside;
  for (const CheckpointOutcome& rank : ranks) {
    saved.copied += rank.copied;
    saved.written += rank.written;
    saved.most_copied = std::max(saved.most_copied, rank.copied);
    saved.most_written = std::max(saved.most_written, rank.written);
    saved.copy = std::max(saved.copy, rank.copy_end - rank.copy_begin);
    saved.beside = std::min(saved.beside, rank.beside);
    saved.stall = std::max(saved.stall, rank.stall);
    if (rank.kind == CheckpointOutcome::Kind::Committed) {
      saved.kind = rank.kind;  // even if another rank could not hear of it
      saved.persist = std::max(saved.persist, rank.committed - rank.persist_begin);
      saved.safe = std::max(saved.safe, rank.committed - rank.copy_begin);
    }
    if (!rank.error || saved.error.find(rank.error->text()) != std::string::npos) continue;
    saved.error += (saved.error.empty() ? "" : "; ") + rank.error->text();
  }
  return saved;
}

}  // namespace

CheckpointDirector::CheckpointDirector(const TrainConfig& config, const CheckpointInventory& inventory, Log& log)
    : config_(config),
      inventory_(inventory),
      log_(log),
      state_(inventory.experts(), config.checkpoint->policy),
      losses_(inventory.experts()) {
  const CheckpointPolicy& policy = settings().policy;
  if (policy.is_partial() && policy.partial.dynamic) {
    dynamic_.emplace(*policy.partial.dynamic, policy.partial.experts, smallest_layer(inventory.experts()));
  }
  begin_anew();
}

void CheckpointDirector::begin_anew() {
  state_ = SelectionState(inventory_.experts(), settings().policy);
  if (settings().policy.is_partial() && !settings().policy.partial.first_full) state_.accept_initial_state();
  tokens_.assign(inventory_.experts().size(), 0);
  tokens_at_ = {{0, tokens_}};
}

void CheckpointDirector::count(Outcomes outcomes) {
  const ExpertIndex& experts = inventory_.experts();
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    for (std::size_t m = 0; m < experts.layer_count(); ++m) {
      const std::vector<std::int64_t>& processed = outcome->processed[experts.layers()[m].block.index()];
      for (std::size_t e = 0; e < processed.size(); ++e) tokens_[experts.begin(m) + e] += processed[e];
    }
  }
  for (auto& [step, open] : open_) {
    if (open.copied) continue;
    open.copied = true;
    state_.commit(CheckpointLevel::Memory, open.order.selection, step, open.tokens);
  }
}

void CheckpointDirector::hear(Outcomes outcomes) {
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    if (!outcome) continue;
    for (const CheckpointOutcome& ended : outcome->checkpoints) {
      const auto found = open_.find(ended.step);
      if (found != open_.end()) found->second.ended.push_back(ended);
    }
  }
  for (auto entry = open_.begin(); entry != open_.end();) {
    const bool complete = std::ssize(entry->second.ended) == inventory_.layout().world_size();
    if (complete) end(entry->second);
    entry = complete ? open_.erase(entry) : std::next(entry);
  }
}

void CheckpointDirector::end(const Open& open) {
  SavedCheckpoint saved = merged(open.ended);
  saved.selection = open.order.selection;
  saved.tokens = open.tokens;
  if (saved.kind == CheckpointOutcome::Kind::Committed) {
    if (!open.copied) state_.commit(CheckpointLevel::Memory, open.order.selection, saved.step, open.tokens);
    state_.commit(CheckpointLevel::Storage, open.order.selection, saved.step, open.tokens);
    forget_old_counts();
  }
  warn(saved);
  report_.saved.push_back(std::move(saved));
}

/// Counters at steps that no expert can come back to.
void CheckpointDirector::forget_old_counts() {
  std::int64_t oldest = tokens_at_.rbegin()->first;
  for (const CheckpointLevel level : {CheckpointLevel::Memory, CheckpointLevel::Storage}) {
    for (const std::optional<SavedVersion>& version : state_.versions(level)) {
      if (version) oldest = std::min(oldest, version->step);
    }
  }
  tokens_at_.erase(tokens_at_.begin(), tokens_at_.lower_bound(oldest));
}

void CheckpointDirector::warn(const SavedCheckpoint& saved) {
  if (saved.kind == CheckpointOutcome::Kind::Failed) {
    log_.warning("checkpoint of step {} not written: {}; training goes on, older ones stay", saved.step, saved.error);
  } else if (!saved.error.empty()) {
    log_.warning("checkpoint of step {}: {}", saved.step, saved.error);
  }
  const auto replaced = [](const SavedCheckpoint& each) { return each.kind == CheckpointOutcome::Kind::Replaced; };
  if (replaced(saved) && std::ranges::none_of(report_.saved, replaced)) {  // once
    log_.warning(
        "checkpoint of step {} replaced by the next before it was written: an interval of {} steps is shorter "
        "than writing takes",
        saved.step, settings().policy.interval);
  }
}

const SnapshotOrder* CheckpointDirector::order(std::int64_t updates) {
  if (updates == saved_ || updates % settings().policy.interval != 0) return nullptr;
  const Selection selection = select_experts(settings().policy, counts(), state_, tokens_);
  order_ = SnapshotOrder{selection, state_at(updates, selection)};
  open_[updates] = {*order_, tokens_, false, {}};
  tokens_at_[updates] = tokens_;
  return &*order_;
}

/// With the state as it will be when this version is committed.
TrainingState CheckpointDirector::state_at(std::int64_t updates, const Selection& selection) const {
  TrainingState state;
  state.step = updates;
  state.data_position = updates * sequences_of_step(config_);
  state.random_state = random_state_of(config_);
  state.policy = to_json(settings().policy).dump();
  SelectionState after = state_;
  after.commit(CheckpointLevel::Memory, selection, updates, tokens_);
  after.commit(CheckpointLevel::Storage, selection, updates, tokens_);
  state.extra[std::string(kSelectionKey)] = to_json(after).dump();
  Json costs = Json::array();
  for (const Cost& cost : costs_) {
    Json lost = Json::array();
    for (const LostTokens& range : cost.lost) lost.push_back({range.expert, range.from, range.to});
    costs.push_back({{"plt", cost.plt}, {"next_plt", cost.next_plt}, {"lost", lost}});
  }
  state.extra[std::string(kFaultsKey)] = costs.dump();
  return state;
}

// Failures ------------------------------------------------------------------------------------------------------------

void CheckpointDirector::failed(std::string cause, std::int64_t updates, double lost_share) {
  failure_ = {std::move(cause), updates, lost_share};
  for (const auto& [step, open] : open_) {
    if (open.ended.empty()) continue;
    end(open);  // some ranks knew what became of it
  }
  open_.clear();
}

Result<std::int64_t> CheckpointDirector::restored(Outcomes outcomes) {
  const RestoredRank& first = *outcomes.front()->restored;
  Recovery recovery;
  recovery.cause = failure_ ? failure_->cause : "a process before this one ended";
  recovery.step = first.state.step;
  recovery.version = first.version;
  recovery.failed_step = failure_ && failure_->updates ? *failure_->updates : recovery.step;
  Units units;
  for (const std::optional<StepOutcome>& outcome : outcomes) {
    const RestoredRank& rank = *outcome->restored;
    recovery.restore = std::max(recovery.restore, rank.duration);
    recovery.from_memory += rank.from_memory;
    recovery.from_storage += rank.from_storage;
    recovery.damages.insert(recovery.damages.end(), rank.damages.begin(), rank.damages.end());
    for (const RestoredRank::Unit& unit : rank.units) units[static_cast<std::size_t>(unit.expert)] = unit;
  }
  saved_ = recovery.step;
  if (first.version == 0) {
    begin_anew();
    if (!failure_) return std::int64_t{0};  // a first start with --resume
    recovery.age.assign(tokens_.size(), 0);
  } else {
    RETURN_IF_ERROR(check_continuation(first.state));
    RETURN_IF_ERROR(read_extra(first.state));
    take_versions(units);
    recovery.age.assign(tokens_.size(), 0);
    for (const auto& [expert, unit] : units) recovery.age[expert] = recovery.step - unit.step;
    recovery.plt = add_cost(lost(units));
  }
  recovery.counts = counts();
  tell(recovery);
  report_.recoveries.push_back(std::move(recovery));
  failure_.reset();
  return first.state.step;
}

Status CheckpointDirector::check_continuation(const TrainingState& state) const {
  const auto bad = [&](std::string message) {
    return Error{ErrorKind::BadInput, settings().folder.string(), std::move(message)};
  };
  if (state.random_state != random_state_of(config_)) {
    return bad(fmt::format("holds checkpoints of a run with {}, the configuration has {}", state.random_state,
                           random_state_of(config_)));
  }
  const std::int64_t expected = state.step * sequences_of_step(config_);
  if (state.data_position != expected) {
    return bad(
        fmt::format("holds checkpoints of a run with other batches: after step {} it had taken {} sequences, with "
                    "this configuration it would be {}",
                    state.step, state.data_position, expected));
  }
  if (state.step >= config_.steps) {
    return bad(
        fmt::format("holds a checkpoint of step {}, and the configuration has {} steps: nothing is left to train",
                    state.step, config_.steps));
  }
  return {};
}

Status CheckpointDirector::read_extra(const TrainingState& state) {
  const auto text = [&](std::string_view key) {
    const auto found = state.extra.find(std::string(key));
    return found == state.extra.end() ? std::string("null") : found->second;
  };
  const std::string place = settings().folder.string();
  Result<JsonDocument> document = JsonDocument::parse(text(kSelectionKey), place);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  SelectionState read = read_selection_state(reader, inventory_.experts(), settings().policy);
  RETURN_IF_ERROR(reader.finish());
  state_ = std::move(read);
  tokens_.assign(state_.tokens_at_commit().begin(), state_.tokens_at_commit().end());
  if (failure_) return {};  // this process knows of all faults
  const Json costs = Json::parse(text(kFaultsKey), nullptr, false);
  for (const Json& cost : costs.is_array() ? costs : Json::array()) {
    Cost read_cost{cost.value("plt", 0.0), cost.value("next_plt", 0.0), {}};
    for (const Json& range : cost.value("lost", Json::array())) {
      read_cost.lost.push_back({range.at(0), range.at(1), range.at(2)});
    }
    static_cast<void>(losses_.add_fault(read_cost.lost));
    if (dynamic_) dynamic_->recovered(read_cost.plt, read_cost.next_plt);
    costs_.push_back(std::move(read_cost));
  }
  return {};
}

/// The newest versions that are left: those that the experts came from.
void CheckpointDirector::take_versions(const Units& units) {
  std::vector<std::optional<SavedVersion>> memory(tokens_.size());
  const auto stored = state_.versions(CheckpointLevel::Storage);
  std::vector<std::optional<SavedVersion>> storage(stored.begin(), stored.end());
  for (const auto& [expert, unit] : units) {
    const auto known = tokens_at_.find(unit.step);
    const std::int64_t tokens = unit.tokens >= 0            ? unit.tokens
                                : known != tokens_at_.end() ? known->second[expert]
                                                            : tokens_[expert];
    const SavedVersion version{unit.step, tokens};
    (unit.level == CheckpointLevel::Memory ? memory : storage)[expert] = version;
  }
  state_.set_versions(CheckpointLevel::Memory, std::move(memory));
  state_.set_versions(CheckpointLevel::Storage, std::move(storage));
}

std::vector<LostTokens> CheckpointDirector::lost(const Units& units) const {
  std::vector<LostTokens> lost;
  for (const auto& [expert, unit] : units) {
    const SavedVersion version = *state_.versions(unit.level)[expert];
    if (version.tokens < tokens_[expert]) lost.push_back({expert, version.tokens, tokens_[expert]});
  }
  return lost;
}

double CheckpointDirector::add_cost(std::vector<LostTokens> lost) {
  const double plt = share_of_run(losses_.add_fault(lost));
  const double next = next_plt();
  if (dynamic_ && dynamic_->recovered(plt, next)) {
    log_.info("lost tokens are beyond the share of the budget: K is now {} of {} experts", counts().persist,
              smallest_layer(inventory_.experts()));
  }
  costs_.push_back({plt, next, std::move(lost)});
  return plt;
}

double CheckpointDirector::next_plt() const {
  const CheckpointPolicy& policy = settings().policy;
  if (!policy.is_partial()) return 0;
  const double interval = static_cast<double>(policy.interval) / static_cast<double>(config_.steps);
  const std::int64_t experts = smallest_layer(inventory_.experts());
  if (!policy.recovers_from_memory()) return one_level_plt(experts, counts().persist, interval);
  return two_level_plt(experts, counts(), failure_ ? failure_->lost_share : 1, interval);
}

double CheckpointDirector::share_of_run(std::span<const std::int64_t> lost) const {
  if (inventory_.experts().layer_count() == 0) return 0;
  const double tokens =
      static_cast<double>(config_.steps * sequences_of_step(config_) * config_.workload.batch.sequence);
  return proportion_of_lost_tokens(inventory_.experts(), lost, tokens);
}

ExpertCounts CheckpointDirector::counts() const {
  return dynamic_ ? dynamic_->counts() : settings().policy.partial.experts;
}

void CheckpointDirector::tell(const Recovery& recovery) const {
  log_.warning("{}", recovery.cause);
  if (recovery.version == 0) {
    log_.info("nothing was saved yet: training begins again, {} steps are done again", recovery.steps_again());
    return;
  }
  for (const std::string& damage : recovery.damages) log_.warning("damaged, an older copy is taken: {}", damage);
  const std::int64_t oldest = recovery.age.empty() ? 0 : *std::ranges::max_element(recovery.age);
  const double mean = std::accumulate(recovery.age.begin(), recovery.age.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(1, recovery.age.size()));
  log_.info(
      "training goes on from step {} (version {}), {} steps are done again; experts are {:.1f} steps older on "
      "average, at most {}; PLT {:.2f} %; {} from memory, {} from storage in {}",
      recovery.step, recovery.version, recovery.steps_again(), mean, oldest, 100 * recovery.plt,
      pretty(recovery.from_memory), pretty(recovery.from_storage), pretty(recovery.restore));
}

CheckpointReport CheckpointDirector::take_report() {
  report_.plt = share_of_run(losses_.lost());
  report_.counts = counts();
  report_.slow_copies = settings().copy_rate.has_value();
  return std::move(report_);
}

}  // namespace moecast
