#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/attention.h"
#include "models/gate.h"

namespace moecast {

enum class Activation { Gelu, Relu, SwiGlu, GeGlu };  // SwiGlu and GeGlu have three matrices, the others two
[[nodiscard]] constexpr bool is_gated(Activation kind) {
  return kind == Activation::SwiGlu || kind == Activation::GeGlu;
}
enum class NormKind { LayerNorm, RmsNorm };
enum class PositionKind { Learned, Rope };

/// Where gate and routed experts of a Mixture-of-Experts block read their input (ScMoE, arXiv 2404.05019, sections 3.1,
/// 4.2.1). Block l+1 is the MoE block, block l the one before it.
enum class Shortcut {
  None,  // H_{l+1}^MH, after this block's attention: the standard MoE
  Pos1,  // H_l^MLP, the preceding block's output = this block's input (of the first block: the embedding)
  Pos2,  // H_l^MH, the preceding block after its attention
  Pos3,  // H_{l-1}, the preceding block's input
};

/// How the shared expert and the routed sum are mixed (ScMoE section 5.2).
enum class CoefficientGate {
  DirectAdd,  // SE(x) + sum G E
  Cg1,        // sigmoid(w.x) * SE(x) + sum G E
  Cg2,        // c = softmax(W x), two values: c0 * SE(x) + c1 * sum G E
};

/// Values of c for each token: columns of the coefficient gate's matrix.
[[nodiscard]] constexpr std::int64_t coefficient_count(CoefficientGate gate) {
  return gate == CoefficientGate::DirectAdd ? 0 : gate == CoefficientGate::Cg1 ? 1 : 2;
}

/// The MoE part of one block.
struct MoeFfn {
  std::int64_t expert_count = 8;
  std::int64_t expert_width = 0;  // f of one routed expert
  /// Experts without computation, output = input (LongCat-Flash, arXiv 2509.01322, section 2.1): the router chooses
  /// among expert_count + zero_expert_count, and what falls to these travels nowhere.
  std::int64_t zero_expert_count = 0;
  /// 0: no shared expert. Several are one of their summed width: they read the same and their outputs add up.
  std::int64_t shared_expert_width = 0;
  GateRule gate = {};
  /// Slots per expert and source rank: C = top_k * max(1, floor(factor * ceil(T / E))), E with the zero experts; no
  /// value: dropless.
  std::optional<double> capacity_factor = std::nullopt;
  Shortcut shortcut = Shortcut::None;
  /// DGMoE (ScMoE appendix A.2, eq 23): tokens are routed twice through these experts, top_k by the shortcut tensor and
  /// top_k by this block's own H^MH, which may not repeat the first choice. Needs a shortcut; no shared expert.
  bool double_gate = false;
  CoefficientGate coefficient_gate = CoefficientGate::DirectAdd;  // only with a shared expert
  double balance_loss_coefficient = 0.01;
  RouterLosses loss_coefficients = {};  // of the others

  /// Experts that the router scores.
  [[nodiscard]] std::int64_t choice_count() const { return expert_count + zero_expert_count; }
  /// Columns of what a gate leaves for each token: GateRule::choices.
  [[nodiscard]] std::int64_t choices() const { return gate.choices(choice_count()); }
  /// Times that each token is routed: 2 with double_gate.
  [[nodiscard]] std::int64_t routing_count() const { return double_gate ? 2 : 1; }
  /// Of a routing's top_k choices those that fall to experts which compute, when load is balanced.
  [[nodiscard]] double computing_choices() const;
  [[nodiscard]] std::int64_t routed_rows(std::int64_t tokens) const;  // the same, of so many tokens together
  /// C above; no value when dropless. `tokens` (at least 1) are those of one rank and one micro-batch.
  /// Source: Tutel, tutel/impls/fast_dispatch.py (extract_critical), for a positive factor. Tutel's C can be 0, which
  /// drops every token; here each choice keeps at least one slot.
  [[nodiscard]] std::optional<std::int64_t> capacity(std::int64_t tokens) const;

  friend bool operator==(const MoeFfn&, const MoeFfn&) = default;
};

/// One transformer block: attention, then a dense FFN or a MoE. Pre-norm, residual.
struct Block {
  std::int64_t dense_width = 0;  // of the dense FFN; 0 with moe
  std::optional<MoeFfn> moe = std::nullopt;

  friend bool operator==(const Block&, const Block&) = default;
};

/// What is trained. Complete and checked when it comes from read_moe_model.
struct MoeModel {
  std::string name;
  std::string source = {};  // where the numbers come from: paper and section, model card
  std::int64_t d_model = 0;
  std::int64_t vocabulary = 0;
  std::int64_t max_sequence = 0;
  Attention attention = {};
  Activation activation = Activation::Gelu;
  NormKind norm = NormKind::LayerNorm;
  PositionKind position = PositionKind::Learned;
  bool bias = true;            // biases in linear layers and experts (GPT style)
  bool tie_embeddings = true;  // output projection = token embedding
  double norm_epsilon = 1e-5;
  double rope_theta = 10000.0;
  std::vector<Block> blocks;

  [[nodiscard]] std::int64_t layer_count() const { return static_cast<std::int64_t>(blocks.size()); }
  [[nodiscard]] bool gated() const { return is_gated(activation); }
  /// Columns of the first FFN matrix for width f: 2f with SwiGLU and GeGLU (gate | up), else f.
  [[nodiscard]] std::int64_t ffn_input_columns(std::int64_t width) const { return gated() ? 2 * width : width; }

  friend bool operator==(const MoeModel&, const MoeModel&) = default;
};

}  // namespace moecast
