#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "models/state_inventory.h"
#include "runtime/backend.h"

namespace moecast {

/// The four stretches of every buffer, in this order: what the optimizer updates with one call each. The first two and
/// the last two are also contiguous: what is reduced over Data and over ExpertData.
enum class ParameterClass { DenseDecay, DenseNoDecay, ExpertDecay, ExpertNoDecay };
inline constexpr std::size_t kParameterClassCount = 4;

/// The parameters of one rank: master weights, gradients and both moments in F32 (F64 when the compute type is F64),
/// each in one allocation without gaps; compute weights are the masters themselves unless the compute type has fewer
/// bits. Inside a class the order is that of parameters_of_rank, so all local experts' w1 of a layer are one [E/P, K,
/// N].
class ParameterStore {
 public:
  struct Entry {
    Parameter parameter;
    std::int64_t offset = 0;  // elements from the start of the buffer
  };

  /// Allocates; weights are undefined, gradients and moments zero.
  [[nodiscard]] static Result<ParameterStore> make(std::vector<Parameter> parameters, DType compute, Backend& backend);

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] bool has(std::string_view name) const { return by_name_.contains(std::string(name)); }
  /// One parameter in its own shape.
  [[nodiscard]] Tensor tensor(Component component, std::string_view name) const;
  [[nodiscard]] Tensor tensor(Component component, const Entry& entry) const;
  /// `count` parameters of one shape that follow one another, beginning with `first`: [count, shape...]. A vector
  /// counts as one dimension.
  [[nodiscard]] Tensor stacked(Component component, std::string_view first, std::int64_t count) const;
  /// A class as a flat vector; may have no elements.
  [[nodiscard]] Tensor flat(Component component, ParameterClass of) const;
  /// All non-expert parameters, all expert parameters, as flat vectors.
  [[nodiscard]] Tensor flat_dense(Component component) const;
  [[nodiscard]] Tensor flat_expert(Component component) const;
  [[nodiscard]] std::int64_t element_count() const { return class_begin_.back(); }

 private:
  ParameterStore() = default;
  void place(std::vector<Parameter> parameters);
  [[nodiscard]] const Entry& entry(std::string_view name) const;
  [[nodiscard]] Tensor range(Component component, std::int64_t begin, std::int64_t end) const;
  [[nodiscard]] DType dtype(Component component) const;

  static constexpr std::size_t kComponentCount = 5;
  DType compute_ = DType::F32;
  DType state_ = DType::F32;  // of everything but the compute weights
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::array<std::int64_t, kParameterClassCount + 1> class_begin_{};
  std::array<std::unique_ptr<DeviceMemory>, kComponentCount> memory_;  // none for weights that are the masters
};

/// Master weights, and compute weights from them, after GPT-2 (Radford et al. 2019, section 2.3): normal with deviation
/// 0.02, projections onto the residual stream divided by sqrt(2 layers); gains 1, biases 0. A value depends on the seed
/// and the parameter's name alone, hence not on the number of ranks.
void initialise(ParameterStore& store, std::int64_t layer_count, std::uint64_t seed, Backend& backend);

}  // namespace moecast
