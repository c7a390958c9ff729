#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

template <typename T>
struct Fill {
  using Values = T;
  T* y;
  T value;
  __device__ Values load(Index) const { return value; }
  __device__ void store(Index i, Values v) const { y[i] = v; }
};

template <typename T, int N>
struct Add {
  struct Values {
    Pack<T, N> y, x;
  };
  T* y;
  const T* x;
  __device__ Values load(Index i) const { return {cuda::load<N>(y, i), cuda::load<N>(x, i)}; }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) v.y.set(e, v.y.get(e) + v.x.get(e));
    cuda::store<N>(y, i, v.y);
  }
};

/// Four elements at a time (two doubles): 8 or 16 bytes each way.
template <typename To, typename From, int N>
struct Cast {
  using Values = Pack<From, N>;
  To* y;
  const From* x;
  __device__ Values load(Index i) const { return cuda::load<N>(x, i); }
  __device__ void store(Index i, Values v) const {
    Pack<To, N> out;
#pragma unroll
    for (int e = 0; e < N; ++e) {
      if constexpr (sizeof(To) == 2) {
        out.element[e] = __float2bfloat16(static_cast<float>(v.element[e]));
      } else {
        out.element[e] = static_cast<To>(static_cast<float>(v.element[e]));
      }
    }
    cuda::store<N>(y, i, out);
  }
};
template <int N>
struct Cast<double, double, N> {
  using Values = Pack<double, N>;
  double* y;
  const double* x;
  __device__ Values load(Index i) const { return cuda::load<N>(x, i); }
  __device__ void store(Index i, Values v) const { cuda::store<N>(y, i, v); }
};

/// y[row] += c[row] * x[row]; `packs` of a row.
template <typename T, int N>
struct AddScaledRows {
  struct Values {
    Pack<T, N> y, x;
    float c;
  };
  T* y;
  const T* x;
  const float* c;
  unsigned packs;
  __device__ Values load(Index i) const {
    const float factor = c == nullptr ? 1.0f : c[static_cast<unsigned>(i) / packs];
    return {cuda::load<N>(y, i), cuda::load<N>(x, i), factor};
  }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) v.y.set(e, v.y.get(e) + v.c * v.x.get(e));
    cuda::store<N>(y, i, v.y);
  }
};

/// One warp for each row: dx = c dy and dc = <dy, x>.
template <typename T, int N>
__global__ void __launch_bounds__(128)
    scaled_rows_backward_kernel(const T* dy, const T* x, const float* c, T* dx, float* dc, Index rows, Index packs) {
  const Index row = static_cast<Index>(blockIdx.x) * 4 + threadIdx.y;
  if (row >= rows) return;
  const float factor = c == nullptr ? 1.0f : c[row];
  const Index first = row * packs;
  float sum = 0;
  for (Index i = threadIdx.x; i < packs; i += 64) {  // two packs of each input in flight
    Pack<T, N> g[2], v[2];
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      if (i + u * 32 >= packs) continue;
      g[u] = load<N>(dy, first + i + u * 32);
      if (dc != nullptr) v[u] = load<N>(x, first + i + u * 32);
    }
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      if (i + u * 32 >= packs) continue;
      Pack<T, N> out;
#pragma unroll
      for (int e = 0; e < N; ++e) {
        out.set(e, factor * g[u].get(e));
        if (dc != nullptr) sum += g[u].get(e) * v[u].get(e);
      }
      store<N>(dx, first + i + u * 32, out);
    }
  }
  sum = warp_sum(sum);
  if (dc != nullptr && threadIdx.x == 0) dc[row] = sum;
}

struct Sigmoid {
  using Values = float;
  float* c;
  __device__ Values load(Index i) const { return c[i]; }
  __device__ void store(Index i, Values v) const { c[i] = 1.0f / (1.0f + expf(-v)); }
};

struct SigmoidBackward {
  using Values = float2;
  const float* c;
  float* dc;
  __device__ Values load(Index i) const { return {c[i], dc[i]}; }
  __device__ void store(Index i, Values v) const { dc[i] = v.y * v.x * (1.0f - v.x); }
};

/// Bytes repeat in the value: a 16-byte pattern covers any element size.
cudaError_t fill_pattern(cudaStream_t stream, void* y, Index bytes, const uint4& pattern) {
  if (bytes % 16 == 0 && aligned16(y)) {
    return launch_map<4>(stream, Fill<uint4>{static_cast<uint4*>(y), pattern}, bytes / 16);
  }
  if (bytes % 8 == 0 && reinterpret_cast<std::uintptr_t>(y) % 8 == 0) {
    return launch_map<4>(stream, Fill<uint2>{static_cast<uint2*>(y), uint2{pattern.x, pattern.y}}, bytes / 8);
  }
  if (bytes % 4 == 0 && reinterpret_cast<std::uintptr_t>(y) % 4 == 0) {
    return launch_map<4>(stream, Fill<unsigned>{static_cast<unsigned*>(y), pattern.x}, bytes / 4);
  }
  const std::uint16_t half = static_cast<std::uint16_t>(pattern.x);
  return launch_map<4>(stream, Fill<std::uint16_t>{static_cast<std::uint16_t*>(y), half}, bytes / 2);
}

