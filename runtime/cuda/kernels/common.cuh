#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "runtime/cuda/kernels/launch.h"

namespace moecast::cuda {

using Bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Bf16 x) { return __bfloat162float(x); }
template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == 2) {
    return __float2bfloat16(x);
  } else {
    return x;
  }
}

/// N consecutive elements that move as one access: 16 bytes, or one element where a pointer or a width is not aligned.
template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T element[N];
  static constexpr int kCount = N;
  __device__ __forceinline__ float get(int i) const { return to_float(element[i]); }
  __device__ __forceinline__ void set(int i, float value) { element[i] = from_float<T>(value); }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < N; ++i) set(i, 0.0f);
  }
};
template <typename T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* x, Index pack_index) {
  return reinterpret_cast<const Pack<T, N>*>(x)[pack_index];
}
template <int N, typename T>
__device__ __forceinline__ void store(T* x, Index pack_index, const Pack<T, N>& value) {
  reinterpret_cast<Pack<T, N>*>(x)[pack_index] = value;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x += __shfl_xor_sync(0xffffffffu, x, mask);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, mask));
  return x;
}

constexpr Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

/// True if every pointer is 16-byte aligned (null counts as aligned).
template <typename... Pointers>
bool aligned16(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

/// body.operator()<T>() for the device type.
template <typename Body>
void with_real(Real type, const Body& body) {
  if (type == Real::BF16) {
    body.template operator()<Bf16>();
  } else {
    body.template operator()<float>();
  }
}

/// body.operator()<T, N>() with N elements in 16 bytes if `wide`, else N = 1.
template <typename Body>
void with_pack(Real type, bool wide, const Body& body) {
  with_real(type, [&]<typename T>() {
    if (wide) {
      body.template operator()<T, kWide<T>>();
    } else {
      body.template operator()<T, 1>();
    }
  });
}
[[nodiscard]] inline Index wide_count(Real type) { return type == Real::BF16 ? kWide<Bf16> : kWide<float>; }

/// One operation on packs [0, count): first all loads of a thread, then its arithmetic and stores, so that kUnroll
/// loads are in flight. Op has `Values load(Index)` and `void store(Index, const Values&)`.
template <int kUnroll, typename Op>
__global__ void __launch_bounds__(256) map_kernel(Op op, Index count) {
  const Index first = static_cast<Index>(blockIdx.x) * (256 * kUnroll) + threadIdx.x;
  typename Op::Values values[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const Index i = first + u * 256;
    if (i < count) values[u] = op.load(i);
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const Index i = first + u * 256;
    if (i < count) op.store(i, values[u]);
  }
}

template <int kUnroll, typename Op>
cudaError_t launch_map(cudaStream_t stream, const Op& op, Index count) {
  if (count == 0) return cudaSuccess;
  map_kernel<kUnroll><<<static_cast<unsigned>(divide_up(count, 256 * kUnroll)), 256, 0, stream>>>(op, count);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
