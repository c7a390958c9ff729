#include "runtime/cuda/kernels/tensor_core.cuh"

/// FlashAttention-2 (Dao, arXiv 2307.08691), backward, causal, without atomics: the scores are computed twice, once for
/// dq with a block of queries that walks over the keys, once for dk and dv with a block of keys that walks over the
/// queries. With p = exp(s - lse) and delta = <dout, out>: ds = p (dp - delta), dq = ds k, dk = ds^T q, dv = p^T dout.
namespace moecast::cuda {
namespace {

// dq: four warps, 32 queries each, two stages of keys and values --------------------------------------------------
constexpr int kQueries = 128;
constexpr int kQueryThreads = 128;
template <int kDim>
inline constexpr int kKeyStep = 4096 / kDim;  // 64 registers of scores and their gradients beside dq
template <int kDim>
inline constexpr int kQuerySharedBytes = (2 * kQueries + 4 * kKeyStep<kDim>)*kDim * 2;

template <int kDim>
__global__ void __launch_bounds__(kQueryThreads, 2)
    query_gradient_kernel(const AttentionArguments shape, const Bf16* qkv, const float* log_sum_exp, const float* delta,
                          const Bf16* dout, Bf16* dqkv) {
  constexpr int kTile = kKeyStep<kDim>;
  constexpr unsigned kTileBytes = kTile * kDim * 2;
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned q_tile = shared_address(shared);
  const unsigned dout_tile = q_tile + kQueries * kDim * 2;
  const unsigned stages = dout_tile + kQueries * kDim * 2;  // [stage][keys, values]
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.x) % shape.heads;
  const Index batch = static_cast<int>(blockIdx.x) / shape.heads;
  const int sequence = static_cast<int>(shape.sequence);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kQueries;  // the longest rows start first
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const Index stride = shape.qkv_stride();
  const Bf16* sample = qkv + batch * sequence * stride;
  const Bf16* k = sample + static_cast<Index>(shape.heads + kv_head) * kDim;
  const Bf16* v = k + static_cast<Index>(shape.kv_heads) * kDim;
  const int first_row = first_query + warp * 32;
  const int tiles = (min(first_query + kQueries, sequence) + kTile - 1) / kTile;
  const float scale = shape.scale * kLog2E;
  const auto load_stage = [&](int tile) {
    const unsigned stage = stages + static_cast<unsigned>(tile % 2) * 2 * kTileBytes;
    const int first_key = tile * kTile;
    load_tile<kDim, kTile, kQueryThreads>(stage, k + first_key * stride, stride, sequence - first_key);
    load_tile<kDim, kTile, kQueryThreads>(stage + kTileBytes, v + first_key * stride, stride, sequence - first_key);
  };

  load_tile<kDim, kQueries, kQueryThreads>(q_tile, sample + first_query * stride + static_cast<Index>(head) * kDim,
                                           stride, sequence - first_query);
  load_tile<kDim, kQueries, kQueryThreads>(
      dout_tile, dout + (batch * sequence + first_query) * shape.out_stride() + static_cast<Index>(head) * kDim,
      shape.out_stride(), sequence - first_query);
  load_stage(0);
  copy_async_commit();