unsigned bits_of(float value) {
  unsigned bits;
  static_assert(sizeof(bits) == sizeof(value));
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

template <typename To, typename From>
cudaError_t cast_to(cudaStream_t stream, To* y, const From* x, Index count) {
  constexpr int kWidth = sizeof(To) == 8 || sizeof(From) == 8 ? 2 : 4;
  if (count % kWidth == 0 && aligned16(y, x)) {
    return launch_map<4>(stream, Cast<To, From, kWidth>{y, x}, count / kWidth);
  }
  return launch_map<4>(stream, Cast<To, From, 1>{y, x}, count);
}

template <typename From>
cudaError_t cast_from(cudaStream_t stream, Number to, void* y, const From* x, Index count) {
  switch (to) {
    case Number::F32:
      return cast_to(stream, static_cast<float*>(y), x, count);
    case Number::F64:
      return cast_to(stream, static_cast<double*>(y), x, count);
    case Number::BF16:
      return cast_to(stream, static_cast<Bf16*>(y), x, count);
    case Number::I32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_fill(cudaStream_t stream, Number type, void* y, Index count, double value) {
  switch (type) {
    case Number::F64: {
      uint2 bits;
      __builtin_memcpy(&bits, &value, sizeof(bits));
      return fill_pattern(stream, y, count * 8, uint4{bits.x, bits.y, bits.x, bits.y});
    }
    case Number::F32: {
      const unsigned bits = bits_of(static_cast<float>(value));
      return fill_pattern(stream, y, count * 4, uint4{bits, bits, bits, bits});
    }
    case Number::BF16: {
      const Bf16 rounded = __float2bfloat16(static_cast<float>(value));
      std::uint16_t half;
      __builtin_memcpy(&half, &rounded, sizeof(half));
      const unsigned bits = half | static_cast<unsigned>(half) << 16;
      return fill_pattern(stream, y, count * 2, uint4{bits, bits, bits, bits});
    }
    case Number::I32: {
      const unsigned bits = static_cast<unsigned>(static_cast<std::int32_t>(value));
      return fill_pattern(stream, y, count * 4, uint4{bits, bits, bits, bits});
    }
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_add(cudaStream_t stream, Real type, void* y, const void* x, Index count) {
  cudaError_t status = cudaSuccess;
  with_pack(type, count % wide_count(type) == 0 && aligned16(y, x), [&]<typename T, int N>() {
    status = launch_map<4>(stream, Add<T, N>{static_cast<T*>(y), static_cast<const T*>(x)}, count / N);
  });
  return status;
}

cudaError_t launch_cast(cudaStream_t stream, Number to, void* y, Number from, const void* x, Index count) {
  switch (from) {
    case Number::F32:
      return cast_from(stream, to, y, static_cast<const float*>(x), count);
    case Number::F64:
      return cast_from(stream, to, y, static_cast<const double*>(x), count);
    case Number::BF16:
      return cast_from(stream, to, y, static_cast<const Bf16*>(x), count);
    case Number::I32:
      break;
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_add_scaled_rows(cudaStream_t stream, Real type, void* y, const void* x, const float* c, Index rows,
                                   Index columns) {
  cudaError_t status = cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(y, x), [&]<typename T, int N>() {
    const unsigned packs = static_cast<unsigned>(columns / N);
    const AddScaledRows<T, N> op{static_cast<T*>(y), static_cast<const T*>(x), c, packs};
    status = launch_map<4>(stream, op, rows * packs);
  });
  return status;
}

cudaError_t launch_scaled_rows_backward(cudaStream_t stream, Real type, const void* dy, const void* x, const float* c,
                                        void* dx, float* dc, Index rows, Index columns) {
  if (rows == 0) return cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(dy, x, dx), [&]<typename T, int N>() {
    scaled_rows_backward_kernel<T, N><<<static_cast<unsigned>(divide_up(rows, 4)), dim3(32, 4), 0, stream>>>(
        static_cast<const T*>(dy), static_cast<const T*>(x), c, static_cast<T*>(dx), dc, rows, columns / N);
  });
  return cudaGetLastError();
}

cudaError_t launch_sigmoid(cudaStream_t stream, float* c, Index count) {
  return launch_map<1>(stream, Sigmoid{c}, count);
}

cudaError_t launch_sigmoid_backward(cudaStream_t stream, const float* c, float* dc, Index count) {
  return launch_map<1>(stream, SigmoidBackward{c, dc}, count);
}

}  // namespace moecast::cuda
