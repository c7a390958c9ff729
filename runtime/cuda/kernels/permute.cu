#include "runtime/cuda/kernels/common.cuh"

/// Permutation of token rows to expert rows and back. Every kernel works through tokens (a warp each): the token's row
/// is read once, however many experts it goes to. Rows that no token owns are cleared by further warps of the same
/// launch, which look them up in `used`.
namespace moecast::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kUnroll = 4;  // packs in flight in a lane

__global__ void __launch_bounds__(256) mark_kernel(const std::int32_t* row, Index count, std::int32_t* used) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;
  if (i < count && row[i] >= 0) used[row[i]] = 1;
}

cudaError_t mark_used(cudaStream_t stream, const std::int32_t* row, Index count, std::int32_t* used, Index rows) {
  const cudaError_t status = cudaMemsetAsync(used, 0, static_cast<std::size_t>(rows) * 4, stream);
  if (status != cudaSuccess || count == 0) return status;
  mark_kernel<<<static_cast<unsigned>(divide_up(count, 256)), 256, 0, stream>>>(row, count, used);
  return cudaGetLastError();
}

/// The row is zero from here on.
template <typename T, int N>
__device__ __forceinline__ void clear_row(T* out, Index row, Index packs, int lane) {
  Pack<T, N> zero;
  zero.clear();
  for (Index i = lane; i < packs; i += 32) store<N>(out, row * packs + i, zero);
}

template <typename T, int N>
__global__ void __launch_bounds__(32 * kWarps)
    permute_kernel(const T* x, const std::int32_t* row, T* out, const std::int32_t* used, Index tokens, int choices,
                   Index rows, Index packs) {
  const int lane = static_cast<int>(threadIdx.x);
  const Index warp = static_cast<Index>(blockIdx.x) * kWarps + threadIdx.y;
  if (warp >= tokens) {
    const Index spare = warp - tokens;
    if (spare < rows && used[spare] == 0) clear_row<T, N>(out, spare, packs, lane);
    return;
  }
  const std::int32_t* targets = row + warp * choices;
  for (Index first = lane; first < packs; first += 32 * kUnroll) {
    Pack<T, N> values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (first + u * 32 < packs) values[u] = load<N>(x, warp * packs + first + u * 32);
    }
    for (int j = 0; j < choices; ++j) {
      const Index target = targets[j];
      if (target < 0) continue;
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (first + u * 32 < packs) store<N>(out, target * packs + first + u * 32, values[u]);
      }
    }
  }
}