  float row_lse[2][2];  // in units of log 2
  float row_delta[2][2];
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = first_row + m * 16 + lane / 4 + r * 8;
      const Index at = (batch * shape.heads + head) * sequence + query;
      row_lse[m][r] = query < sequence ? log_sum_exp[at] * kLog2E : 0.0f;
      row_delta[m][r] = query < sequence ? delta[at] : 0.0f;
    }
  }

  float dq[2][kDim / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_stage(tile + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    const unsigned k_tile = stages + static_cast<unsigned>(tile % 2) * 2 * kTileBytes;
    const unsigned v_tile = k_tile + kTileBytes;
    const int first_key = tile * kTile;
    if (first_key <= first_row + 31) {
      float s[2][kTile / 8][4] = {};
      float dp[2][kTile / 8][4] = {};
#pragma unroll
      for (int kk = 0; kk < kDim / 16; ++kk) {
        unsigned a[2][4], g[2][4];
        load_a<kDim>(a[0], q_tile, warp * 32, kk, lane);
        load_a<kDim>(a[1], q_tile, warp * 32 + 16, kk, lane);
        load_a<kDim>(g[0], dout_tile, warp * 32, kk, lane);
        load_a<kDim>(g[1], dout_tile, warp * 32 + 16, kk, lane);
#pragma unroll
        for (int n = 0; n < kTile / 16; ++n) {
          unsigned b[4], c[4];
          load_b<kDim>(b, k_tile, n * 16, kk, lane);
          load_b<kDim>(c, v_tile, n * 16, kk, lane);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_add(s[m][2 * n], a[m], b[0], b[1]);
            multiply_add(s[m][2 * n + 1], a[m], b[2], b[3]);
            multiply_add(dp[m][2 * n], g[m], c[0], c[1]);
            multiply_add(dp[m][2 * n + 1], g[m], c[2], c[3]);
          }
        }
      }
      const bool masked = first_key + kTile - 1 > first_row;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int r = e >> 1;
            float p = fast_exp2(s[m][n][e] * scale - row_lse[m][r]);
            const int key = first_key + n * 8 + 2 * (lane % 4) + (e & 1);
            const int query = first_row + m * 16 + lane / 4 + r * 8;
            if (masked && key > query) p = 0;
            s[m][n][e] = p * (dp[m][n][e] - row_delta[m][r]);
          }
        }
      }
#pragma unroll
      for (int kk = 0; kk < kTile / 16; ++kk) {
        unsigned a[2][4];
        pack_a(a[0], s[0][2 * kk], s[0][2 * kk + 1]);
        pack_a(a[1], s[1][2 * kk], s[1][2 * kk + 1]);
#pragma unroll
        for (int n = 0; n < kDim / 16; ++n) {
          unsigned b[4];
          load_b_transposed<kDim>(b, k_tile, kk * 16, n, lane);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_add(dq[m][2 * n], a[m], b[0], b[1]);
            multiply_add(dq[m][2 * n + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
    __syncthreads();  // the stage may be overwritten
  }

#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = first_row + m * 16 + lane / 4 + r * 8;
      if (query >= sequence) continue;
      Bf16* row = dqkv + (batch * sequence + query) * stride + static_cast<Index>(head) * kDim;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        const unsigned pair = pack_bf16(dq[m][n][2 * r] * shape.scale, dq[m][n][2 * r + 1] * shape.scale);
        *reinterpret_cast<unsigned*>(row + n * 8 + 2 * (lane % 4)) = pair;
      }
    }
  }
}

// dk and dv: eight warps, 16 keys each, two stages of queries and their dout --------------------------------------
// The scores are computed transposed, [keys, queries], so that p^T and ds^T come out as A operands.
constexpr int kKeys = 128;
constexpr int kKeyThreads = 256;
constexpr int kQueryStep = 64;
template <int kDim>
inline constexpr int kStageBytes = 2 * kQueryStep* kDim * 2 + 2 * kQueryStep * 4;  // queries, dout, lse, delta
template <int kDim>
inline constexpr int kKeySharedBytes = 2 * kKeys* kDim * 2 + 2 * kStageBytes<kDim>;

