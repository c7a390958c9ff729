#include <algorithm>

#include "runtime/cuda/kernels/column_sum.cuh"
#include "runtime/cuda/kernels/common.cuh"

/// LayerNorm (Ba, Kiros & Hinton, arXiv 1607.06450) and RMSNorm (Zhang & Sennrich, arXiv 1910.07467).
/// A row is held in registers by a few warps, kHeld packs in each thread; rows too wide or not aligned take the plain
/// kernels, which read a row several times.
namespace moecast::cuda {
namespace {

constexpr int kForwardPacks = 4;
constexpr int kBackwardPacks = 2;
constexpr int kForwardThreads = 1024;
constexpr int kBackwardThreads = 512;  // 128 registers each: nothing spills

/// Threads for a row of `packs`, `held` in each: whole warps, 0 if that is more than `limit`.
int threads_per_row(Index packs, int held, int limit) {
  const Index threads = divide_up(divide_up(packs, held), 32) * 32;
  return threads <= limit ? static_cast<int>(threads) : 0;
}

/// Sums x and y over the threads of a row (threadIdx.y); every thread gets the sums. Blocks of one or more rows.
__device__ __forceinline__ float2 row_sum(float x, float y, float2 (*shared)[32]) {
  x = warp_sum(x);
  y = warp_sum(y);
  const int warps = static_cast<int>(blockDim.x) / 32;
  if (warps == 1) return {x, y};
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();  // the sums before these have been read
  if (lane == 0) shared[threadIdx.y][warp] = {x, y};
  __syncthreads();
  const float2 part = lane < warps ? shared[threadIdx.y][lane] : float2{0, 0};
  return {warp_sum(part.x), warp_sum(part.y)};
}

template <typename T, int N>
__global__ void __launch_bounds__(kForwardThreads) norm_kernel(const T* x, const T* gain, const T* bias, float epsilon,
                                                               T* y, float* mean, float* rstd, Index rows, int packs) {
  __shared__ float2 shared[8][32];
  const Index row = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool live = row < rows;
  const T* source = x + row * packs * N;
  Pack<T, N> values[kForwardPacks];
#pragma unroll
  for (int u = 0; u < kForwardPacks; ++u) {
    const int i = static_cast<int>(threadIdx.x + u * blockDim.x);
    if (live && i < packs) {
      values[u] = load<N>(source, i);
    } else {
      values[u].clear();
    }
  }
  const float scale = 1.0f / static_cast<float>(packs * N);
  float center = 0;
  if (mean != nullptr) {
    float sum = 0;
#pragma unroll
    for (int u = 0; u < kForwardPacks; ++u) {
#pragma unroll
      for (int e = 0; e < N; ++e) sum += values[u].get(e);
    }
    center = row_sum(sum, 0, shared).x * scale;
  }
  float squares = 0;
#pragma unroll
  for (int u = 0; u < kForwardPacks; ++u) {
    if (static_cast<int>(threadIdx.x + u * blockDim.x) >= packs) continue;
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float difference = values[u].get(e) - center;
      squares += difference * difference;
    }
  }
  const float inverse = rsqrtf(row_sum(squares, 0, shared).x * scale + epsilon);
  if (!live) return;
  if (threadIdx.x == 0) {
    rstd[row] = inverse;
    if (mean != nullptr) mean[row] = center;
  }
#pragma unroll
  for (int u = 0; u < kForwardPacks; ++u) {
    const int i = static_cast<int>(threadIdx.x + u * blockDim.x);
    if (i >= packs) continue;
    const Pack<T, N> g = load<N>(gain, i);
    Pack<T, N> b;
    if (bias != nullptr) b = load<N>(bias, i);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float normal = (values[u].get(e) - center) * inverse * g.get(e);
      values[u].set(e, bias != nullptr ? normal + b.get(e) : normal);
    }
    store<N>(y + row * packs * N, i, values[u]);
  }
}

