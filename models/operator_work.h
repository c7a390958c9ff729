#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/state_inventory.h"
#include "models/step_plan.h"

namespace moecast {

/// Sizes of one chunk of a block's routed tokens, as every rank expects them (exact with a capacity; the balanced mean
/// without).
struct ExpertShare {
  std::int64_t groups = 0;     // local experts, E / P
  double rows = 0;             // rows of each local expert, from all P ranks
  std::int64_t send_rows = 0;  // rows of this rank's send buffer in this chunk, its own share included
};

/// One piece of the model whose gradients are reduced, and whose weights are gathered, together under ZeRO: a block;
/// the embeddings (a tied token embedding among them); final norm and output.
struct StateBucket {
  OpKind kind = OpKind::Embed;  // Embed, Head; Attention stands for a whole block
  std::optional<LayerId> layer = std::nullopt;

  friend bool operator==(const StateBucket&, const StateBucket&) = default;
};
[[nodiscard]] StateBucket bucket_of(const Parameter& parameter);

/// Do the backward operators of routed experts leave the weights' gradients to an operator of their own?
[[nodiscard]] bool splits_expert_weights(const StepPlanRequest& request);

/// The kernels of every operator, in the order in which the runtime calls them: one home for what is run and what is
/// charged. T tokens of one rank and micro-batch (its part of the sequence under context parallelism; between the
/// tensor-parallel products 1/t of them under sequence parallelism), X the activations' element of `bytes_per_element`;
/// gradients of weights, gate tensors and optimizer state have max(4, bytes_per_element) bytes.
///
/// Backward: without weights if `split`; a WeightGradient operator has them then. Recompute is Forward once more.
///
/// Decoding, T is one token of every sequence. With latent attention queries meet the cached latents themselves, as a
/// key and value of one head (DeepSeek-V2, arXiv 2405.04434, section 2.1.2: the up projections move into those of
/// queries and output).
class OperatorWork {
 public:
  /// Of the ranks of one pipeline stage.
  OperatorWork(const StepPlanRequest& request, std::int64_t stage);

  [[nodiscard]] std::vector<Work> embed(Phase phase) const;
  [[nodiscard]] std::vector<Work> attention(Phase phase, LayerId layer, bool split) const;
  [[nodiscard]] std::vector<Work> attention_core(LayerId layer) const;  // what selective recomputation runs again
  [[nodiscard]] std::vector<Work> mlp(Phase phase, std::int64_t width, bool split) const;
  [[nodiscard]] std::vector<Work> shared_expert(Phase phase, const MoeFfn& moe, bool split) const;
  [[nodiscard]] std::vector<Work> gate(Phase phase, const MoeFfn& moe, bool split) const;
  [[nodiscard]] std::vector<Work> encode(Phase phase, const MoeFfn& moe) const;
  [[nodiscard]] std::vector<Work> expert(Phase phase, const MoeFfn& moe, const ExpertShare& share, bool split) const;
  [[nodiscard]] std::vector<Work> decode(Phase phase, const MoeFfn& moe) const;
  [[nodiscard]] std::vector<Work> head(Phase phase, bool split) const;
  [[nodiscard]] std::vector<Work> gradient_norm() const;
  [[nodiscard]] std::vector<Work> optimizer() const;

  /// What the tensor-parallel collectives move: [T, d] of all tensor ranks' tokens together.
  [[nodiscard]] Bytes stream_bytes() const { return Bytes(tokens_ * model_.d_model * element_); }
  /// What a pipeline stage sends to the next: this rank's part of the residual stream.
  [[nodiscard]] Bytes boundary_bytes() const { return Bytes(local_ * model_.d_model * element_); }
  /// Keys and values of the whole sequence on one tensor rank.
  [[nodiscard]] Bytes key_value_bytes() const;
  /// Maximum, sum and target logit of every token: what a loss over divided words exchanges.
  [[nodiscard]] Bytes loss_bytes() const { return Bytes(3 * head_rows_ * state_); }
  /// Expected weights of the different local experts that the tokens of one micro-batch on all expert ranks choose.
  [[nodiscard]] Bytes chosen_expert_weights(const MoeFfn& moe) const;

