#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "models/checkpoint/expert_index.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"
#include "models/state_inventory.h"

namespace moecast {

/// Components that a checkpoint can hold, in the order of a plan's slices.
inline constexpr std::array<Component, 4> kSavedComponents = {Component::Weight, Component::Master,
                                                              Component::FirstMoment, Component::SecondMoment};

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
  [[nodiscard]] const std::vector<std::int32_t>& expert_parameters(std::size_t expert) const {
    return expert_parameters_[expert];
  }
  /// The expert (index into experts()) that a parameter belongs to; none: non-expert part.
  [[nodiscard]] std::optional<std::size_t> expert_of(std::size_t parameter) const { return expert_of_[parameter]; }
  [[nodiscard]] std::int64_t expert_element_count(std::size_t expert) const;
  /// Position of the expert's owners in their expert groups.
  [[nodiscard]] std::int64_t expert_owner(std::size_t expert) const;

  [[nodiscard]] std::int64_t bytes_per_element(Component component) const;
  /// Does ZeRO divide this component over its replicas? Then each owns its even_share of every tensor.
  [[nodiscard]] bool zero_sharded(Component component) const;
  [[nodiscard]] std::int64_t element_count() const;         // of the non-expert and the expert part
  [[nodiscard]] std::int64_t expert_element_count() const;  // of the expert part
  /// Bytes of the whole state, each element once (eq 5 of arXiv 2408.04307: (P_ne + P_e)(B_w + B_o)).
  [[nodiscard]] Bytes full_bytes() const;

  /// Elements of the even shares of all non-expert tensors together, by position in Group::Data.
  [[nodiscard]] const std::vector<std::int64_t>& non_expert_shares() const { return non_expert_shares_; }
  /// Experts of equal shape, all of them in whole layers: the shape's class of an expert, and the elements of the even
  /// shares of one such expert, by position in Group::ExpertData.
  [[nodiscard]] std::size_t shape_count() const { return expert_shares_.size(); }
  [[nodiscard]] std::size_t shape(std::size_t layer) const { return shapes_[layer]; }
  [[nodiscard]] const std::vector<std::int64_t>& expert_shares(std::size_t shape) const {
    return expert_shares_[shape];
  }

 private:
  CheckpointInventory() = default;
  void add_shapes();

  std::vector<Parameter> parameters_;
  ExpertIndex experts_;
  ParallelLayout layout_;
  Precision precision_;
  std::vector<Module> modules_;
  std::vector<std::vector<std::int32_t>> expert_parameters_;  // [expert][tensor]
  std::vector<std::optional<std::size_t>> expert_of_;         // [parameter]
  std::vector<std::int64_t> non_expert_shares_;
  std::vector<std::size_t> shapes_;  // [MoE layer]
  std::vector<std::vector<std::int64_t>> expert_shares_;
};

}  // namespace moecast
