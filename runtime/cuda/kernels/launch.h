#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

/// Plain launch functions of the kernels. Pointers are device memory; every call queues its kernels on `stream` and
/// returns the launch status. Nothing here allocates or waits: scratch memory comes from the caller, whose size
/// function stands beside the launcher. Deterministic: no floating-point atomics anywhere.
namespace moecast::cuda {

/// The dtype of activations and compute weights. Sums are F32 (F64 where a comment says so).
enum class Real { F32, BF16 };
enum class Number { F32, F64, BF16, I32 };
enum class ActivationKind { Gelu, Relu, SwiGlu };

using Index = std::int64_t;

/// Row ranges of up to kMax groups, by value in a kernel's parameters. Group g is rows [offset[g], offset[g+1]) and
/// belongs to weight (first_group + g) % weights.
struct GroupTable {
  static constexpr int kMax = 256;
  int count = 0;
  int first_group = 0;
  int weights = 1;
  int offset[kMax + 1] = {};
};

// elementwise.cu
cudaError_t launch_fill(cudaStream_t stream, Number type, void* y, Index count, double value);
cudaError_t launch_add(cudaStream_t stream, Real type, void* y, const void* x, Index count);
cudaError_t launch_cast(cudaStream_t stream, Number to, void* y, Number from, const void* x, Index count);
cudaError_t launch_add_scaled_rows(cudaStream_t stream, Real type, void* y, const void* x, const float* c, Index rows,
                                   Index columns);
cudaError_t launch_scaled_rows_backward(cudaStream_t stream, Real type, const void* dy, const void* x, const float* c,
                                        void* dx, float* dc, Index rows, Index columns);
cudaError_t launch_sigmoid(cudaStream_t stream, float* c, Index count);
cudaError_t launch_sigmoid_backward(cudaStream_t stream, const float* c, float* dc, Index count);

// bias.cu
cudaError_t launch_bias_add(cudaStream_t stream, Real type, void* x, const void* b, const GroupTable& groups,
                            Index columns);
/// Floats of scratch for launch_bias_gradient.
Index bias_gradient_scratch(const GroupTable& groups, Index columns);
cudaError_t launch_bias_gradient(cudaStream_t stream, Real type, const void* dx, const GroupTable& groups,
                                 Index columns, float* scratch, float* db);

// activation.cu
cudaError_t launch_activation(cudaStream_t stream, Real type, ActivationKind kind, const void* pre, void* out,
                              Index rows, Index columns);
cudaError_t launch_activation_backward(cudaStream_t stream, Real type, ActivationKind kind, const void* pre,
                                       const void* dout, void* dpre, Index rows, Index columns);

// norm.cu; mean is null for RMSNorm
cudaError_t launch_norm(cudaStream_t stream, Real type, const void* x, const void* gain, const void* bias,
                        float epsilon, void* y, float* mean, float* rstd, Index rows, Index columns);
Index norm_backward_scratch(int multiprocessors, Index columns);  // floats
cudaError_t launch_norm_backward(cudaStream_t stream, Real type, int multiprocessors, const void* dy, const void* x,
                                 const void* gain, const float* mean, const float* rstd, void* dx, bool accumulate,
                                 float* scratch, float* dgain, float* dbias, Index rows, Index columns);

// rope.cu; table is float2 [sequence, head_dim / 2] of (cosine, sine)
cudaError_t launch_rope_table(cudaStream_t stream, double theta, Index sequence, Index head_dim, void* table);
cudaError_t launch_rope(cudaStream_t stream, Real type, const void* table, void* qkv, Index tokens, Index sequence,
                        Index rotated_heads, Index row_stride, Index head_dim, bool inverse);

// embedding.cu
cudaError_t launch_embedding(cudaStream_t stream, Real type, const std::int32_t* ids, const void* tokens,
                             const void* positions, Index sequence, void* out, Index rows, Index columns);
Index embedding_backward_scratch(Index rows, Index vocabulary);  // ints
cudaError_t launch_embedding_backward(cudaStream_t stream, Real type, const std::int32_t* ids, const void* dout,
                                      Index sequence, float* dtokens, float* dpositions, std::int32_t* scratch,
                                      Index rows, Index columns, Index vocabulary);

// cross_entropy.cu
cudaError_t launch_cross_entropy(cudaStream_t stream, Real type, void* logits, const std::int32_t* targets, float scale,
                                 float* loss, Index rows, Index columns);

// slots.cu: stable counting sort
/// Where each of `choices` x `items` keys goes. Keys are read choice by choice: key (j, t) is (keys[t * choices + j] >>
/// shift) & mask and lies in [0, bins). Equal keys keep that order; their count before (j, t) is the slot.
struct SlotKeys {
  const std::int32_t* keys = nullptr;
  Index items = 0;
  int choices = 1;
  int bins = 0;
  int shift = 0;
  std::int32_t mask = -1;
};
Index slots_scratch(const SlotKeys& keys);  // ints
/// count [bins]: keys in each bin; first_count [bins] (may be null): those of choice 0. Row of key (j, t): base of its
/// bin + slot, with base = bin * capacity, or the keys in lower bins when capacity < 0; -1 when slot >= capacity >= 0.
/// `row` is [items, choices] like keys.
cudaError_t launch_slots(cudaStream_t stream, const SlotKeys& keys, Index capacity, std::int32_t* scratch,
                         std::int32_t* row, std::int32_t* count, std::int32_t* first_count);

// gate.cu
struct GateArguments {
  bool top_k_softmax = false;  // RouterKind::TopKSoftmax
  bool renormalize = false;
  Index tokens = 0;
  int experts = 0;
  int top_k = 1;
};
cudaError_t launch_gate_choose(cudaStream_t stream, const GateArguments& gate, const float* logits, float* scores,
                               std::int32_t* expert, float* weight);
Index gate_balance_scratch(const GateArguments& gate);  // floats
cudaError_t launch_gate_balance(cudaStream_t stream, const GateArguments& gate, const float* scores,
                                const std::int32_t* first_count, float* scratch, float* balance_loss);
/// first_count [experts] is overwritten: tokens whose first choice is each expert.
cudaError_t launch_first_choices(cudaStream_t stream, const GateArguments& gate, const std::int32_t* expert,
                                 std::int32_t* first_count);
cudaError_t launch_gate_backward(cudaStream_t stream, const GateArguments& gate, const float* scores,
                                 const std::int32_t* expert, const float* weight, const float* dweight,
                                 const std::int32_t* first_count, float balance_scale, float* dlogits);

// permute.cu; row [tokens, choices] as in GateTensors; used is scratch of rows ints
cudaError_t launch_permute(cudaStream_t stream, Real type, const void* x, const std::int32_t* row, void* out,
                           std::int32_t* used, Index tokens, int choices, Index rows, Index columns);
cudaError_t launch_permute_backward(cudaStream_t stream, Real type, const void* dout, const std::int32_t* row, void* dx,
                                    bool accumulate, Index tokens, int choices, Index columns);
cudaError_t launch_unpermute(cudaStream_t stream, Real type, const void* rows, const std::int32_t* row,
                             const float* weight, void* out, bool accumulate, Index tokens, int choices, Index columns);
cudaError_t launch_unpermute_backward(cudaStream_t stream, Real type, const void* dout, const void* rows,
                                      const std::int32_t* row, const float* weight, void* drows, float* dweight,
                                      std::int32_t* used, Index tokens, int choices, Index row_count, Index columns);

// optimizer.cu
struct AdamWArguments {
  float learning_rate = 0;
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  float weight_decay = 0;
  float gradient_scale = 1;
  float correction1 = 1;  // 1 / (1 - beta1^step)
  float correction2 = 1;  // 1 / (1 - beta2^step)
};
/// weight may be null (it is the master itself).
cudaError_t launch_adamw(cudaStream_t stream, const AdamWArguments& step, float* master, const float* gradient,
                         float* first_moment, float* second_moment, Real weight_type, void* weight, Index count);
inline constexpr Index kSquaredNormScratch = 1024;  // doubles
cudaError_t launch_squared_norm(cudaStream_t stream, const float* x, Index count, double* scratch, double* out,
                                bool accumulate);

// attention_*.cu
struct AttentionArguments {
  Index batch = 0;
  Index sequence = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;  // of the scores
  [[nodiscard]] constexpr Index qkv_stride() const { return (heads + 2 * static_cast<Index>(kv_heads)) * head_dim; }
  [[nodiscard]] constexpr Index out_stride() const { return static_cast<Index>(heads) * head_dim; }
};
/// True for BF16 with head_dim 64 or 128 and 16-byte aligned pointers: the tensor-core kernels below.
bool attention_tiles_fit(Real type, const AttentionArguments& shape, const void* qkv, const void* out);
cudaError_t launch_attention_tiles(cudaStream_t stream, const AttentionArguments& shape, const void* qkv, void* out,
                                   float* log_sum_exp);
/// delta [batch, heads, sequence] = <dout, out> of each query and head.
cudaError_t launch_attention_delta(cudaStream_t stream, Real type, const AttentionArguments& shape, const void* out,
                                   const void* dout, float* delta);
cudaError_t launch_attention_tiles_backward(cudaStream_t stream, const AttentionArguments& shape, const void* qkv,
                                            const float* log_sum_exp, const float* delta, const void* dout, void* dqkv);
/// Any dtype and head_dim up to 256, without tensor cores.
cudaError_t launch_attention_simple(cudaStream_t stream, Real type, const AttentionArguments& shape, const void* qkv,
                                    void* out, float* log_sum_exp);
cudaError_t launch_attention_simple_backward(cudaStream_t stream, Real type, const AttentionArguments& shape,
                                             const void* qkv, const float* log_sum_exp, const float* delta,
                                             const void* dout, void* dqkv);

}  // namespace moecast::cuda