template <int kDim>
__global__ void __launch_bounds__(kKeyThreads, 1)
    key_gradient_kernel(const AttentionArguments shape, const Bf16* qkv, const float* log_sum_exp, const float* delta,
                        const Bf16* dout, Bf16* dqkv) {
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned k_tile = shared_address(shared);
  const unsigned v_tile = k_tile + kKeys * kDim * 2;
  constexpr unsigned kFirstStage = 2 * kKeys * kDim * 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int kv_head = static_cast<int>(blockIdx.x) % shape.kv_heads;
  const Index batch = static_cast<int>(blockIdx.x) / shape.kv_heads;
  const int group = shape.heads / shape.kv_heads;
  const int sequence = static_cast<int>(shape.sequence);
  const int first_key = static_cast<int>(blockIdx.y) * kKeys;  // the first keys have the most queries
  const Index stride = shape.qkv_stride();
  const Bf16* sample = qkv + batch * sequence * stride;
  const Bf16* k = sample + first_key * stride + static_cast<Index>(shape.heads + kv_head) * kDim;
  const Bf16* v = k + static_cast<Index>(shape.kv_heads) * kDim;
  const int first_row = first_key + warp * 16;  // key of this warp
  const float scale = shape.scale * kLog2E;
  const int first_tile = first_key / kQueryStep;
  const int tiles = (sequence + kQueryStep - 1) / kQueryStep - first_tile;  // of each head of the group
  const int steps = tiles * group;
  const auto load_stage = [&](int step) {
    const int head = kv_head * group + step / tiles;
    const int first_query = (first_tile + step % tiles) * kQueryStep;
    const unsigned stage = k_tile + kFirstStage + static_cast<unsigned>(step % 2) * kStageBytes<kDim>;
    const int live = sequence - first_query;
    load_tile<kDim, kQueryStep, kKeyThreads>(stage, sample + first_query * stride + static_cast<Index>(head) * kDim,
                                             stride, live);
    load_tile<kDim, kQueryStep, kKeyThreads>(
        stage + kQueryStep * kDim * 2,
        dout + (batch * sequence + first_query) * shape.out_stride() + static_cast<Index>(head) * kDim,
        shape.out_stride(), live);
    if (threadIdx.x < 2 * kQueryStep) {
      const int i = static_cast<int>(threadIdx.x) % kQueryStep;
      const float* source = threadIdx.x < kQueryStep ? log_sum_exp : delta;
      copy_async4(stage + 2 * kQueryStep * kDim * 2 + threadIdx.x * 4,
                  source + (batch * shape.heads + head) * sequence + first_query + i, i < live);
    }
  };

  load_tile<kDim, kKeys, kKeyThreads>(k_tile, k, stride, sequence - first_key);
  load_tile<kDim, kKeys, kKeyThreads>(v_tile, v, stride, sequence - first_key);
  load_stage(0);
  copy_async_commit();

  float dk[kDim / 8][4] = {};
  float dv[kDim / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load_stage(step + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    const unsigned stage_offset = kFirstStage + static_cast<unsigned>(step % 2) * kStageBytes<kDim>;
    const unsigned q_tile = k_tile + stage_offset;
    const unsigned dout_tile = q_tile + kQueryStep * kDim * 2;
    const float* statistics = reinterpret_cast<const float*>(shared + stage_offset + 2 * kQueryStep * kDim * 2);
    const int first_query = (first_tile + step % tiles) * kQueryStep;
    if (first_query + kQueryStep > first_row) {  // else no query of the tile sees these keys
      float s[kQueryStep / 8][4] = {};
#pragma unroll
      for (int kk = 0; kk < kDim / 16; ++kk) {
        unsigned a[4];
        load_a<kDim>(a, k_tile, warp * 16, kk, lane);
#pragma unroll
        for (int n = 0; n < kQueryStep / 16; ++n) {
          unsigned b[4];
          load_b<kDim>(b, q_tile, n * 16, kk, lane);
          multiply_add(s[2 * n], a, b[0], b[1]);
          multiply_add(s[2 * n + 1], a, b[2], b[3]);
        }
      }
      const bool masked = first_query < first_row + 15;
#pragma unroll
      for (int n = 0; n < kQueryStep / 8; ++n) {
        const float2 lse = *reinterpret_cast<const float2*>(statistics + n * 8 + 2 * (lane % 4));
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float p = fast_exp2(s[n][e] * scale - (e % 2 == 0 ? lse.x : lse.y) * kLog2E);
          const int query = first_query + n * 8 + 2 * (lane % 4) + (e & 1);
          const int key = first_row + lane / 4 + (e >> 1) * 8;
          if (masked && key > query) p = 0;
          s[n][e] = p;
        }
      }
#pragma unroll
      for (int kk = 0; kk < kQueryStep / 16; ++kk) {
        unsigned a[4];
        pack_a(a, s[2 * kk], s[2 * kk + 1]);
#pragma unroll
        for (int n = 0; n < kDim / 16; ++n) {
          unsigned b[4];
          load_b_transposed<kDim>(b, dout_tile, kk * 16, n, lane);
          multiply_add(dv[2 * n], a, b[0], b[1]);
          multiply_add(dv[2 * n + 1], a, b[2], b[3]);
        }
      }
      float dp[kQueryStep / 8][4] = {};
#pragma unroll
      for (int kk = 0; kk < kDim / 16; ++kk) {
        unsigned a[4];
        load_a<kDim>(a, v_tile, warp * 16, kk, lane);
#pragma unroll
        for (int n = 0; n < kQueryStep / 16; ++n) {
          unsigned b[4];
          load_b<kDim>(b, dout_tile, n * 16, kk, lane);
          multiply_add(dp[2 * n], a, b[0], b[1]);
          multiply_add(dp[2 * n + 1], a, b[2], b[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < kQueryStep / 8; ++n) {
        const float2 d = *reinterpret_cast<const float2*>(statistics + kQueryStep + n * 8 + 2 * (lane % 4));
#pragma unroll
        for (int e = 0; e < 4; ++e) s[n][e] *= dp[n][e] - (e % 2 == 0 ? d.x : d.y);
      }
#pragma unroll
      for (int kk = 0; kk < kQueryStep / 16; ++kk) {
        unsigned a[4];
        pack_a(a, s[2 * kk], s[2 * kk + 1]);
#pragma unroll
        for (int n = 0; n < kDim / 16; ++n) {
          unsigned b[4];
          load_b_transposed<kDim>(b, q_tile, kk * 16, n, lane);
          multiply_add(dk[2 * n], a, b[0], b[1]);
          multiply_add(dk[2 * n + 1], a, b[2], b[3]);
        }
      }
    }
    __syncthreads();  // the stage may be overwritten
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int key = first_row + lane / 4 + r * 8;
    if (key >= sequence) continue;
    Bf16* row = dqkv + (batch * sequence + key) * stride + static_cast<Index>(shape.heads + kv_head) * kDim;
    Bf16* value_row = row + static_cast<Index>(shape.kv_heads) * kDim;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      const int column = n * 8 + 2 * (lane % 4);
      *reinterpret_cast<unsigned*>(row + column) =
          pack_bf16(dk[n][2 * r] * shape.scale, dk[n][2 * r + 1] * shape.scale);
      *reinterpret_cast<unsigned*>(value_row + column) = pack_bf16(dv[n][2 * r], dv[n][2 * r + 1]);
    }
  }
}

template <int kDim>
cudaError_t launch(cudaStream_t stream, const AttentionArguments& shape, const Bf16* qkv, const float* log_sum_exp,
                   const float* delta, const Bf16* dout, Bf16* dqkv) {
  cudaError_t status = cudaFuncSetAttribute(query_gradient_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            kQuerySharedBytes<kDim>);
  if (status != cudaSuccess) return status;
  status = cudaFuncSetAttribute(key_gradient_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                kKeySharedBytes<kDim>);
  if (status != cudaSuccess) return status;
  const dim3 queries(static_cast<unsigned>(shape.batch * shape.heads),
                     static_cast<unsigned>(divide_up(shape.sequence, kQueries)));
  query_gradient_kernel<kDim>
      <<<queries, kQueryThreads, kQuerySharedBytes<kDim>, stream>>>(shape, qkv, log_sum_exp, delta, dout, dqkv);
  const dim3 keys(static_cast<unsigned>(shape.batch * shape.kv_heads),
                  static_cast<unsigned>(divide_up(shape.sequence, kKeys)));
  key_gradient_kernel<kDim>
      <<<keys, kKeyThreads, kKeySharedBytes<kDim>, stream>>>(shape, qkv, log_sum_exp, delta, dout, dqkv);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_attention_tiles_backward(cudaStream_t stream, const AttentionArguments& shape, const void* qkv,
                                            const float* log_sum_exp, const float* delta, const void* dout,
                                            void* dqkv) {
  if (shape.batch * shape.sequence == 0) return cudaSuccess;
  const Bf16* in = static_cast<const Bf16*>(qkv);
  const Bf16* dy = static_cast<const Bf16*>(dout);
  Bf16* dx = static_cast<Bf16*>(dqkv);
  return shape.head_dim == 64 ? launch<64>(stream, shape, in, log_sum_exp, delta, dy, dx)
                              : launch<128>(stream, shape, in, log_sum_exp, delta, dy, dx);
}

}  // namespace moecast::cuda
