#pragma once

#include <optional>
#include <vector>

#include "models/moe_model.h"
#include "runtime/trainer/parameter_store.h"

namespace moecast {

/// The tensors of a ParameterStore under the names that the operators use: compute weights and, with a d in front,
/// their gradients. Shapes: matrices [K,N]; biases [1,N], empty without MoeModel::bias; experts [E/P,K,N] and [E/P,N].

struct NormView {
  Tensor gain, bias;  // [d]; bias only with LayerNorm
  Tensor dgain, dbias;
};

struct LinearView {
  Tensor w, b;
  Tensor dw, db;
};

struct AttentionView {
  NormView norm;
  LinearView qkv, out;
};

struct FfnView {  // dense FFN or shared expert
  NormView norm;
  LinearView in, out;
};

struct RoutedView {
  NormView norm;
  LinearView gate;              // [d,A], no bias; empty without weights. A with the zero experts
  LinearView noise;             // [d,A]: noisy routers only
  Tensor selection_bias, load;  // [A]: what experts are chosen by beside their score; tokens that chose each
  LinearView in, out;
};

struct BlockView {
  AttentionView attention;
  FfnView ffn;             // the dense FFN, or the shared expert if the block has one
  LinearView coefficient;  // [d,1] (CG-1) or [d,2] (CG-2), else empty
  RoutedView routed;       // MoE blocks only
};

struct ParameterViews {
  Tensor token, position;  // [V,d], [S,d]; position only if learned
  Tensor dtoken, dposition;
  std::vector<BlockView> blocks;
  NormView final_norm;
  LinearView output;  // [d,V]; empty when tied
};

/// `expert_degree` is the layout's EP degree P, `expert_position` this rank's place in its expert group.
[[nodiscard]] ParameterViews make_parameter_views(const MoeModel& model, const ParameterStore& store,
                                                  std::int64_t expert_degree, std::int64_t expert_position);

}  // namespace moecast
