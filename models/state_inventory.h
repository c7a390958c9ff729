#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"

namespace moecast {

/// Which copy of a parameter. Master exists only when the compute weight has fewer bits than F32.
enum class Component { Weight, Master, FirstMoment, SecondMoment, Gradient };

/// One parameter of the model: names follow "blocks.3.experts.5.w1", shapes as in the runtime ([K,N] row-major).
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::optional<LayerId> layer;    // none for embeddings, final norm, output projection
  std::optional<ExpertId> expert;  // routed experts only
  bool decay = true;               // weight decay applies (matrices, not biases, gains or embeddings of position)
  /// The dimension that tensor parallelism divides (Megatron-LM, arXiv 1909.08053, section 3: the first matrix of
  /// attention and FFN by columns, the second by rows; embeddings by words); none: every tensor rank has all of it.
  std::optional<std::size_t> tensor_axis = std::nullopt;
  /// False: follows the load instead of a gradient (selection_bias). Where others have their gradient it has the tokens
  /// that each expert was chosen by; it has no part in the gradient's norm and no optimizer moves it.
  bool trained = true;
  [[nodiscard]] std::int64_t element_count() const;
};

/// Every parameter in one fixed order: embeddings, blocks ascending, final norm, output. Inside a block: attention;
/// then mlp, or shared expert, coefficient gate, gate, experts. Of the experts, every tensor for all experts ascending
/// before the next tensor, so that a grouped product finds its [experts, K, N] in one piece. Memory estimates,
/// checkpoint sizes and the runtime's allocations all come from this list.
///
///   embedding.token [V,d]; embedding.position [S,d] (learned only); final_norm.*; output.w [d,V] (unless tied)
///   blocks.i.attention: norm.*, wqkv [d, (heads + 2 kv_heads) head_dim], bqkv, wo [heads head_dim, d], bo
///     with QkNorm, after bqkv: q_norm.gain, k_norm.gain [head_dim] or of the whole width
///     latent, instead of wqkv: wq_down [d, query_rank], q_norm.gain [query_rank], wq [query_rank or d, heads
///     head_dim], wkv_down [d, kv_rank + rope_dim], kv_norm.gain [kv_rank], wkv [kv_rank, heads (nope_dim +
///     value_dim)]; wo is [heads value_dim, d]
///   blocks.i.mlp and blocks.i.shared: norm.*, w1 [d, f or 2f], b1, w2 [f, d], b2
///   blocks.i.coefficient.w [d,1] (CG-1) or [d,2] (CG-2)
///   blocks.i.gate: norm.* (the routed branch's own norm), w [d,E] unless the router has no weights, w_noise [d,E]
///   (noisy
///     top-k), selection_bias [E]; E with the zero experts
///   blocks.i.experts.e: w1, b1, w2, b2
///
/// A norm has gain [d] and, as LayerNorm, bias [d]; the b's exist only with MoeModel::bias (bqkv also with qkv_bias).
[[nodiscard]] std::vector<Parameter> parameters(const MoeModel& model);
/// Those of which `rank` holds a copy, with the shapes that it holds: of the blocks of its pipeline stage all
/// non-expert parameters (its tensor part) and its own experts; embeddings on the first stage, final norm and output on
/// the last, which has a copy of a tied token embedding. Expert e belongs to position e / (E / P) of the expert group
/// of P ranks. Words that do not divide among tensor ranks are padded. The layout fits the model (`check_parallel`).
[[nodiscard]] std::vector<Parameter> parameters_of_rank(const MoeModel& model, const ParallelLayout& layout, Rank rank);

struct ParameterCount {
  std::int64_t total = 0;
  std::int64_t active = 0;  // per token: the experts of each MoE layer that MoeFfn::computing_choices says
  std::int64_t expert = 0;  // in routed experts
};
[[nodiscard]] ParameterCount count_parameters(const MoeModel& model);

/// Bytes per parameter of each component in a training run with this compute dtype.
struct Precision {
  std::int64_t weight = 4;
  std::int64_t master = 0;  // 4 when weight < 4
  std::int64_t first_moment = 4;
  std::int64_t second_moment = 4;
  std::int64_t gradient = 4;
};
/// Mixed precision: what is not a compute weight has at least F32; a master where the weight is smaller than that.
[[nodiscard]] Precision precision_of(std::int64_t bytes_per_element);

struct RankMemory {
  Bytes weight{0}, master{0}, moments{0}, gradient{0};
};
/// With the layout's ZeRO stage: moments and master from stage 1, gradients from 2, weights from 3 are cut over
/// Data (experts: ExpertData) tensor by tensor (even_share), the first and largest share counted.
[[nodiscard]] RankMemory rank_memory(const MoeModel& model, const ParallelLayout& layout, Rank rank,
                                     const Precision& precision);

}  // namespace moecast
