#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/step_plan.h"

namespace moecast {

/// Sizes of one chunk of a block's routed tokens, as every rank expects them (exact with a capacity; the balanced mean
/// without).
struct ExpertShare {
  std::int64_t groups = 0;     // local experts, E / P
  double rows = 0;             // rows of each local expert, from all P ranks
  std::int64_t send_rows = 0;  // rows of this rank's send buffer in this chunk, its own share included
};

/// The kernels of every operator, in the order in which the runtime calls them: one home for what is run and what is
/// charged. T tokens of one rank and micro-batch, X the activations' element of `bytes_per_element`; gradients of
/// weights, gate tensors and optimizer state have max(4, bytes_per_element) bytes.
class OperatorWork {
 public:
  explicit OperatorWork(const StepPlanRequest& request);

  [[nodiscard]] std::vector<Work> embed(Phase phase) const;
  [[nodiscard]] std::vector<Work> attention(Phase phase, LayerId layer) const;
  [[nodiscard]] std::vector<Work> mlp(Phase phase, std::int64_t width) const;
  [[nodiscard]] std::vector<Work> shared_expert(Phase phase, const MoeFfn& moe) const;
  [[nodiscard]] std::vector<Work> gate(Phase phase, const MoeFfn& moe) const;
  [[nodiscard]] std::vector<Work> encode(Phase phase, const MoeFfn& moe) const;
  /// Backward without weights if `split`: a WeightGradient operator has them then.
  [[nodiscard]] std::vector<Work> expert(Phase phase, const MoeFfn& moe, const ExpertShare& share, bool split) const;
  [[nodiscard]] std::vector<Work> decode(Phase phase, const MoeFfn& moe) const;
  [[nodiscard]] std::vector<Work> head(Phase phase) const;
  [[nodiscard]] std::vector<Work> gradient_norm() const;
  [[nodiscard]] std::vector<Work> optimizer() const;

  /// Rows of the whole send buffer: E C with a capacity, T k without.
  [[nodiscard]] std::int64_t send_rows(const MoeFfn& moe) const;
  /// Chunk `chunk` of `count`: slots [chunk C / count, (chunk + 1) C / count) of every expert.
  [[nodiscard]] ExpertShare share(const MoeFfn& moe, std::int64_t chunk, std::int64_t count) const;
  /// Gradients of the parameters on one rank.
  [[nodiscard]] Bytes non_expert_gradient() const;
  [[nodiscard]] Bytes expert_gradient() const;

 private:
  struct Counts {  // elements on one rank
    std::int64_t decay = 0;
    std::int64_t no_decay = 0;
    [[nodiscard]] std::int64_t total() const { return decay + no_decay; }
  };
  [[nodiscard]] Work memory(MemoryKernel kernel, std::int64_t rows, std::int64_t columns, double operands) const;
  [[nodiscard]] Work flat(MemoryKernel kernel, std::int64_t elements, std::int64_t element_bytes) const;
  [[nodiscard]] Work norm_backward(bool accumulate) const;
  void add_ffn(std::vector<Work>& work, std::int64_t width) const;
  void add_ffn_backward(std::vector<Work>& work, std::int64_t width) const;
  void add_expert_weights(std::vector<Work>& work, const MoeFfn& moe, const ExpertShare& share) const;
  [[nodiscard]] AttentionWork core(LayerId layer, bool backward) const;
  void add_queries_keys_values(std::vector<Work>& work) const;
  void add_queries_keys_values_backward(std::vector<Work>& work) const;
  [[nodiscard]] std::vector<Work> latent_forward() const;
  [[nodiscard]] std::vector<Work> latent_backward() const;

  const MoeModel& model_;
  const ParallelLayout& layout_;
  Batch batch_;
  std::int64_t tokens_;
  std::int64_t element_;  // bytes of X
  std::int64_t state_;    // bytes of gradients, master weights, moments, gate tensors
  Counts non_expert_;
  Counts expert_;
};

}  // namespace moecast