/// out[t] (+)= sum over j of weight[t,j] * rows[row[t,j]]; weight null is 1.
template <typename T, int N>
__global__ void __launch_bounds__(32 * kWarps)
    combine_kernel(const T* rows, const std::int32_t* row, const float* weight, T* out, bool accumulate, Index tokens,
                   int choices, Index packs) {
  const int lane = static_cast<int>(threadIdx.x);
  const Index token = static_cast<Index>(blockIdx.x) * kWarps + threadIdx.y;
  if (token >= tokens) return;
  constexpr int kColumns = 2;  // packs of a lane at a time
  constexpr int kChoices = 2;  // choices read together
  for (Index first = lane; first < packs; first += 32 * kColumns) {
    float sum[kColumns][N] = {};
    for (int j = 0; j < choices; j += kChoices) {
      Pack<T, N> values[kChoices][kColumns];
      float factor[kChoices];
#pragma unroll
      for (int c = 0; c < kChoices; ++c) {
        const Index source = j + c < choices ? row[token * choices + j + c] : -1;
        factor[c] = source < 0 ? 0.0f : weight == nullptr ? 1.0f : weight[token * choices + j + c];
#pragma unroll
        for (int u = 0; u < kColumns; ++u) {
          if (source >= 0 && first + u * 32 < packs) {
            values[c][u] = load<N>(rows, source * packs + first + u * 32);
          } else {
            values[c][u].clear();
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kChoices; ++c) {
#pragma unroll
        for (int u = 0; u < kColumns; ++u) {
#pragma unroll
          for (int e = 0; e < N; ++e) sum[u][e] += factor[c] * values[c][u].get(e);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kColumns; ++u) {
      const Index at = token * packs + first + u * 32;
      if (first + u * 32 >= packs) continue;
      Pack<T, N> result;
      if (accumulate) {
        result = load<N>(out, at);
      } else {
        result.clear();
      }
#pragma unroll
      for (int e = 0; e < N; ++e) result.set(e, accumulate ? result.get(e) + sum[u][e] : sum[u][e]);
      store<N>(out, at, result);
    }
  }
}

/// drows[row[t,j]] = weight[t,j] * dout[t] and dweight[t,j] = <dout[t], rows[row[t,j]]>.
template <typename T, int N>
__global__ void __launch_bounds__(32 * kWarps)
    unpermute_backward_kernel(const T* dout, const T* rows, const std::int32_t* row, const float* weight, T* drows,
                              float* dweight, const std::int32_t* used, Index tokens, int choices, Index row_count,
                              Index packs) {
  const int lane = static_cast<int>(threadIdx.x);
  const Index warp = static_cast<Index>(blockIdx.x) * kWarps + threadIdx.y;
  if (warp >= tokens) {
    const Index spare = warp - tokens;
    if (spare < row_count && used[spare] == 0) clear_row<T, N>(drows, spare, packs, lane);
    return;
  }
  for (int j = 0; j < choices; ++j) {  // from the second choice on, dout comes from the cache
    const Index target = row[warp * choices + j];
    if (target < 0) {
      if (lane == 0) dweight[warp * choices + j] = 0;
      continue;
    }
    const float factor = weight[warp * choices + j];
    float dot = 0;
    for (Index first = lane; first < packs; first += 32 * kUnroll) {
      Pack<T, N> gradient[kUnroll], values[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (first + u * 32 >= packs) continue;
        gradient[u] = load<N>(dout, warp * packs + first + u * 32);
        values[u] = load<N>(rows, target * packs + first + u * 32);
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (first + u * 32 >= packs) continue;
#pragma unroll
        for (int e = 0; e < N; ++e) {
          dot += gradient[u].get(e) * values[u].get(e);
          gradient[u].set(e, factor * gradient[u].get(e));
        }
        store<N>(drows, target * packs + first + u * 32, gradient[u]);
      }
    }
    dot = warp_sum(dot);
    if (lane == 0) dweight[warp * choices + j] = dot;
  }
}

unsigned warp_blocks(Index warps) { return static_cast<unsigned>(divide_up(warps, kWarps)); }

template <typename T, int N>
void combine(cudaStream_t stream, const void* rows, const std::int32_t* row, const float* weight, void* out,
             bool accumulate, Index tokens, int choices, Index packs) {
  combine_kernel<T, N><<<warp_blocks(tokens), dim3(32, kWarps), 0, stream>>>(
      static_cast<const T*>(rows), row, weight, static_cast<T*>(out), accumulate, tokens, choices, packs);
}

}  // namespace

cudaError_t launch_permute(cudaStream_t stream, Real type, const void* x, const std::int32_t* row, void* out,
                           std::int32_t* used, Index tokens, int choices, Index rows, Index columns) {
  if (rows == 0 || columns == 0) return cudaSuccess;
  const cudaError_t status = mark_used(stream, row, tokens * choices, used, rows);
  if (status != cudaSuccess) return status;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(x, out), [&]<typename T, int N>() {
    permute_kernel<T, N><<<warp_blocks(tokens + rows), dim3(32, kWarps), 0, stream>>>(
        static_cast<const T*>(x), row, static_cast<T*>(out), used, tokens, choices, rows, columns / N);
  });
  return cudaGetLastError();
}

cudaError_t launch_permute_backward(cudaStream_t stream, Real type, const void* dout, const std::int32_t* row, void* dx,
                                    bool accumulate, Index tokens, int choices, Index columns) {
  return launch_unpermute(stream, type, dout, row, nullptr, dx, accumulate, tokens, choices, columns);
}

cudaError_t launch_unpermute(cudaStream_t stream, Real type, const void* rows, const std::int32_t* row,
                             const float* weight, void* out, bool accumulate, Index tokens, int choices,
                             Index columns) {
  if (tokens == 0 || columns == 0) return cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(rows, out), [&]<typename T, int N>() {
    combine<T, N>(stream, rows, row, weight, out, accumulate, tokens, choices, columns / N);
  });
  return cudaGetLastError();
}

cudaError_t launch_unpermute_backward(cudaStream_t stream, Real type, const void* dout, const void* rows,
                                      const std::int32_t* row, const float* weight, void* drows, float* dweight,
                                      std::int32_t* used, Index tokens, int choices, Index row_count, Index columns) {
  if (tokens + row_count == 0 || columns == 0) return cudaSuccess;
  if (row_count > 0) {
    const cudaError_t status = mark_used(stream, row, tokens * choices, used, row_count);
    if (status != cudaSuccess) return status;
  }
  with_pack(type, columns % wide_count(type) == 0 && aligned16(dout, rows, drows), [&]<typename T, int N>() {
    unpermute_backward_kernel<T, N><<<warp_blocks(tokens + row_count), dim3(32, kWarps), 0, stream>>>(
        static_cast<const T*>(dout), static_cast<const T*>(rows), row, weight, static_cast<T*>(drows), dweight, used,
        tokens, choices, row_count, columns / N);
  });
  return cudaGetLastError();
}

}  // namespace moecast::cuda
