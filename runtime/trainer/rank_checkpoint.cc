#include "runtime/trainer/rank_checkpoint.h"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace moecast {
namespace {

/// Assignments of every expert by then, as the selection state in a version's record says (SelectionState).
std::vector<std::int64_t> tokens_in(const TrainingState& state) {
  const auto found = state.extra.find(std::string(kSelectionKey));
  if (found == state.extra.end()) return {};
  const auto json = nlohmann::json::parse(found->second, nullptr, false);
  if (!json.is_object() || !json.contains("tokens_at_commit")) return {};
  const auto& list = json.at("tokens_at_commit");
  std::vector<std::int64_t> tokens;
  for (const auto& value : list) tokens.push_back(value.is_number_integer() ? value.get<std::int64_t>() : -1);
  return tokens;
}

/// Were all versions that may be taken saved by a policy that always saves everything?
bool saved_whole(const CheckpointFolder& folder) {
  return std::ranges::all_of(folder.edits, [](const FolderEdit& edit) {
    const auto policy = nlohmann::json::parse(edit.edit.state.policy, nullptr, false);
    const std::string kind = policy.is_object() ? policy.value("kind", "") : "";
    return kind == to_text(CheckpointKind::BlockingFull) || kind == to_text(CheckpointKind::AsynchronousFull);
  });
}

bool holds_anything(const std::vector<const SnapshotMemory*>& memories) {
  return std::ranges::any_of(memories, [](const SnapshotMemory* memory) { return !memory->snapshots().empty(); });
}

}  // namespace

ModelIdentity identity_of(const MoeModel& model) {
  ModelIdentity identity;
  identity.name = model.name;
  for (Parameter& parameter : parameters(model)) {
    identity.tensors.push_back({std::move(parameter.name), std::move(parameter.shape)});
  }
  return identity;
}

std::vector<std::string> expert_names(const ExpertIndex& experts) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const ExpertIndex::Place place = experts.place(i);
    names.push_back(
        fmt::format("blocks.{}.experts.{}", experts.layers()[place.layer].block.value(), place.expert.value()));
  }
  return names;
}

RankCheckpoint::RankCheckpoint(Options options)
    : options_(std::move(options)),
      identity_(identity_of(options_.model)),
      expert_names_(expert_names(options_.inventory.experts())) {}

Result<std::optional<RestoredRank>> RankCheckpoint::open(bool resume) {
  std::optional<RestoredRank> restored;
  EngineOptions options;
  if (resume) {
    Result<RestoredRank> found = restore_state(options.history);
    if (!found.ok()) return found.error();
    restored = std::move(found).value();
  }
  options.folder = options_.config.folder;
  options.model = identity_;
  options.layout = options_.inventory.layout();
  options.retention = options_.config.retention;
  options.copy_rate = options_.config.copy_rate;
  Result<std::unique_ptr<CheckpointEngine>> engine = CheckpointEngine::make(
      options_.backend, options_.environment, options_.memory, &options_.storage, options_.clock, std::move(options));
  if (!engine.ok()) return engine.error();
  engine_ = std::move(engine).value();
  return restored;
}

/// Without any version on storage, what host memory has may be incomplete: then training begins anew.
Result<RestoredRank> RankCheckpoint::restore_state(History& history) {
  const Result<CheckpointFolder> folder = read_checkpoint_folder(options_.environment, options_.config.folder);
  if (!folder.ok()) return folder.error();
  if (folder->edits.empty() && !folder->damages.empty()) {
    const Damage& damage = folder->damages.front();
    return Error{ErrorKind::RunFailed, options_.config.folder.string(),
                 fmt::format("holds no intact checkpoint: {}: {}", damage.file, damage.reason)};
  }
  const RankAgreement agreement(&options_.storage);
  const bool mine = !folder->edits.empty() || holds_anything(options_.reachable);
  const Result<std::int64_t> anything = agreement.largest(mine ? 1 : 0);
  if (!anything.ok()) return anything.error();
  RestoredRank out;
  if (anything.value() == 1) {
    RestoreOptions request;
    request.folder = options_.config.folder;
    request.model = identity_;
    request.memories = options_.reachable;
    request.communicator = &options_.storage;
    request.units = expert_names_;
    request.bounds.allow_newer_units = options_.config.policy.partial.allow_newer_experts;
    request.bounds.same_version = !options_.config.policy.is_partial() && saved_whole(*folder);
    request.bounds.initial_units = !options_.config.policy.partial.first_full;
    const Result<RestoreReport> report =
        restore(options_.backend, options_.environment, options_.clock, targets(), request);
    if (!report.ok() && !folder->edits.empty()) return report.error();
    if (report.ok()) {
      renew_masters();
      out = restored(report.value());
      history = report->history;
    }
  }
  RETURN_IF_ERROR(options_.storage.barrier());  // nobody reads another rank's memory any more
  if (out.version == 0) {
    options_.memory.lose();
  } else {
    options_.memory.roll_back(out.version, history);
  }
  return out;
}

