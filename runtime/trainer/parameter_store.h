#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "models/checkpoint/sharding.h"
#include "models/operator_work.h"
#include "models/state_inventory.h"
#include "runtime/backend.h"

namespace moecast {

/// The stretches of every buffer, in this order: what the optimizer updates with one call each, and what it leaves
/// alone (Parameter::trained). The first three and the last two are also contiguous: what is reduced over Data and over
/// ExpertData.
enum class ParameterClass { DenseDecay, DenseNoDecay, DenseUntrained, ExpertDecay, ExpertNoDecay };
inline constexpr std::size_t kParameterClassCount = 5;
inline constexpr std::size_t kFirstExpertClass = static_cast<std::size_t>(ParameterClass::ExpertDecay);

/// How ZeRO divides the state of one rank: over how many replicas of the non-expert and of the expert part, and which
/// of them this rank is. A part with one replica is whole.
struct StateDivision {
  struct Replicas {
    std::int64_t count = 1;
    std::int64_t position = 0;
  };
  int zero_stage = 0;
  Replicas dense = {}, expert = {};

  [[nodiscard]] const Replicas& replicas(bool of_experts) const { return of_experts ? expert : dense; }
  [[nodiscard]] bool sharded(bool of_experts) const { return zero_stage >= 1 && replicas(of_experts).count > 1; }
};
[[nodiscard]] StateDivision state_division(const ParallelLayout& layout, Rank rank);

/// The parameters of one rank: master weights, gradients and both moments in F32 (F64 when the compute type is F64),
/// each in one allocation without gaps; compute weights are the masters themselves unless the compute type has fewer
/// bits or ZeRO divides the masters. Inside a class the order is that of parameters_of_rank, so all local experts' w1
/// of a layer are one [E/P, K, N].
///
/// ZeRO 1: of masters, moments and reduced gradients only this rank's even_share of every tensor, shares one after
/// another in the order of the entries. ZeRO 2: also of gradients; those of one micro-batch are written into working
/// buffers in which the blocks take turns (even and odd), so their tensors share memory.
class ParameterStore {
 public:
  struct Entry {
    Parameter parameter;
    std::int64_t offset = 0;           // elements from the start of the buffer
    ElementRange share = {};           // of the tensor: what this rank keeps the state of
    std::int64_t state_offset = 0;     // of the share, in masters, moments and reduced gradients
    std::int64_t gradient_offset = 0;  // as `offset`, in gradients
  };
  /// What is reduced and gathered by one operator.
  struct Bucket {
    StateBucket what;
    bool expert = false;
    std::vector<std::size_t> entries;
    std::int64_t shard_count = 0;  // elements of one rank: ceil(n / ranks) of every tensor
  };

  /// Allocates; weights are undefined, gradients and moments zero.
  [[nodiscard]] static Result<ParameterStore> make(std::vector<Parameter> parameters, DType compute, Backend& backend,
                                                   const StateDivision& division = {});

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] const Entry& entry(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const { return by_name_.contains(std::string(name)); }
  /// One parameter in its own shape. Not for a master or moment that is divided.
  [[nodiscard]] Tensor tensor(Component component, std::string_view name) const;
  [[nodiscard]] Tensor tensor(Component component, const Entry& entry) const;
  /// This rank's share of a master or moment, flat.
  [[nodiscard]] Tensor share(Component component, const Entry& entry) const;
  /// `count` parameters of one shape that follow one another, beginning with `first`: [count, shape...]. A vector
  /// counts as one dimension.
  [[nodiscard]] Tensor stacked(Component component, std::string_view first, std::int64_t count) const;
  /// What the optimizer reads and writes of a class, as a flat vector; may have no elements. Gradient: reduced, if it
  /// is divided. Weight: in the compute type, of the share.
  [[nodiscard]] Tensor flat(Component component, ParameterClass of) const;
  /// Of all non-expert parameters, of all expert parameters.
  [[nodiscard]] Tensor flat_dense(Component component) const;
  [[nodiscard]] Tensor flat_trained_dense(Component component) const;
  [[nodiscard]] Tensor flat_expert(Component component) const;
  [[nodiscard]] std::int64_t element_count() const { return class_begin_.back(); }

  // ZeRO.
  [[nodiscard]] const StateDivision& division() const { return division_; }
  [[nodiscard]] const Bucket& bucket(const StateBucket& what, bool expert) const;
  /// The share of a weight in the compute type, as the optimizer left it; of a gradient as it is reduced.
  [[nodiscard]] Tensor weight_share(const Entry& entry) const;
  [[nodiscard]] Tensor gradient_share(const Entry& entry) const;
  /// ZeRO 0 and 1: gradients of all non-expert, of all expert parameters, as the backward writes them.
  [[nodiscard]] Tensor whole_gradients(bool expert) const;
  /// Memory for [ranks, shard_count] and for [shard_count] elements of the type of this component.
  [[nodiscard]] Tensor staging(Component component, const Bucket& bucket) const;
  [[nodiscard]] Tensor staging_shard(Component component, const Bucket& bucket) const;

 private:
  ParameterStore() = default;
  void place(std::vector<Parameter> parameters);
  void place_state();
  void place_gradients();
  void list_buckets();
  [[nodiscard]] Status allocate(Backend& backend);
  [[nodiscard]] Status allocate_shards(Backend& backend);
  [[nodiscard]] Tensor view(const std::unique_ptr<DeviceMemory>& memory, DType type, std::int64_t begin,
                            std::int64_t end) const;
  [[nodiscard]] Tensor flat_range(Component component, std::size_t first_class, std::size_t last_class) const;
  [[nodiscard]] Tensor whole(Component component, const Entry& entry, std::int64_t count) const;
  [[nodiscard]] DType dtype(Component component) const { return component == Component::Weight ? compute_ : state_; }
  /// Are the weights of this part the masters?
  [[nodiscard]] bool aliased(bool expert) const { return compute_ == state_ && !division_.sharded(expert); }
  [[nodiscard]] const std::unique_ptr<DeviceMemory>& memory(Component component) const {
    return memory_[static_cast<std::size_t>(component)];
  }

  static constexpr std::size_t kComponentCount = 5;
  DType compute_ = DType::F32;
  DType state_ = DType::F32;  // of everything but the compute weights
  StateDivision division_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::vector<Bucket> buckets_;
  using ClassBegin = std::array<std::int64_t, kParameterClassCount + 1>;
  ClassBegin class_begin_{};  // of whole tensors
  ClassBegin state_begin_{};  // of shares
  std::int64_t gradient_count_ = 0;
  std::array<std::unique_ptr<DeviceMemory>, kComponentCount> memory_;  // none for weights that are the masters
  // Divided parts only.
  std::unique_ptr<DeviceMemory> reduced_;       // gradients, laid out as the state
  std::unique_ptr<DeviceMemory> weight_shard_;  // the same, in a compute type that is not the state's
  std::unique_ptr<DeviceMemory> staging_, staging_shard_;
};

/// Master weights, and compute weights from them, after GPT-2 (Radford et al. 2019, section 2.3): normal with deviation
/// 0.02, projections onto the residual stream divided by sqrt(2 layers); gains 1, biases 0. A value depends on the seed
/// and the parameter's name alone, hence not on the number of ranks.
void initialise(ParameterStore& store, std::int64_t layer_count, std::uint64_t seed, Backend& backend);

}  // namespace moecast
