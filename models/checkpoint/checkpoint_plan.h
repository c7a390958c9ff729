#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/units.h"
#include "models/checkpoint/expert_index.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/selection.h"
#include "models/checkpoint/sharding.h"
#include "models/state_inventory.h"

namespace moecast {

/// Components that a checkpoint can hold, in the order of a plan's slices.
inline constexpr std::array<Component, 4> kSavedComponents = {Component::Weight, Component::Master,
                                                              Component::FirstMoment, Component::SecondMoment};

/// Part of one tensor that one rank copies to host memory and, with level Storage, writes to storage from there.
struct TensorSlice {
  std::int32_t parameter = 0;  // index into CheckpointInventory::parameters
  Component component = Component::Weight;
  ElementRange elements = {};
  Bytes bytes{0};
  Rank rank;
  CheckpointLevel level = CheckpointLevel::Storage;  // the last one that it reaches

  friend bool operator==(const TensorSlice&, const TensorSlice&) = default;
};

/// Bytes of each rank, [world size]. Memory: copied from the device to host memory (all slices); storage: written.
struct RankBytes {
  std::vector<Bytes> memory;
  std::vector<Bytes> storage;

  [[nodiscard]] const std::vector<Bytes>& of(CheckpointLevel level) const {
    return level == CheckpointLevel::Memory ? memory : storage;
  }
  [[nodiscard]] Bytes total(CheckpointLevel level) const;
  [[nodiscard]] Bytes bottleneck(CheckpointLevel level) const;  // of the rank that has most

  friend bool operator==(const RankBytes&, const RankBytes&) = default;
};

/// The state of a model in a layout, as checkpoints divide it: built once, used for every plan.
class CheckpointInventory {
 public:
  /// BadInput where the layout is not covered (tensor or pipeline parallel, experts that EP does not divide).
  [[nodiscard]] static Result<CheckpointInventory> make(const MoeModel& model, const ParallelLayout& layout,
                                                        const Precision& precision);

  /// A module of the non-expert part: consecutive parameters.
  struct Module {
    std::string name;
    std::int32_t first_parameter = 0;
    std::int32_t parameter_count = 0;
    std::int64_t element_count = 0;
  };

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] const ExpertIndex& experts() const { return experts_; }
  [[nodiscard]] const ParallelLayout& layout() const { return layout_; }
  [[nodiscard]] const std::vector<Module>& modules() const { return modules_; }
  /// Parameters of one expert (index into experts()), in the order of parameters().
  [[nodiscard]] std::vector<std::int32_t> expert_parameters(std::size_t expert) const;
  [[nodiscard]] std::int64_t expert_element_count(std::size_t expert) const;
  /// Position of the expert's owners in their expert groups.
  [[nodiscard]] std::int64_t expert_owner(std::size_t expert) const;

  [[nodiscard]] std::int64_t bytes_per_element(Component component) const;
  /// Does ZeRO divide this component over its replicas?
  [[nodiscard]] bool zero_sharded(Component component) const;
  /// Non-expert and expert parameters.
  [[nodiscard]] std::int64_t non_expert_element_count() const;
  [[nodiscard]] std::int64_t total_expert_element_count() const;

 private:
  CheckpointInventory() = default;

  std::vector<Parameter> parameters_;
  ExpertIndex experts_;
  ParallelLayout layout_;
  Precision precision_;
  std::vector<Module> modules_;
  /// [expert][tensor]: the parameter; experts of one layer have equal shapes.
  std::vector<std::vector<std::int32_t>> expert_parameters_;
};

/// Every slice of one checkpoint: ranks ascending; inside a rank parameters in inventory order, then components, each
/// element of a saved tensor exactly once over all ranks.
struct CheckpointPlan {
  std::vector<TensorSlice> slices;
  RankBytes bytes;
};

/// What is saved when `selection` is. Rank and level of every slice:
/// - ZeRO-sharded components: every owner writes its even share of each tensor;
/// - others of an expert: its replicas share the tensors (Sharding::expert);
/// - others of the non-expert part: by module (Sharding::non_expert); adaptive begins with the bytes that each rank
///   already copies for this checkpoint, and the same rank persists what it copied.
/// Experts that a rule saves without selection (ComponentRule::All) reach storage. No plan for CheckpointKind::None.
[[nodiscard]] CheckpointPlan build_checkpoint_plan(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                                   const Selection& selection);

/// The plan's bytes alone, without slices: for thousands of ranks and experts. Equal to
/// build_checkpoint_plan(..).bytes.
[[nodiscard]] RankBytes checkpoint_bytes(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                         const Selection& selection);

/// Bytes of the whole state, each element once (eq 5: (P_ne + P_e)(B_w + B_o)).
[[nodiscard]] Bytes full_state_bytes(const CheckpointInventory& inventory);

/// Eq 8 of arXiv 2408.04307 as printed: bytes of each rank, fully sharded with ZeRO. Right only for one expert group.
[[nodiscard]] double printed_rank_bytes(double non_expert, double expert, double weight_bytes, double optimizer_bytes,
                                        const ParallelLayout& layout);

}  // namespace moecast
