#pragma once

#include <cstdint>

#include "models/moe_model.h"
#include "runtime/cpu/scratch.h"

namespace moecast::cpu {

using Index = std::int64_t;

/// y[m,n] = alpha * op(a) op(b) (+ y). Row-major with leading dimensions, so that a head of a wider matrix is a matrix.
template <typename T>
struct Gemm {
  bool transpose_a = false;
  bool transpose_b = false;
  Index m = 0, n = 0, k = 0;
  const T* a = nullptr;
  Index lda = 0;
  const T* b = nullptr;
  Index ldb = 0;
  T* y = nullptr;
  Index ldy = 0;
  T alpha = 1;
  bool accumulate = false;
};

/// Rows of a grouped operator: group g is rows [offsets[g], offsets[g+1]) and uses weight g % weights.
struct Groups {
  const Index* offsets = nullptr;  // group_count + 1 of them
  Index group_count = 0;
  Index weights = 1;
};

template <typename T>
struct NormCall {
  bool center = false;  // LayerNorm subtracts the mean, RMSNorm does not
  Index rows = 0, columns = 0;
  const T* x = nullptr;
  const T* gain = nullptr;
  T* mean = nullptr;  // LayerNorm only
  T* rstd = nullptr;
};

template <typename T>
struct AttentionCall {
  Index batch = 0, sequence = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const T* qkv = nullptr;
  T* out = nullptr;
  T* log_sum_exp = nullptr;  // [batch, heads, sequence]
};

template <typename T>
struct AdamW {
  T rate, beta1, beta2, epsilon, decay, scale;
  T rest1, rest2;              // 1 - beta, rounded once
  T correction1, correction2;  // 1 / (1 - beta^step)
};

/// The arithmetic of the CPU backend for one scalar type, compiled for one instruction set. Plain pointers and sizes
/// only: code that is compiled more than once must not share inline functions with the rest of the program, or the
/// linker may keep the copy that this CPU cannot run. Meanings are those of Backend; matrices are row-major and dense
/// unless a leading dimension is given. Pointers that Backend calls "empty" are null here.
template <typename T>
struct Kernels {
  void (*add)(T* y, const T* x, Index count);
  void (*add_scaled_rows)(T* y, const T* x, const T* c, Index rows, Index columns);
  void (*scaled_rows_backward)(const T* dy, const T* x, const T* c, T* dx, T* dc, Index rows, Index columns);
  void (*sigmoid)(T* c, Index count);
  void (*sigmoid_backward)(const T* c, T* dc, Index count);

  void (*gemm)(const Gemm<T>& product, Scratch& scratch);
  void (*grouped_gemm)(const Groups& groups, const T* x, const T* w, bool transpose_w, Index k, Index n, T* y,
                       Scratch& scratch);
  void (*grouped_gemm_weight)(const Groups& groups, const T* x, const T* dy, Index k, Index n, T* dw, Scratch& scratch);

  void (*bias_add)(const Groups& groups, T* x, const T* b, Index columns);
  void (*bias_gradient)(const Groups& groups, const T* dx, T* db, Index columns);
  void (*activation)(Activation kind, const T* pre, T* out, Index rows, Index width);
  void (*activation_backward)(Activation kind, const T* pre, const T* dout, T* dpre, Index rows, Index width);

  void (*norm)(const NormCall<T>& call, const T* bias, double epsilon, T* y);
  void (*norm_backward)(const NormCall<T>& call, const T* dy, T* dx, bool accumulate, T* dgain, T* dbias);

  void (*attention)(const AttentionCall<T>& call, Scratch& scratch);
  void (*attention_backward)(const AttentionCall<T>& call, const T* dout, T* dqkv, Scratch& scratch);
  /// cosine and sine are [sequence, head_dim / 2].
  void (*rope)(const AttentionCall<T>& call, const T* cosine, const T* sine, T* qkv, bool inverse);

  void (*embedding)(const std::int32_t* ids, const T* tokens, const T* positions, Index sequence, Index rows,
                    Index columns, T* out);
  void (*embedding_backward)(const std::int32_t* ids, const T* dout, Index sequence, Index rows, Index columns,
                             T* dtokens, T* dpositions);
  void (*cross_entropy)(T* logits, const std::int32_t* targets, T scale, T* loss, Index rows, Index columns);

  void (*permute)(const T* x, const std::int32_t* row, Index tokens, Index choices, Index columns, T* out,
                  Index out_rows, Scratch& scratch);
  void (*permute_backward)(const T* dout, const std::int32_t* row, Index tokens, Index choices, Index columns, T* dx,
                           bool accumulate);
  void (*unpermute)(const T* rows, const std::int32_t* row, const T* weight, Index tokens, Index choices, Index columns,
                    T* out, bool accumulate);
  void (*unpermute_backward)(const T* dout, const T* rows, const std::int32_t* row, const T* weight, Index tokens,
                             Index choices, Index columns, T* drows, Index row_count, T* dweight, Scratch& scratch);

  void (*adamw)(const AdamW<T>& step, T* master, const T* gradient, T* first_moment, T* second_moment, Index count);
  double (*squared_norm)(const T* x, Index count);
};

}  // namespace moecast::cpu