/// One block for a row of any width.
template <typename T>
__global__ void __launch_bounds__(256) norm_plain_kernel(const T* x, const T* gain, const T* bias, float epsilon, T* y,
                                                         float* mean, float* rstd, Index columns) {
  __shared__ float2 shared[8][32];
  const Index row = blockIdx.x;
  const T* source = x + row * columns;
  const float scale = 1.0f / static_cast<float>(columns);
  float center = 0;
  if (mean != nullptr) {
    float sum = 0;
    for (Index i = threadIdx.x; i < columns; i += 256) sum += to_float(source[i]);
    center = row_sum(sum, 0, shared).x * scale;
  }
  float squares = 0;
  for (Index i = threadIdx.x; i < columns; i += 256) {
    const float difference = to_float(source[i]) - center;
    squares += difference * difference;
  }
  const float inverse = rsqrtf(row_sum(squares, 0, shared).x * scale + epsilon);
  if (threadIdx.x == 0) {
    rstd[row] = inverse;
    if (mean != nullptr) mean[row] = center;
  }
  for (Index i = threadIdx.x; i < columns; i += 256) {
    const float normal = (to_float(source[i]) - center) * inverse * to_float(gain[i]);
    y[row * columns + i] = from_float<T>(bias != nullptr ? normal + to_float(bias[i]) : normal);
  }
}

/// With xhat = (x - mean) rstd and g = dy gain: dx = rstd (g - mean(g) - xhat mean(g xhat)), no mean(g) for RMSNorm.
/// A block walks over rows, keeps its columns' share of dgain and dbias in registers, and reads a row ahead.
template <typename T, int N>
struct NormBackward {
  const T* dy;
  const T* x;
  const T* gain;
  const float* mean;
  const float* rstd;
  T* dx;
  bool accumulate;
  float* partial;  // [2][gridDim.x][columns]: dgain, then dbias
  Index rows;
  int packs;

  struct Row {
    Pack<T, N> dy[kBackwardPacks];
    Pack<T, N> x[kBackwardPacks];
  };
  __device__ int pack_at(int u) const { return static_cast<int>(threadIdx.x + u * blockDim.x); }
  __device__ __forceinline__ void read(Index row, Row& values) const {
#pragma unroll
    for (int u = 0; u < kBackwardPacks; ++u) {
      if (row < rows && pack_at(u) < packs) {
        values.dy[u] = load<N>(dy, row * packs + pack_at(u));
        values.x[u] = load<N>(x, row * packs + pack_at(u));
      } else {
        values.dy[u].clear();
        values.x[u].clear();
      }
    }
  }
};

template <typename T, int N>
__global__ void __launch_bounds__(kBackwardThreads) norm_backward_kernel(const NormBackward<T, N> op) {
  extern __shared__ float column_sums[];  // [columns], used to add the rows of a block
  __shared__ float2 shared[8][32];
  float dgain[kBackwardPacks][N] = {};
  float dbias[kBackwardPacks][N] = {};
  const Index stride = static_cast<Index>(gridDim.x) * blockDim.y;
  const float scale = 1.0f / static_cast<float>(op.packs * N);
  Pack<T, N> gain[kBackwardPacks];
#pragma unroll
  for (int u = 0; u < kBackwardPacks; ++u) {
    if (op.pack_at(u) < op.packs) {
      gain[u] = load<N>(op.gain, op.pack_at(u));
    } else {
      gain[u].clear();
    }
  }
  typename NormBackward<T, N>::Row current, next;
  Index first = static_cast<Index>(blockIdx.x) * blockDim.y;  // all rows of a block go round together
  op.read(first + threadIdx.y, next);
  for (; first < op.rows; first += stride) {
    const Index row = first + threadIdx.y;
    const bool live = row < op.rows;
    current = next;
    op.read(row + stride, next);
    const float inverse = live ? op.rstd[row] : 0.0f;
    const float center = live && op.mean != nullptr ? op.mean[row] : 0.0f;
    float sum_g = 0;
    float sum_gx = 0;
#pragma unroll
    for (int u = 0; u < kBackwardPacks; ++u) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float d = current.dy[u].get(e);
        const float normal = (current.x[u].get(e) - center) * inverse;
        const float g = d * gain[u].get(e);
        sum_g += g;
        sum_gx += g * normal;
        dgain[u][e] += d * normal;
        dbias[u][e] += d;
      }
    }
    const float2 sums = row_sum(sum_g, sum_gx, shared);
    const float mean_g = op.mean != nullptr ? sums.x * scale : 0.0f;
    const float mean_gx = sums.y * scale;
    if (!live) continue;
