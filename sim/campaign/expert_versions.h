#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/checkpoint/selection.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// How old every expert's saved state is, at both levels, and what faults have lost.
///
/// The content of a version of an expert is the number of steps whose updates it holds: its step minus the steps that
/// faults undid before. A fault that restores content r at step v loses content(live at v) - r, where content(live) =
/// v - lost so far; that counts every step once, however many faults undo it (as LossAccount does with intervals).
/// Between faults nothing is stored: with sequential selection the newest version of an expert follows from how many
/// checkpoints were committed (SequentialRotation), else the selections are made again, checkpoint by checkpoint, when
/// a fault asks. Three numbers an expert are all there is, and with sequential selection only for layers that differ:
/// two layers of a pipeline stage whose cursors are equal stay equal for ever.
class ExpertVersions {
 public:
  /// `scenario.policy` is of a PEC kind. The scenario outlives the object.
  explicit ExpertVersions(const CampaignScenario& scenario);

  [[nodiscard]] ExpertCounts counts() const { return counts_; }

  /// Training goes back to the version of `step`; since the last restore a checkpoint was taken at every multiple of
  /// `interval`. Experts with a holder among `lost` nodes come from storage, the others from memory (all from storage
  /// with one level). Returns the proportion of lost tokens of this fault.
  double restore(std::int64_t step, std::int64_t interval, std::span<const std::int64_t> lost);
  /// From the restored step on, other counts (Dynamic-K).
  void change_counts(ExpertCounts counts);

  /// Share of the experts that have a holder on these nodes.
  [[nodiscard]] double lost_share(std::span<const std::int64_t> lost) const;
  /// Steps that faults undid for this expert, for tests.
  [[nodiscard]] std::int64_t lost_steps(std::int64_t layer, std::int64_t expert) const;

 private:
  /// Experts [begin, end) of every layer of a pipeline stage, which survive in memory or do not.
  struct Segment {
    std::int64_t begin = 0, end = 0;
    bool in_memory = false;
  };
  /// Steps of the newest versions since the last restore, or far below zero; row of a layer = table + shift.
  struct SavedSteps {
    std::vector<std::int32_t> memory, storage;
  };

  /// Layers that are alike: one of them, how many there are, and where their experts begin in the tables.
  struct LayerClass {
    std::int64_t layer = 0;
    std::int64_t count = 0;
    std::size_t begin = 0;
  };

  void prepare_rotation();
  void fill_rotation(std::int64_t committed, std::int64_t interval);
  void replay_selections(std::int64_t step, std::int64_t interval);
  void fold_layers();
  [[nodiscard]] std::size_t row_of(std::int64_t layer) const;
  [[nodiscard]] std::vector<bool> lost_positions(std::int64_t stage, std::span<const std::int64_t> lost) const;
  [[nodiscard]] std::vector<Segment> segments(std::int64_t stage, std::span<const std::int64_t> lost) const;
  [[nodiscard]] double restore_layer(const LayerClass& layer, std::int64_t step, std::span<const Segment> segments);
  void forget_lost_memory(std::span<const std::int64_t> lost);

  const CampaignScenario& scenario_;
  const CheckpointPolicy& policy_;
  ExpertPlacement place_;
  bool rotates_ = true;
  bool two_levels_ = true;
  ExpertCounts counts_;
  ExpertCounts first_counts_;

  // Rotation: all layers turn alike, layer m ahead by m first_counts_.snapshot + cursor_.
  std::int64_t base_step_ = 0;                            // of the last restore
  std::int64_t cursor_ = 0;                               // where the turns began
  std::int64_t turns_ = 0;                                // committed checkpoints with the present counts
  bool full_pending_ = false;                             // the next checkpoint is full
  std::vector<std::int32_t> memory_turn_, storage_turn_;  // [N]: first checkpoint that has the place
  SavedSteps saved_;                                      // rotation: [2 N]; else [layers N]
  std::optional<SelectionState> selections_;              // not for rotation
  std::vector<std::int64_t> load_;                        // assignments a step, [layers N]; not for rotation

  std::vector<std::vector<LayerClass>> classes_;       // [stage]
  std::vector<std::size_t> begin_of_layer_;            // [layers], of its class
  std::vector<double> weight_;                         // [N], share of a layer's tokens; empty: uniform
  std::vector<std::int32_t> lost_, memory_, storage_;  // [classes N]: steps lost; content at the levels
};

}  // namespace moecast