  /// Tokens of one rank and micro-batch that its router sees.
  [[nodiscard]] std::int64_t routed_tokens() const { return local_; }
  /// Rows of the whole send buffer of one routing: E C with a capacity, T k without.
  [[nodiscard]] std::int64_t send_rows(const MoeFfn& moe) const;
  /// Chunk `chunk` of `count`: slots [chunk C / count, (chunk + 1) C / count) of every expert.
  [[nodiscard]] ExpertShare share(const MoeFfn& moe, std::int64_t chunk, std::int64_t count) const;
  /// Gradients of the parameters on one rank.
  [[nodiscard]] Bytes non_expert_gradient() const { return Bytes(non_expert_.full * state_); }
  [[nodiscard]] Bytes expert_gradient() const { return Bytes(expert_.full * state_); }
  [[nodiscard]] Bytes expert_weights() const { return Bytes(expert_.full * element_); }
  /// Of them those that tensor ranks have in common: under sequence parallelism each has a part of their sum.
  [[nodiscard]] Bytes tensor_replicated_gradient() const { return Bytes(tensor_replicated_ * state_); }
  /// A tied token embedding, which first and last stage of a pipeline both have; 0 elsewhere.
  [[nodiscard]] Bytes tied_gradient() const { return Bytes(tied_ * state_); }

  /// Buckets of this stage in the order of the forward pass.
  [[nodiscard]] const std::vector<StateBucket>& buckets() const { return bucket_list_; }
  /// Elements of a bucket's equal shards together: ceil(n / ranks) of every tensor on each of Data's (experts:
  /// ExpertData's) ranks.
  [[nodiscard]] Bytes bucket_gradient(const StateBucket& bucket, bool expert) const;
  [[nodiscard]] Bytes bucket_weight(const StateBucket& bucket, bool expert) const;
  /// Does ZeRO divide the optimizer's state of this part?
  [[nodiscard]] bool sharded(bool expert) const;

 private:
  struct Counts {  // elements on one rank
    std::int64_t full = 0;
    std::int64_t decay = 0;  // of the shard that the optimizer updates
    std::int64_t no_decay = 0;
    std::int64_t untrained = 0;                    // of the shard: Parameter::trained
    std::vector<std::int64_t> bucket_shards = {};  // [bucket]: of the equal shards of one rank
    [[nodiscard]] std::int64_t trained() const { return decay + no_decay; }
    [[nodiscard]] std::int64_t shard() const { return trained() + untrained; }
  };
  void count_parameters(std::int64_t stage);
  [[nodiscard]] std::int64_t bucket_elements(const StateBucket& bucket, bool expert) const;
  [[nodiscard]] Work memory(MemoryKernel kernel, std::int64_t rows, std::int64_t columns, double operands) const;
  [[nodiscard]] Work flat(MemoryKernel kernel, std::int64_t elements, std::int64_t element_bytes) const;
  [[nodiscard]] Work norm_backward(bool accumulate) const;
  void add_ffn(std::vector<Work>& work, std::int64_t width) const;
  void add_ffn_gradients(std::vector<Work>& work, std::int64_t width, bool inputs, bool weights) const;
  void add_expert_weights(std::vector<Work>& work, const MoeFfn& moe, const ExpertShare& share) const;
  [[nodiscard]] AttentionWork core(LayerId layer, bool backward) const;
  void add_queries_keys_values(std::vector<Work>& work) const;
  void add_queries_keys_values_gradients(std::vector<Work>& work, bool inputs, bool weights) const;
  void add_latent(std::vector<Work>& work) const;
  void add_latent_gradients(std::vector<Work>& work, bool inputs, bool weights) const;

  const MoeModel& model_;
  const ParallelLayout& layout_;
  StepTask task_;
  Batch batch_;
  std::int64_t tensor_;
  std::int64_t tokens_;      // T of the tensor-parallel products
  std::int64_t local_;       // T of everything else
  std::int64_t element_;     // bytes of X
  std::int64_t state_;       // bytes of gradients, master weights, moments, gate tensors
  std::int64_t cached_ = 0;  // tokens of each sequence whose keys and values are in the cache
  std::int64_t head_rows_;   // tokens whose next one is asked for
  Counts non_expert_;
  Counts expert_;
  std::int64_t tensor_replicated_ = 0;
  std::int64_t tied_ = 0;
  std::vector<StateBucket> bucket_list_;
  std::vector<std::int64_t>
      selection_biases_;  // elements that follow the load, of the shard of each layer that has them
};

}  // namespace moecast
