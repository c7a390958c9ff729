#include <algorithm>

#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

__device__ __forceinline__ int group_of(const GroupTable& groups, int row) {
  int low = 0;  // the last group whose first row is at most `row`
  int high = groups.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (groups.offset[middle] <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/// A block holds 256 packs of columns x 8 rows; every thread adds one bias pack to up to four rows of a group.
template <typename T, int N>
__global__ void __launch_bounds__(256)
    bias_add_kernel(T* x, const T* b, const __grid_constant__ GroupTable groups, Index packs) {
  constexpr int kRows = 4;
  const Index column = static_cast<Index>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (column >= packs) return;
  const int first =
      groups.offset[0] +
      (static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.y) + static_cast<int>(threadIdx.y)) * kRows;
  const int end = min(first + kRows, groups.offset[groups.count]);
  if (first >= end) return;
  Pack<T, N> values[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r < end) values[r] = load<N>(x, (first + r) * packs + column);
  }
  int group = -1;
  Pack<T, N> bias;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r >= end) continue;
    if (group < 0 || groups.offset[group + 1] <= first + r) {
      group = group_of(groups, first + r);
      bias = load<N>(b, (groups.first_group + group) % groups.weights * packs + column);
    }
#pragma unroll
    for (int e = 0; e < N; ++e) values[r].set(e, values[r].get(e) + bias.get(e));
    store<N>(x, (first + r) * packs + column, values[r]);
  }
}

int splits_of(const GroupTable& groups) {
  const int rows = groups.offset[groups.count] - groups.offset[0];
  return std::clamp(rows / std::max(groups.count, 1) / 128, 1, 64);
}

/// partial [group][split][columns] = column sums of one split of a group's rows. Block: 32 packs x 8 row lanes.
template <typename T, int N>
__global__ void __launch_bounds__(256)
    bias_partial_kernel(const T* dx, const __grid_constant__ GroupTable groups, Index packs, float* partial) {
  __shared__ float sums[8][32 * N + 1];
  const int group = static_cast<int>(blockIdx.z);
  const int rows = groups.offset[group + 1] - groups.offset[group];
  const int splits = static_cast<int>(gridDim.y);
  const int split = static_cast<int>(blockIdx.y);
  const int begin = groups.offset[group] + static_cast<int>(static_cast<Index>(rows) * split / splits);
  const int end = groups.offset[group] + static_cast<int>(static_cast<Index>(rows) * (split + 1) / splits);
  const Index column = static_cast<Index>(blockIdx.x) * 32 + threadIdx.x;
  float sum[N] = {};
  if (column < packs) {
#pragma unroll 4
    for (int r = begin + static_cast<int>(threadIdx.y); r < end; r += 8) {
      const Pack<T, N> value = load<N>(dx, r * packs + column);
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] += value.get(e);
    }
  }
#pragma unroll
  for (int e = 0; e < N; ++e) sums[threadIdx.y][threadIdx.x * N + e] = sum[e];
  __syncthreads();
  float* out = partial + (static_cast<Index>(group) * splits + split) * packs * N;
  for (int c = static_cast<int>(threadIdx.y) * 32 + static_cast<int>(threadIdx.x); c < 32 * N; c += 256) {
    const Index at = static_cast<Index>(blockIdx.x) * 32 * N + c;
    if (at >= packs * N) continue;
    float total = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) total += sums[i][c];
    out[at] = total;
  }
}

/// db[weight] += its groups' partial sums, groups and splits in rising order.
__global__ void __launch_bounds__(128) bias_combine_kernel(const float* partial, int splits, int first_group, int count,
                                                           int weights, Index columns, float* db) {
  const Index column = static_cast<Index>(blockIdx.x) * 128 + threadIdx.x;
  const int weight = static_cast<int>(blockIdx.y);
  if (column >= columns) return;
  const int first = ((weight - first_group) % weights + weights) % weights;  // the weight's first group of the table
  if (first >= count) return;
  float sum = 0;
  for (int g = first; g < count; g += weights) {
#pragma unroll 4
    for (int s = 0; s < splits; ++s) sum += partial[(static_cast<Index>(g) * splits + s) * columns + column];
  }
  db[weight * columns + column] += sum;
}

}  // namespace

cudaError_t launch_bias_add(cudaStream_t stream, Real type, void* x, const void* b, const GroupTable& groups,
                            Index columns) {
  const int rows = groups.offset[groups.count] - groups.offset[0];
  if (rows == 0 || columns == 0) return cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(x, b), [&]<typename T, int N>() {
    const Index packs = columns / N;
    const unsigned width = packs >= 256 ? 256 : packs >= 64 ? 64 : 32;
    const dim3 block(width, 256 / width);
    const dim3 grid(static_cast<unsigned>(divide_up(rows, 4 * block.y)),
                    static_cast<unsigned>(divide_up(packs, width)));
    bias_add_kernel<T, N><<<grid, block, 0, stream>>>(static_cast<T*>(x), static_cast<const T*>(b), groups, packs);
  });
  return cudaGetLastError();
}

Index bias_gradient_scratch(const GroupTable& groups, Index columns) {
  return static_cast<Index>(groups.count) * splits_of(groups) * columns;
}

cudaError_t launch_bias_gradient(cudaStream_t stream, Real type, const void* dx, const GroupTable& groups,
                                 Index columns, float* scratch, float* db) {
  if (groups.offset[groups.count] == groups.offset[0] || columns == 0) return cudaSuccess;
  const int splits = splits_of(groups);
  with_pack(type, columns % wide_count(type) == 0 && aligned16(dx), [&]<typename T, int N>() {
    const Index packs = columns / N;
    const dim3 grid(static_cast<unsigned>(divide_up(packs, 32)), static_cast<unsigned>(splits),
                    static_cast<unsigned>(groups.count));
    bias_partial_kernel<T, N><<<grid, dim3(32, 8), 0, stream>>>(static_cast<const T*>(dx), groups, packs, scratch);
  });
  const dim3 grid(static_cast<unsigned>(divide_up(columns, 128)), static_cast<unsigned>(groups.weights));
  bias_combine_kernel<<<grid, 128, 0, stream>>>(scratch, splits, groups.first_group, groups.count, groups.weights,
                                                columns, db);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
