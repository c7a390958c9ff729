#pragma once

#include "runtime/cuda/kernels/common.cuh"

/// Tensor-core building blocks for compute capability 8.0 and newer (PTX ISA, sections on cp.async, ldmatrix and mma):
/// m16n8k16 products of BF16 with F32 sums, operands from shared-memory tiles.
///
/// A tile has rows of kDim BF16 values, cut in 16-byte chunks; chunk c of row r lies at chunk c ^ (r % 8), so that the
/// eight rows which ldmatrix reads together lie in different banks.
///
/// Fragment layout of an m16n8 sum in a lane: [0], [1] are row lane / 4, columns 2 (lane % 4) and the next; [2], [3]
/// the same columns of row lane / 4 + 8. Two neighbouring sums, rounded, are the A operand of a product over 16.
namespace moecast::cuda {

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// 16 bytes from global to shared memory; zeros if !live (the address is not read then).
__device__ __forceinline__ void copy_async16(unsigned target, const void* source, bool live) {
  const int bytes = live ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_async4(unsigned target, const void* source, bool live) {
  const int bytes = live ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Waits until at most kPending of this thread's latest groups are unfinished.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

template <int kDim>
__device__ __forceinline__ unsigned chunk_offset(int row, int chunk) {
  return static_cast<unsigned>(row * kDim * 2 + ((chunk ^ (row & 7)) << 4));
}

/// kRows rows of `source` (row_stride elements apart) into a tile; rows from `live` on become zero.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(unsigned tile, const Bf16* source, Index row_stride, int live) {
  constexpr int kChunks = kDim / 8;
  static_assert(kRows * kChunks % kThreads == 0);
#pragma unroll
  for (int u = 0; u < kRows * kChunks / kThreads; ++u) {
    const int i = static_cast<int>(threadIdx.x) + u * kThreads;
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    copy_async16(tile + chunk_offset<kDim>(row, chunk), source + row * row_stride + chunk * 8, row < live);
  }
}

__device__ __forceinline__ void load_matrices(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// A operand: tile rows [row, row + 16), columns [16 k, 16 k + 16).
template <int kDim>
__device__ __forceinline__ void load_a(unsigned (&a)[4], unsigned tile, int row, int k, int lane) {
  load_matrices(a, tile + chunk_offset<kDim>(row + (lane & 15), 2 * k + (lane >> 4)));
}
/// B operands of two products, for y = a tile^T: tile rows [row, row + 16) are the columns of y, summed over tile
/// columns [16 k, 16 k + 16). b[0..1] belong to the first eight columns of y, b[2..3] to the next eight.
template <int kDim>
__device__ __forceinline__ void load_b(unsigned (&b)[4], unsigned tile, int row, int k, int lane) {
  load_matrices(b, tile + chunk_offset<kDim>(row + (lane & 7) + ((lane >> 4) << 3), 2 * k + ((lane >> 3) & 1)));
}
/// The same for y = a tile: summed over tile rows [row, row + 16); tile columns [16 n, 16 n + 16) are those of y.
template <int kDim>
__device__ __forceinline__ void load_b_transposed(unsigned (&b)[4], unsigned tile, int row, int n, int lane) {
  load_matrices_transposed(b, tile + chunk_offset<kDim>(row + (lane & 15), 2 * n + (lane >> 4)));
}

__device__ __forceinline__ void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  __builtin_memcpy(&bits, &pair, sizeof(bits));
  return bits;
}
/// Two neighbouring sums as an A operand.
__device__ __forceinline__ void pack_a(unsigned (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]);
  a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]);
  a[3] = pack_bf16(right[2], right[3]);
}

/// 2^x by the special function unit (two units in the last place).
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
inline constexpr float kLog2E = 1.4426950408889634f;

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

}  // namespace moecast::cuda
