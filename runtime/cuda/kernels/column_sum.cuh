#pragma once

#include "runtime/cuda/kernels/common.cuh"

/// Sums over rows in two stages, in a fixed order: partial sums of row ranges first (by the caller's kernel), then
/// column_sum_kernel adds the partial rows to the output.
namespace moecast::cuda {

/// y[blockIdx.y][column] += sum over p < partial_rows of partial[blockIdx.y][p][column]; 32 columns a block.
static __global__ void __launch_bounds__(256)
    column_sum_kernel(const float* partial, Index partial_rows, Index columns, float* y) {
  __shared__ float sums[8][33];
  const Index column = static_cast<Index>(blockIdx.x) * 32 + threadIdx.x;
  partial += static_cast<Index>(blockIdx.y) * partial_rows * columns;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (Index p = threadIdx.y; p < partial_rows; p += 8) sum += partial[p * columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
#pragma unroll
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  y[static_cast<Index>(blockIdx.y) * columns + column] += sum;
}

inline void launch_column_sum(cudaStream_t stream, const float* partial, Index batch, Index partial_rows, Index columns,
                              float* y) {
  const dim3 grid(static_cast<unsigned>(divide_up(columns, 32)), static_cast<unsigned>(batch));
  column_sum_kernel<<<grid, dim3(32, 8), 0, stream>>>(partial, partial_rows, columns, y);
}

}  // namespace moecast::cuda
