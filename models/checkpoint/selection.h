#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/ids.h"
#include "base/json_reader.h"
#include "models/checkpoint/expert_index.h"
#include "models/checkpoint/policy.h"

namespace moecast {

/// The experts of one checkpoint: [MoE layer], ascending. What is persisted is part of what is snapshotted.
struct Selection {
  std::vector<std::vector<ExpertId>> snapshot;
  std::vector<std::vector<ExpertId>> persist;

  [[nodiscard]] const std::vector<std::vector<ExpertId>>& of(CheckpointLevel level) const {
    return level == CheckpointLevel::Memory ? snapshot : persist;
  }
  friend bool operator==(const Selection&, const Selection&) = default;
};
/// Every expert at both levels.
[[nodiscard]] Selection select_all(const ExpertIndex& experts);

/// The newest version of one expert at one level: the step, and the assignments it had seen by then.
struct SavedVersion {
  std::int64_t step = 0;
  std::int64_t tokens = 0;

  friend bool operator==(const SavedVersion&, const SavedVersion&) = default;
};

/// What selection remembers from checkpoint to checkpoint. It changes by commits alone: an aborted checkpoint leaves no
/// trace. A value: it is stored with each version's non-expert part and comes back with it.
class SelectionState {
 public:
  /// Nothing saved yet. The layers' first cursors are m K_snapshot mod N.
  SelectionState(ExpertIndex experts, const CheckpointPolicy& policy);

  [[nodiscard]] const ExpertIndex& experts() const { return experts_; }
  /// First expert in turn of MoE layer m (sequential selection).
  [[nodiscard]] std::int64_t cursor(std::size_t layer) const { return cursor_[layer]; }
  /// Committed selections: what `random` draws by.
  [[nodiscard]] std::int64_t committed_count() const { return committed_count_; }
  /// Newest version at this level, [experts().size()]; none: never saved.
  [[nodiscard]] std::span<const std::optional<SavedVersion>> versions(CheckpointLevel level) const {
    return versions_[static_cast<std::size_t>(level)];
  }
  /// Assignments of every expert at the last commit of any level.
  [[nodiscard]] std::span<const std::int64_t> tokens_at_commit() const { return tokens_at_commit_; }
  /// True if some expert has no version on storage: the next checkpoint has to be full (or version 0 is the seed).
  [[nodiscard]] bool incomplete() const;

  /// `selection`, taken at `step` when the experts had seen `tokens` assignments (summed over all ranks), is safe at
  /// `level`. With two levels cursors advance when the snapshot is complete; with one level memory changes nothing and
  /// they advance when storage has it.
  void commit(CheckpointLevel level, const Selection& selection, std::int64_t step,
              std::span<const std::int64_t> tokens);
  /// The seeded initial state counts as saved at step 0, at both levels (policy without a full first checkpoint).
  void accept_initial_state();
  /// After a recovery: these are the newest versions that are left.
  void set_versions(CheckpointLevel level, std::vector<std::optional<SavedVersion>> versions);

  friend bool operator==(const SelectionState&, const SelectionState&) = default;

 private:
  friend SelectionState read_selection_state(JsonReader&, const ExpertIndex&, const CheckpointPolicy&);

  ExpertIndex experts_;
  bool two_levels_ = false;
  std::vector<std::int64_t> cursor_;  // [MoE layer]
  std::int64_t committed_count_ = 0;
  std::array<std::vector<std::optional<SavedVersion>>, kCheckpointLevelCount> versions_;
  std::vector<std::int64_t> tokens_at_commit_;
};

/// As a part of a manifest; memory's versions are left out, for memory is gone when a manifest is read.
[[nodiscard]] nlohmann::ordered_json to_json(const SelectionState& state);
[[nodiscard]] SelectionState read_selection_state(JsonReader& reader, const ExpertIndex& experts,
                                                  const CheckpointPolicy& policy);

/// One MoE layer as a selection policy sees it at one level; every vector is [N].
struct LayerView {
  std::size_t layer = 0;         // ordinal m
  bool within_snapshot = false;  // choosing what to persist of what the same policy took to memory
  std::int64_t expert_count = 0;
  std::int64_t cursor = 0;
  std::int64_t checkpoint = 0;  // ordinal of this checkpoint
  std::uint64_t seed = 0;
  std::span<const std::int64_t> unsaved;  // assignments since the newest version at the level chosen for
  std::span<const std::int64_t> recent;   // assignments since the last commit
  std::span<const std::int64_t> version;  // step of the newest version + 1; 0: none

  /// Distance of the expert from the cursor, going up and around.
  [[nodiscard]] std::int64_t turn(ExpertId expert) const;
};

/// A policy is an order: the K experts with the smallest keys are saved. All ranks see the same counters and decide
/// alike.
struct SelectionPolicy {
  SelectionKind kind;
  std::string_view name;
  std::string_view summary;
  std::pair<std::int64_t, std::int64_t> (*key)(const LayerView&, ExpertId);
};
/// full | sequential | load_aware | oldest_first | popularity | random.
[[nodiscard]] std::span<const SelectionPolicy> selection_policies();

/// The experts of the next checkpoint: of every MoE layer `counts.snapshot` to memory and, chosen among those by the
/// same policy at the storage level, `counts.persist` to storage. Full (every expert) for the full kinds, and while
/// `first_full` holds and some expert has no version on storage. `tokens`: assignments of every expert so far.
[[nodiscard]] Selection select_experts(const CheckpointPolicy& policy, ExpertCounts counts, const SelectionState& state,
                                       std::span<const std::int64_t> tokens);

/// Sequential selection in closed form, for a simulator that jumps over checkpoints: t counts committed checkpoints
/// from 0, K_persist divides K_snapshot divides N. Equal to select_experts while nothing is aborted and K stays.
struct SequentialRotation {
  std::int64_t expert_count = 1;
  ExpertCounts counts = {};

  /// Checkpoints after which every expert has had its turn: N / K_snapshot, N / K_persist.
  [[nodiscard]] std::int64_t period(CheckpointLevel level) const;
  /// First expert of layer m's window (K consecutive ones, modulo N) in checkpoint t.
  [[nodiscard]] std::int64_t first(CheckpointLevel level, std::int64_t layer, std::int64_t checkpoint) const;
  /// Newest checkpoint <= t that holds the expert at this level; none before its first turn.
  [[nodiscard]] std::optional<std::int64_t> last_saved(CheckpointLevel level, std::int64_t layer, ExpertId expert,
                                                       std::int64_t checkpoint) const;
};

}  // namespace moecast
