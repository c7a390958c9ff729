#include <algorithm>

#include "runtime/cuda/kernels/tensor_core.cuh"

/// FlashAttention-2 (Dao, arXiv 2307.08691), forward, causal: a block of four warps holds 128 queries of a head, each
/// warp 32 of them, and walks over the keys in tiles with an online softmax. The scores never leave the registers.
/// While the scores of a tile are computed its values arrive, while values are used the next keys arrive.
namespace moecast::cuda {
namespace {

constexpr int kQueries = 128;
constexpr int kThreads = 128;
template <int kDim>
inline constexpr int kKeys = 64;  // 64 registers of scores beside 64 or 128 of output

template <int kDim>
inline constexpr int kSharedBytes = (kQueries + 2 * kKeys<kDim>)*kDim * 2;

template <int kDim>
__global__ void __launch_bounds__(kThreads, 2)
    attention_forward_kernel(const AttentionArguments shape, const Bf16* qkv, Bf16* out, float* log_sum_exp) {
  constexpr int kTile = kKeys<kDim>;
  extern __shared__ __align__(128) unsigned char shared[];
  const unsigned q_tile = shared_address(shared);
  const unsigned k_tile = q_tile + kQueries * kDim * 2;
  const unsigned v_tile = k_tile + kTile * kDim * 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.x) % shape.heads;
  const Index batch = static_cast<int>(blockIdx.x) / shape.heads;
  const int sequence = static_cast<int>(shape.sequence);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kQueries;  // the longest rows start first
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const Index stride = shape.qkv_stride();
  const Bf16* sample = qkv + batch * sequence * stride;
  const Bf16* q = sample + first_query * stride + static_cast<Index>(head) * kDim;
  const Bf16* k = sample + static_cast<Index>(shape.heads + kv_head) * kDim;
  const Bf16* v = k + static_cast<Index>(shape.kv_heads) * kDim;
  const int first_row = first_query + warp * 32;  // of this warp
  const int tiles = (min(first_query + kQueries, sequence) + kTile - 1) / kTile;
  const float scale = shape.scale * kLog2E;

  load_tile<kDim, kQueries, kThreads>(q_tile, q, stride, sequence - first_query);
  load_tile<kDim, kTile, kThreads>(k_tile, k, stride, sequence);
  copy_async_commit();

  float o[2][kDim / 8][4] = {};
  float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};  // of two 16-row parts, rows r and r + 8
  float total[2][2] = {};                                                  // this lane's part of the row sum
  for (int tile = 0; tile < tiles; ++tile) {
    const int first_key = tile * kTile;
    load_tile<kDim, kTile, kThreads>(v_tile, v + first_key * stride, stride, sequence - first_key);
    copy_async_commit();
    copy_async_wait<1>();  // the keys are here
    __syncthreads();
    const bool live = first_key <= first_row + 31;  // else every score is masked
    float s[2][kTile / 8][4] = {};
    if (live) {
#pragma unroll
      for (int kk = 0; kk < kDim / 16; ++kk) {
        unsigned a[2][4];
        load_a<kDim>(a[0], q_tile, warp * 32, kk, lane);
        load_a<kDim>(a[1], q_tile, warp * 32 + 16, kk, lane);
#pragma unroll
        for (int n = 0; n < kTile / 16; ++n) {
          unsigned b[4];
          load_b<kDim>(b, k_tile, n * 16, kk, lane);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_add(s[m][2 * n], a[m], b[0], b[1]);
            multiply_add(s[m][2 * n + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
    copy_async_wait<0>();  // the values are here, and nobody reads these keys any more
    __syncthreads();
    if (tile + 1 < tiles) {
      const int next_key = first_key + kTile;
      load_tile<kDim, kTile, kThreads>(k_tile, k + next_key * stride, stride, sequence - next_key);
      copy_async_commit();
    }
    if (live) {
      if (first_key + kTile - 1 > first_row) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int key = first_key + n * 8 + 2 * (lane % 4) + (e & 1);
              const int query = first_row + m * 16 + lane / 4 + (e >> 1) * 8;
              if (key > query) s[m][n][e] = -INFINITY;
            }
          }
        }
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float new_largest = largest[m][r];
#pragma unroll
          for (int n = 0; n < kTile / 8; ++n) {
            new_largest = fmaxf(new_largest, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
          }
          new_largest = quad_max(new_largest);  // finite: key 0 is visible to every query and comes first
          const float correction = fast_exp2((largest[m][r] - new_largest) * scale);
          const float offset = new_largest * scale;
          largest[m][r] = new_largest;
          float sum = 0;
#pragma unroll
          for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; ++e) {
              s[m][n][e] = fast_exp2(s[m][n][e] * scale - offset);
              sum += s[m][n][e];
            }
          }
          total[m][r] = total[m][r] * correction + sum;
#pragma unroll
          for (int n = 0; n < kDim / 8; ++n) {
            o[m][n][2 * r] *= correction;
            o[m][n][2 * r + 1] *= correction;
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
          load_b_transposed<kDim>(b, v_tile, kk * 16, n, lane);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_add(o[m][2 * n], a[m], b[0], b[1]);
            multiply_add(o[m][2 * n + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
    __syncthreads();  // the values have been used
  }

#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = first_row + m * 16 + lane / 4 + r * 8;
      const float sum = quad_sum(total[m][r]);
      if (query >= sequence) continue;
      const float inverse = 1.0f / sum;
      const Index token = batch * sequence + query;
      Bf16* row = out + token * shape.out_stride() + static_cast<Index>(head) * kDim;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        const unsigned pair = pack_bf16(o[m][n][2 * r] * inverse, o[m][n][2 * r + 1] * inverse);
        *reinterpret_cast<unsigned*>(row + n * 8 + 2 * (lane % 4)) = pair;
      }
      if (lane % 4 == 0) {
        const Index at = (batch * shape.heads + head) * sequence + query;
        log_sum_exp[at] = largest[m][r] * shape.scale + logf(sum);
      }
    }
  }
}

template <int kDim>
cudaError_t launch(cudaStream_t stream, const AttentionArguments& shape, const Bf16* qkv, Bf16* out,
                   float* log_sum_exp) {
  const cudaError_t status = cudaFuncSetAttribute(attention_forward_kernel<kDim>,
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<kDim>);
  if (status != cudaSuccess) return status;
  const dim3 grid(static_cast<unsigned>(shape.batch * shape.heads),
                  static_cast<unsigned>(divide_up(shape.sequence, kQueries)));
  attention_forward_kernel<kDim><<<grid, kThreads, kSharedBytes<kDim>, stream>>>(shape, qkv, out, log_sum_exp);
  return cudaGetLastError();
}

}  // namespace

bool attention_tiles_fit(Real type, const AttentionArguments& shape, const void* qkv, const void* out) {
  return type == Real::BF16 && (shape.head_dim == 64 || shape.head_dim == 128) && aligned16(qkv, out);
}

cudaError_t launch_attention_tiles(cudaStream_t stream, const AttentionArguments& shape, const void* qkv, void* out,
                                   float* log_sum_exp) {
  if (shape.batch * shape.sequence == 0) return cudaSuccess;
  const Bf16* in = static_cast<const Bf16*>(qkv);
  Bf16* y = static_cast<Bf16*>(out);
  return shape.head_dim == 64 ? launch<64>(stream, shape, in, y, log_sum_exp)
                              : launch<128>(stream, shape, in, y, log_sum_exp);
}

}  // namespace moecast::cuda