RestoredRank RankCheckpoint::restored(const RestoreReport& report) const {
  RestoredRank out;
  out.version = report.version;
  out.state = report.state;
  out.duration = report.duration;
  out.from_memory = report.from_memory;
  out.from_storage = report.from_storage;
  for (const Damage& damage : report.damages) out.damages.push_back(damage.file + ": " + damage.reason);
  for (const RestoredUnit& unit : report.units) {
    const auto name = std::ranges::find(expert_names_, unit.unit);
    if (name == expert_names_.end()) continue;
    RestoredRank::Unit found{name - expert_names_.begin(), unit.step, unit.version == 0 ? 0 : -1, unit.level};
    const auto state = report.unit_states.find(unit.version);
    if (state != report.unit_states.end()) {
      const std::vector<std::int64_t> tokens = tokens_in(state->second);
      if (tokens.size() == expert_names_.size()) found.tokens = tokens[static_cast<std::size_t>(found.expert)];
    }
    out.units.push_back(found);
  }
  return out;
}

Status RankCheckpoint::begin(const SnapshotOrder& order) {
  RETURN_IF_ERROR(engine_->begin_snapshot(request(order)));
  return options_.config.policy.kind == CheckpointKind::BlockingFull ? drain() : Status();
}

Status RankCheckpoint::drain() {
  const Result<Duration> finished = engine_->finish_snapshot();
  if (!finished.ok()) return finished.error();
  engine_->drain();
  return {};
}

std::vector<CheckpointOutcome> RankCheckpoint::take_outcomes() {
  std::vector<CheckpointOutcome> outcomes = engine_->take_outcomes();
  if (options_.config.policy.kind == CheckpointKind::BlockingFull) {
    for (CheckpointOutcome& outcome : outcomes) outcome.stall = outcome.committed - outcome.copy_begin;
  }
  return outcomes;
}

/// What this rank holds of a component, flat, and which elements of the parameter that is: its share, if ZeRO divides
/// it.
RankCheckpoint::Part RankCheckpoint::part(Component component, const ParameterStore::Entry& entry) const {
  if (component != Component::Weight) return {entry.share, options_.store.share(component, entry)};
  const Tensor weight = options_.store.tensor(component, entry);
  return {{0, weight.element_count()}, weight.reshaped({weight.element_count()})};
}

SnapshotRequest RankCheckpoint::request(const SnapshotOrder& order) const {
  SnapshotRequest request;
  request.state = order.state;
  for (const TensorSlice& slice :
       rank_slices(options_.inventory, options_.config.policy, order.selection, options_.rank)) {
    const auto index = static_cast<std::size_t>(slice.parameter);
    const Parameter& parameter = options_.inventory.parameters()[index];
    const Part held = part(slice.component, options_.store.entry(parameter.name));
    const ElementRange range = slice.elements;
    request.slices.push_back({parameter.name, slice.component, parameter.shape, range, unit_of(index),
                              held.data.slice(range.begin - held.elements.begin, range.end - held.elements.begin),
                              slice.level});
  }
  return request;
}

std::vector<RestoreTarget> RankCheckpoint::targets() const {
  std::vector<RestoreTarget> out;
  const std::vector<Parameter>& all = options_.inventory.parameters();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!options_.store.has(all[i].name)) continue;
    const ParameterStore::Entry& entry = options_.store.entry(all[i].name);
    for (const Component component : kSavedComponents) {
      if (options_.inventory.bytes_per_element(component) == 0) continue;
      const Part wanted = part(component, entry);
      out.push_back({all[i].name, component, wanted.elements, unit_of(i), wanted.data});
    }
  }
  return out;
}

/// Masters of the weights' own type are not saved; where ZeRO divides them they are no weights either.
void RankCheckpoint::renew_masters() const {
  if (options_.inventory.bytes_per_element(Component::Master) > 0) return;
  for (const ParameterStore::Entry& entry : options_.store.entries()) {
    const Part master = part(Component::Master, entry);
    const Tensor weight = part(Component::Weight, entry).data.slice(master.elements.begin, master.elements.end);
    if (weight.data == master.data.data || weight.element_count() == 0) continue;
    options_.backend.copy(Lane::CopyIn, master.data, weight);
  }
  options_.backend.synchronize(Lane::CopyIn);
}

std::string RankCheckpoint::unit_of(std::size_t parameter) const {
  const std::optional<std::size_t> expert = options_.inventory.expert_of(parameter);
  return expert ? expert_names_[*expert] : "";
}

}  // namespace moecast
