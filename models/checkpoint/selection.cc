#include "models/checkpoint/selection.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/assert.h"
#include "base/random.h"

namespace moecast {

namespace {

using Key = std::pair<std::int64_t, std::int64_t>;

Key full_key(const LayerView&, ExpertId expert) { return {0, expert.value()}; }
Key sequential_key(const LayerView& view, ExpertId expert) {
  // The snapshot's window moves on every time, so what is persisted of it must go by age: this is the rotation that
  // comes to every expert once in N / K_persist checkpoints.
  return {view.within_snapshot ? view.version[expert.index()] : 0, view.turn(expert)};
}
Key load_aware_key(const LayerView& view, ExpertId expert) { return {-view.unsaved[expert.index()], expert.value()}; }
Key oldest_first_key(const LayerView& view, ExpertId expert) {
  return {view.version[expert.index()], view.turn(expert)};
}
Key popularity_key(const LayerView& view, ExpertId expert) { return {-view.recent[expert.index()], expert.value()}; }
Key random_key(const LayerView& view, ExpertId expert) {
  const CounterRandom random(view.seed, stream_of(view.within_snapshot ? "checkpoint.persist" : "checkpoint.snapshot"));
  const std::uint64_t entity = (static_cast<std::uint64_t>(view.layer) << 32U) | expert.index();
  const std::uint64_t bits = random.bits(entity, static_cast<std::uint64_t>(view.checkpoint));
  return {static_cast<std::int64_t>(bits >> 1U), expert.value()};
}

constexpr std::array<SelectionPolicy, 6> kPolicies = {{
    {SelectionKind::Full, "full", "every expert", full_key},
    {SelectionKind::Sequential, "sequential", "in rotation, the start shifted from layer to layer", sequential_key},
    {SelectionKind::LoadAware, "load_aware", "most assignments since the expert was last saved", load_aware_key},
    {SelectionKind::OldestFirst, "oldest_first", "oldest saved version, in rotation among equals", oldest_first_key},
    {SelectionKind::Popularity, "popularity", "most assignments since the last checkpoint", popularity_key},
    {SelectionKind::Random, "random", "drawn from a seed", random_key},
}};

const SelectionPolicy& policy_of(SelectionKind kind) {
  for (const SelectionPolicy& policy : kPolicies) {
    if (policy.kind == kind) return policy;
  }
  ASSERT(false, "no such selection: {}", static_cast<int>(kind));
}

std::vector<ExpertId> all_experts(std::int64_t count) {
  std::vector<ExpertId> experts;
  experts.reserve(static_cast<std::size_t>(count));
  for (std::int64_t e = 0; e < count; ++e) experts.emplace_back(static_cast<std::int32_t>(e));
  return experts;
}

/// The `count` candidates with the smallest keys, ascending by expert.
std::vector<ExpertId> pick(const SelectionPolicy& policy, const LayerView& view,
                           const std::vector<ExpertId>& candidates, std::int64_t count) {
  if (policy.kind == SelectionKind::Full || count >= std::ssize(candidates)) return candidates;
  std::vector<std::pair<Key, ExpertId>> keyed;
  keyed.reserve(candidates.size());
  for (const ExpertId expert : candidates) keyed.emplace_back(policy.key(view, expert), expert);
  std::nth_element(keyed.begin(), keyed.begin() + (count - 1), keyed.end());
  std::vector<ExpertId> chosen;
  for (std::int64_t i = 0; i < count; ++i) chosen.push_back(keyed[static_cast<std::size_t>(i)].second);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

/// Counters of one MoE layer at one level, as LayerView borrows them.
struct LayerCounters {
  std::vector<std::int64_t> unsaved, recent, version;
};

LayerCounters layer_counters(const SelectionState& state, std::size_t layer, CheckpointLevel level,
                             std::span<const std::int64_t> tokens) {
  LayerCounters counters;
  for (std::size_t i = state.experts().begin(layer); i < state.experts().begin(layer + 1); ++i) {
    const std::optional<SavedVersion>& version = state.versions(level)[i];
    counters.unsaved.push_back(tokens[i] - (version ? version->tokens : 0));
    counters.recent.push_back(tokens[i] - state.tokens_at_commit()[i]);
    counters.version.push_back(version ? version->step + 1 : 0);
  }
  return counters;
}

std::int64_t modulo(std::int64_t a, std::int64_t n) { return ((a % n) + n) % n; }

}  // namespace

std::string_view to_text(SelectionKind kind) { return policy_of(kind).name; }
std::span<const SelectionPolicy> selection_policies() { return kPolicies; }

std::int64_t LayerView::turn(ExpertId expert) const { return modulo(expert.value() - cursor, expert_count); }

Selection select_all(const ExpertIndex& experts) {
  Selection selection;
  for (const ExpertIndex::Layer& layer : experts.layers())
    selection.snapshot.push_back(all_experts(layer.expert_count));
  selection.persist = selection.snapshot;
  return selection;
}

Selection select_experts(const CheckpointPolicy& policy, ExpertCounts counts, const SelectionState& state,
                         std::span<const std::int64_t> tokens) {
  const ExpertIndex& experts = state.experts();
  ASSERT(tokens.size() == experts.size(), "{} counters for {} experts", tokens.size(), experts.size());
  ASSERT(counts.persist >= 1 && counts.persist <= counts.snapshot, "K_snapshot {}, K_persist {}", counts.snapshot,
         counts.persist);
  if (!policy.is_partial() || (policy.partial.first_full && state.incomplete())) return select_all(experts);
  const bool two_levels = policy.recovers_from_memory();
  const SelectionPolicy& order = policy_of(policy.partial.selection);
  Selection selection;
  for (std::size_t m = 0; m < experts.layer_count(); ++m) {
    LayerView view;
    view.layer = m;
    view.expert_count = experts.layers()[m].expert_count;
    view.cursor = state.cursor(m);
    view.checkpoint = state.committed_count();
    view.seed = policy.partial.seed;
    const auto choose = [&](CheckpointLevel level, const std::vector<ExpertId>& candidates, std::int64_t count) {
      const LayerCounters of_level = layer_counters(state, m, level, tokens);
      view.unsaved = of_level.unsaved;
      view.recent = of_level.recent;
      view.version = of_level.version;
      return pick(order, view, candidates, count);
    };
    const CheckpointLevel first = two_levels ? CheckpointLevel::Memory : CheckpointLevel::Storage;
    selection.snapshot.push_back(choose(first, all_experts(view.expert_count), counts.snapshot));
    view.within_snapshot = true;
    selection.persist.push_back(two_levels ? choose(CheckpointLevel::Storage, selection.snapshot.back(), counts.persist)
                                           : selection.snapshot.back());
  }
  return selection;
}

std::int64_t SequentialRotation::period(CheckpointLevel level) const {
  const std::int64_t count = level == CheckpointLevel::Memory ? counts.snapshot : counts.persist;
  ASSERT(count >= 1 && expert_count % counts.snapshot == 0 && counts.snapshot % counts.persist == 0,
         "no whole rotation: {} experts, K_snapshot {}, K_persist {}", expert_count, counts.snapshot, counts.persist);
  return expert_count / count;
}

std::int64_t SequentialRotation::first(CheckpointLevel level, std::int64_t layer, std::int64_t checkpoint) const {
  const std::int64_t windows = period(CheckpointLevel::Memory);
  std::int64_t expert = layer * counts.snapshot + checkpoint % windows * counts.snapshot;
  if (level == CheckpointLevel::Storage) {
    expert += checkpoint / windows % (counts.snapshot / counts.persist) * counts.persist;
  }
  return expert % expert_count;
}

std::optional<std::int64_t> SequentialRotation::last_saved(CheckpointLevel level, std::int64_t layer, ExpertId expert,
                                                           std::int64_t checkpoint) const {
  const std::int64_t windows = period(CheckpointLevel::Memory);
  const std::int64_t place = modulo(expert.value() - layer * counts.snapshot, expert_count);  // on the layer's ring
  std::int64_t turn = place / counts.snapshot;
  if (level == CheckpointLevel::Storage) turn += place % counts.snapshot / counts.persist * windows;
  if (checkpoint < turn) return std::nullopt;
  return checkpoint - (checkpoint - turn) % period(level);
}

}  // namespace moecast
