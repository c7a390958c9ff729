#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "models/checkpoint/selection.h"

namespace moecast {

SelectionState::SelectionState(ExpertIndex experts, const CheckpointPolicy& policy)
    : experts_(std::move(experts)), two_levels_(policy.recovers_from_memory()), tokens_at_commit_(experts_.size(), 0) {
  for (std::size_t m = 0; m < experts_.layer_count(); ++m) {
    cursor_.push_back(static_cast<std::int64_t>(m) * policy.partial.experts.snapshot %
                      experts_.layers()[m].expert_count);
  }
  for (auto& versions : versions_) versions.resize(experts_.size());
}

bool SelectionState::incomplete() const {
  const auto on_storage = versions(CheckpointLevel::Storage);
  return !std::all_of(on_storage.begin(), on_storage.end(), [](const auto& version) { return version.has_value(); });
}

void SelectionState::commit(CheckpointLevel level, const Selection& selection, std::int64_t step,
                            std::span<const std::int64_t> tokens) {
  ASSERT(tokens.size() == experts_.size(), "{} counters for {} experts", tokens.size(), experts_.size());
  ASSERT(selection.of(level).size() == experts_.layer_count(), "a selection of {} MoE layers for {}",
         selection.of(level).size(), experts_.layer_count());
  if (level == CheckpointLevel::Memory && !two_levels_) return;
  for (std::size_t m = 0; m < experts_.layer_count(); ++m) {
    for (const ExpertId expert : selection.of(level)[m]) {
      const std::size_t index = experts_.at(m, expert);
      versions_[static_cast<std::size_t>(level)][index] = SavedVersion{step, tokens[index]};
    }
  }
  if ((level == CheckpointLevel::Memory) != two_levels_) return;
  for (std::size_t m = 0; m < experts_.layer_count(); ++m) {
    cursor_[m] = (cursor_[m] + std::ssize(selection.snapshot[m])) % experts_.layers()[m].expert_count;
  }
  ++committed_count_;
  tokens_at_commit_.assign(tokens.begin(), tokens.end());
}

void SelectionState::accept_initial_state() {
  for (auto& versions : versions_) versions.assign(experts_.size(), SavedVersion{});
}

void SelectionState::set_versions(CheckpointLevel level, std::vector<std::optional<SavedVersion>> versions) {
  ASSERT(versions.size() == experts_.size(), "{} versions for {} experts", versions.size(), experts_.size());
  versions_[static_cast<std::size_t>(level)] = std::move(versions);
}

nlohmann::ordered_json to_json(const SelectionState& state) {
  nlohmann::ordered_json json;
  json["committed"] = state.committed_count();
  json["cursors"] = nlohmann::ordered_json::array();
  for (std::size_t m = 0; m < state.experts().layer_count(); ++m) json["cursors"].push_back(state.cursor(m));
  std::vector<std::int64_t> steps;  // -1 in the file: no version
  std::vector<std::int64_t> tokens;
  for (const std::optional<SavedVersion>& version : state.versions(CheckpointLevel::Storage)) {
    steps.push_back(version ? version->step : -1);
    tokens.push_back(version ? version->tokens : 0);
  }
  json["version_steps"] = steps;
  json["version_tokens"] = tokens;
  json["tokens_at_commit"] =
      std::vector<std::int64_t>(state.tokens_at_commit().begin(), state.tokens_at_commit().end());
  return json;
}

namespace {

std::vector<std::int64_t> read_list(JsonReader& reader, std::string_view key, std::int64_t low, std::size_t count) {
  std::vector<std::int64_t> values = reader.integers(key, low, INT64_MAX);
  if (values.size() != count) {
    reader.problem(key, "conflict", fmt::format("{} numbers", count), std::to_string(values.size()));
    values.resize(count);
  }
  return values;
}

}  // namespace

SelectionState read_selection_state(JsonReader& reader, const ExpertIndex& experts, const CheckpointPolicy& policy) {
  SelectionState state(experts, policy);
  state.committed_count_ = reader.integer("committed", 0, INT64_MAX);
  state.cursor_ = read_list(reader, "cursors", 0, experts.layer_count());
  for (std::size_t m = 0; m < experts.layer_count(); ++m) {
    if (state.cursor_[m] >= experts.layers()[m].expert_count) {
      reader.problem("cursors", "out-of-range", fmt::format("below the {} experts", experts.layers()[m].expert_count),
                     std::to_string(state.cursor_[m]));
    }
  }
  const std::vector<std::int64_t> steps = read_list(reader, "version_steps", -1, experts.size());
  const std::vector<std::int64_t> tokens = read_list(reader, "version_tokens", 0, experts.size());
  auto& on_storage = state.versions_[static_cast<std::size_t>(CheckpointLevel::Storage)];
  for (std::size_t i = 0; i < experts.size(); ++i) {
    if (steps[i] >= 0) on_storage[i] = SavedVersion{steps[i], tokens[i]};
  }
  state.tokens_at_commit_ = read_list(reader, "tokens_at_commit", 0, experts.size());
  return state;
}

}  // namespace moecast
