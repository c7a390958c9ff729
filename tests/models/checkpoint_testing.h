#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/checkpoint/checkpoint_inventory.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/selection.h"

namespace moecast::testing_models {

/// A model of models/zoo ("gpt_350m_16e").
[[nodiscard]] MoeModel zoo_model(const std::string& name);
/// 2 bytes of weights, 4 of master, 4 + 4 of moments: 14 for each parameter.
[[nodiscard]] Precision mixed_precision();
[[nodiscard]] CheckpointInventory inventory_of(const MoeModel& model, const ParallelLayout& layout,
                                               const Precision& precision = mixed_precision());
/// `layers` MoE layers of `experts` experts each; blocks 1, 3, 5 ...
[[nodiscard]] ExpertIndex experts_of(std::size_t layers, std::int64_t experts, std::int64_t top_k = 1);
/// Sequential PEC, no full first checkpoint; two levels if persist < snapshot.
[[nodiscard]] CheckpointPolicy sequential_policy(ExpertCounts counts);

/// Checkpoints of one policy in a row, `interval` steps apart, each committed at both levels.
class CheckpointRun {
 public:
  CheckpointRun(ExpertIndex experts, CheckpointPolicy policy);

  [[nodiscard]] SelectionState& state() { return state_; }
  [[nodiscard]] std::vector<std::int64_t>& tokens() { return tokens_; }
  [[nodiscard]] Selection next() const;
  /// Selects and commits.
  Selection save();

 private:
  CheckpointPolicy policy_;
  SelectionState state_;
  std::vector<std::int64_t> tokens_;
  std::int64_t step_ = 0;
};

/// Experts as plain numbers, [MoE layer].
[[nodiscard]] std::vector<std::vector<int>> numbers(const std::vector<std::vector<ExpertId>>& chosen);

}  // namespace moecast::testing_models