#pragma unroll
    for (int u = 0; u < kBackwardPacks; ++u) {
      if (op.pack_at(u) >= op.packs) continue;
      const Index at = row * op.packs + op.pack_at(u);
      Pack<T, N> out;
      if (op.accumulate) {
        out = load<N>(op.dx, at);
      } else {
        out.clear();
      }
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float normal = (current.x[u].get(e) - center) * inverse;
        const float g = current.dy[u].get(e) * gain[u].get(e);
        const float slope = inverse * (g - mean_g - normal * mean_gx);
        out.set(e, op.accumulate ? out.get(e) + slope : slope);
      }
      store<N>(op.dx, at, out);
    }
  }
  const Index columns = static_cast<Index>(op.packs) * N;
  for (int part = 0; part < 2; ++part) {
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y) {  // in order: the same bits every time
      __syncthreads();
      if (static_cast<int>(threadIdx.y) != y) continue;
#pragma unroll
      for (int u = 0; u < kBackwardPacks; ++u) {
        if (op.pack_at(u) >= op.packs) continue;
#pragma unroll
        for (int e = 0; e < N; ++e) {
          float& sum = column_sums[op.pack_at(u) * N + e];
          const float mine = part == 0 ? dgain[u][e] : dbias[u][e];
          sum = y == 0 ? mine : sum + mine;
        }
      }
    }
    __syncthreads();
    float* out = op.partial + (static_cast<Index>(part) * gridDim.x + blockIdx.x) * columns;
    const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
    for (Index c = thread; c < columns; c += blockDim.x * blockDim.y) out[c] = column_sums[c];
  }
}

/// Any width: a block walks over rows and adds its share of dgain and dbias to its own rows of `partial`.
template <typename T>
__global__ void __launch_bounds__(256) norm_backward_plain_kernel(const NormBackward<T, 1> op) {
  __shared__ float2 shared[8][32];
  const Index columns = op.packs;
  float* dgain = op.partial + blockIdx.x * columns;
  float* dbias = op.partial + (static_cast<Index>(gridDim.x) + blockIdx.x) * columns;
  for (Index i = threadIdx.x; i < columns; i += 256) dgain[i] = dbias[i] = 0;
  for (Index row = blockIdx.x; row < op.rows; row += gridDim.x) {
    const T* dy = op.dy + row * columns;
    const T* x = op.x + row * columns;
    const float inverse = op.rstd[row];
    const float center = op.mean != nullptr ? op.mean[row] : 0.0f;
    float sum_g = 0;
    float sum_gx = 0;
    for (Index i = threadIdx.x; i < columns; i += 256) {
      const float d = to_float(dy[i]);
      const float normal = (to_float(x[i]) - center) * inverse;
      sum_g += d * to_float(op.gain[i]);
      sum_gx += d * to_float(op.gain[i]) * normal;
      dgain[i] += d * normal;
      dbias[i] += d;
    }
    const float2 sums = row_sum(sum_g, sum_gx, shared);
    const float mean_g = op.mean != nullptr ? sums.x / static_cast<float>(columns) : 0.0f;
    const float mean_gx = sums.y / static_cast<float>(columns);
    for (Index i = threadIdx.x; i < columns; i += 256) {
      const float normal = (to_float(x[i]) - center) * inverse;
      const float slope = inverse * (to_float(dy[i]) * to_float(op.gain[i]) - mean_g - normal * mean_gx);
      T& out = op.dx[row * columns + i];
      out = from_float<T>(op.accumulate ? to_float(out) + slope : slope);
    }
  }
}

