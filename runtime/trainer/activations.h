#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/result.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "runtime/backend.h"
#include "runtime/trainer/arena.h"

namespace moecast {

/// Everything that one rank keeps between operators of one micro-batch, in one allocation carved by
/// Activations::carve. X is the compute type, F the type of gradients and losses (F32; F64 when X is F64). T tokens of
/// a micro-batch, d width, f expert width, E experts (A with the zero experts), K choices (MoeFfn::choices), M
/// micro-batches; S rows of the send buffer (E C with a capacity C, else T k), R rows of the receive buffer (E C, or
/// the most that P ranks can send: P T k).
///
/// Who may share. Forward results of a block live until its backward. Everything under Temporaries is shared by all
/// blocks and micro-batches: at most one MoE block is between its Encode and Decode (or their backwards) on a rank, as
/// the compute lane issues them in that order and each communication has its consumer in between.

struct NormState {
  Tensor y;           // X [T,d]
  Tensor mean, rstd;  // F [T]; mean only with LayerNorm
};

struct AttentionState {
  NormState norm;
  Tensor qkv;          // X [T, (heads + 2 kv_heads) head_dim]
  Tensor out;          // X [T, heads head_dim]
  Tensor log_sum_exp;  // F [B, heads, sequence]
};

struct FfnState {  // dense FFN or shared expert
  NormState norm;
  Tensor pre;     // X [T, f or 2f]
  Tensor active;  // X [T, f]
};

struct RoutedState {
  NormState norm;
  Tensor logits, noise_logits;  // F [T,A]; the second of noisy routers only
  Tensor scores, weight;        // F [T,A], [T,K]
  Tensor expert, row;           // I32 [T,K]
  Tensor count;                 // I32 [M,A]: of every micro-batch
  Tensor balance_loss;          // F [M]
  Tensor losses;                // F [M,3]: RouterLosses, if any has a coefficient
  Tensor zero_weight;           // F [T]: only with zero experts
  Tensor received_count;        // I32 [P, E/P]: dropless only
  Tensor received;              // X [R,d]
  Tensor pre, active;           // X [R, f or 2f], [R,f]
  Tensor rows;                  // X [S,d]: what the experts made of the send buffer
  Tensor shared, coefficient;   // X [T,d], F [T,1] or [2,T]: SE, and c of CG-1 or CG-2 (first routing only)
  Tensor mixed;                 // X [T,d]: routed sum before its coefficient (CG-2)
};

struct BlockState {
  Tensor x;  // X [T,d]: input of the block
  Tensor h;  // X [T,d]: after its attention
  AttentionState attention;
  FfnState ffn;
  RoutedState routed;
  RoutedState second;  // of a double gate: the routing by the block's own tensor
};

/// What one routing has on the way between its operators.
struct RoutedTemporaries {
  Tensor send;            // X [S,d]: Encode -> Dispatch
  Tensor expert_out;      // X [R,d]: Expert -> Combine
  Tensor drows, dweight;  // X [S,d], F [T,K]: Decode' -> Combine', Gate'
  Tensor dexpert_out;     // X [R,d]: Combine' -> Expert'
  Tensor expert_dpre;     // X [R, f or 2f]: Expert' -> its weight gradients
  Tensor dreceived;       // X [R,d]: Expert' -> Dispatch'
  Tensor dsend;           // X [S,d]: Dispatch' -> Encode'
  Tensor drouted;         // X [T,d]: Encode' (with zero experts Decode') -> Gate'
};

/// The first group lives inside one compute operator; the others from one operator to the next.
struct Temporaries {
  Tensor dattention, dqkv;  // X
  Tensor dnorm;             // X [T,d]
  Tensor dactive, dpre;     // X [T,f], [T, f or 2f]: widest FFN
  Tensor expert_dactive;    // X [R,f]
  Tensor gate_dlogits;      // F [T,A]
  Tensor gate_dnoise;       // F [T,A]: noisy routers only
  Tensor compute_dlogits;   // X [T,A]: copy in the compute type, only if X is not F
  Tensor dmixed;            // X [T,d]: of the routed sum (CG-2)

  Tensor g;                                 // X [T,d]: gradient of the residual stream
  Tensor dshared, dcoefficient;             // X [T,d], F [T] or [2,T]: Decode' -> SharedExpert' (CG-1, CG-2)
  Tensor dzero;                             // F [T]: Decode' -> Gate', zero experts only
  std::array<RoutedTemporaries, 2> routed;  // the second of a double gate only
};

struct HeadState {
  NormState norm;
  Tensor logits;  // X [T,V]; gradients after the loss
  Tensor loss;    // F [M,T]
};

/// Sizes that the table is made from.
struct ActivationSizes {
  const MoeModel& model;
  ParallelLayout layout;
  Batch batch;
  DType compute = DType::F32;
};

struct Activations {
  Tensor ids, targets;  // I32 [M,T]
  std::vector<BlockState> blocks;
  Tensor x_last;  // X [T,d]: output of the last block
  HeadState head;
  Tensor squared_norms;  // F64 [2]: gradients of the non-expert and of the expert parameters
  Temporaries temporary;

  [[nodiscard]] static Activations carve(const ActivationSizes& sizes, Arena& arena);
};

/// Rows of the send and of the receive buffer of a MoE layer (S and R above).
[[nodiscard]] std::int64_t send_rows(const MoeFfn& moe, const Batch& batch);
[[nodiscard]] std::int64_t receive_rows(const MoeFfn& moe, const Batch& batch, std::int64_t expert_degree);

}  // namespace moecast
