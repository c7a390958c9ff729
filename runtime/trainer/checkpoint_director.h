#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "models/checkpoint/checkpoint_inventory.h"
#include "models/checkpoint/dynamic_k.h"
#include "models/checkpoint/plt.h"
#include "models/checkpoint/selection.h"
#include "runtime/trainer/checkpoint_report.h"
#include "runtime/trainer/rank_checkpoint.h"
#include "runtime/trainer/rank_trainer.h"
#include "runtime/trainer/train_config.h"

namespace moecast {

/// Decides for all ranks what is saved when, keeps account of what the experts have seen, what is safe and what faults
/// have cost. No threads and no devices, as the Director that owns it: everything comes from what ranks bring back.
class CheckpointDirector {
 public:
  /// What it borrows outlives it.
  CheckpointDirector(const TrainConfig& config, const CheckpointInventory& inventory, Log& log);

  using Outcomes = std::span<const std::optional<StepOutcome>>;
  /// After a training step: what it sent to the experts. What was copied beside it is complete now.
  void count(Outcomes outcomes);
  /// After any task: snapshots that came to their end.
  void hear(Outcomes outcomes);
  /// The snapshot of the state after so many updates, if one is due; the same until it is asked for another.
  [[nodiscard]] const SnapshotOrder* order(std::int64_t updates);
  /// Some snapshot's end is still open, and training is to wait for it (CheckpointConfig::settle).
  [[nodiscard]] bool must_settle() const { return settings().settle && !open_.empty(); }

  /// Training fails here, and is to go on from what is left. What was on its way is given up.
  void failed(std::string cause, std::int64_t updates, double lost_share);
  /// What the ranks got back after a failure, or, without one, at the start of a process. Returns the updates that
  /// training goes on from. BadInput if what was saved belongs to another seed or other batches.
  [[nodiscard]] Result<std::int64_t> restored(Outcomes outcomes);

  [[nodiscard]] CheckpointReport take_report();

 private:
  /// A snapshot on its way.
  struct Open {
    SnapshotOrder order;
    std::vector<std::int64_t> tokens;
    bool copied = false;
    std::vector<CheckpointOutcome> ended;  // of the ranks so far
  };
  struct Failure {
    std::string cause;
    std::optional<std::int64_t> updates;
    double lost_share = 1;  // of the ranks: host memory is gone
  };
  /// A fault's cost; stored with every later version, so that a process that is restarted knows of it.
  struct Cost {
    double plt = 0;
    double next_plt = 0;
    std::vector<LostTokens> lost;
  };

  using Units = std::map<std::size_t, RestoredRank::Unit>;  // by expert

  [[nodiscard]] const CheckpointConfig& settings() const { return *config_.checkpoint; }
  [[nodiscard]] TrainingState state_at(std::int64_t updates, const Selection& selection) const;
  void end(const Open& open);
  void forget_old_counts();
  void warn(const SavedCheckpoint& saved);
  [[nodiscard]] Status check_continuation(const TrainingState& state) const;
  void begin_anew();
  [[nodiscard]] Status read_extra(const TrainingState& state);
  void take_versions(const Units& units);
  [[nodiscard]] std::vector<LostTokens> lost(const Units& units) const;
  [[nodiscard]] double add_cost(std::vector<LostTokens> lost);
  [[nodiscard]] double next_plt() const;
  [[nodiscard]] double share_of_run(std::span<const std::int64_t> lost) const;
  [[nodiscard]] ExpertCounts counts() const;
  void tell(const Recovery& recovery) const;

  const TrainConfig& config_;
  const CheckpointInventory& inventory_;
  Log& log_;
  SelectionState state_;
  std::vector<std::int64_t> tokens_;                             // of every expert, all ranks, since step 0
  std::map<std::int64_t, std::vector<std::int64_t>> tokens_at_;  // by step of a snapshot
  std::map<std::int64_t, Open> open_;                            // by step
  std::optional<SnapshotOrder> order_;
  std::int64_t saved_ = 0;  // the step that training began with or went on from: it is not saved again
  std::optional<Failure> failure_;
  LossAccount losses_;
  std::vector<Cost> costs_;
  std::optional<DynamicKController> dynamic_;
  CheckpointReport report_;
};

}  // namespace moecast