constexpr int kBlocksPerMultiprocessor = 2;

}  // namespace

cudaError_t launch_norm(cudaStream_t stream, Real type, const void* x, const void* gain, const void* bias,
                        float epsilon, void* y, float* mean, float* rstd, Index rows, Index columns) {
  if (rows == 0) return cudaSuccess;
  const bool wide = columns % wide_count(type) == 0 && aligned16(x, gain, bias, y) &&
                    threads_per_row(columns / wide_count(type), kForwardPacks, kForwardThreads) != 0;
  with_real(type, [&]<typename T>() {
    const T* in = static_cast<const T*>(x);
    const T* g = static_cast<const T*>(gain);
    const T* b = static_cast<const T*>(bias);
    T* out = static_cast<T*>(y);
    if (!wide) {
      norm_plain_kernel<T>
          <<<static_cast<unsigned>(rows), 256, 0, stream>>>(in, g, b, epsilon, out, mean, rstd, columns);
      return;
    }
    const int packs = static_cast<int>(columns / kWide<T>);
    const unsigned threads = static_cast<unsigned>(threads_per_row(packs, kForwardPacks, kForwardThreads));
    const dim3 block(threads, std::max(1u, 256u / threads));
    norm_kernel<T, kWide<T>><<<static_cast<unsigned>(divide_up(rows, block.y)), block, 0, stream>>>(
        in, g, b, epsilon, out, mean, rstd, rows, packs);
  });
  return cudaGetLastError();
}

Index norm_backward_scratch(int multiprocessors, Index columns) {
  return 2 * static_cast<Index>(kBlocksPerMultiprocessor) * multiprocessors * columns;
}

cudaError_t launch_norm_backward(cudaStream_t stream, Real type, int multiprocessors, const void* dy, const void* x,
                                 const void* gain, const float* mean, const float* rstd, void* dx, bool accumulate,
                                 float* scratch, float* dgain, float* dbias, Index rows, Index columns) {
  if (rows == 0) return cudaSuccess;
  const bool wide = columns % wide_count(type) == 0 && aligned16(dy, x, gain, dx) && columns * 4 <= 40 * 1024 &&
                    threads_per_row(columns / wide_count(type), kBackwardPacks, kBackwardThreads) != 0;
  Index blocks = static_cast<Index>(kBlocksPerMultiprocessor) * multiprocessors;
  with_pack(type, wide, [&]<typename T, int N>() {
    const int packs = static_cast<int>(columns / N);
    const NormBackward<T, N> op{static_cast<const T*>(dy),
                                static_cast<const T*>(x),
                                static_cast<const T*>(gain),
                                mean,
                                rstd,
                                static_cast<T*>(dx),
                                accumulate,
                                scratch,
                                rows,
                                packs};
    if constexpr (N == 1) {
      blocks = std::min(blocks, rows);
      norm_backward_plain_kernel<T><<<static_cast<unsigned>(blocks), 256, 0, stream>>>(op);
    } else {
      const unsigned threads = static_cast<unsigned>(threads_per_row(packs, kBackwardPacks, kBackwardThreads));
      const dim3 block(threads, std::max(1u, 256u / threads));
      blocks = std::min(blocks, divide_up(rows, block.y));
      norm_backward_kernel<T, N>
          <<<static_cast<unsigned>(blocks), block, static_cast<unsigned>(columns * 4), stream>>>(op);
    }
  });
  launch_column_sum(stream, scratch, 1, blocks, columns, dgain);
  if (dbias != nullptr) launch_column_sum(stream, scratch + blocks * columns, 1, blocks, columns, dbias);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
