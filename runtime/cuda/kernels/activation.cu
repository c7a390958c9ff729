#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

/// GELU in its erf form (Hendrycks & Gimpel, arXiv 1606.08415): x Phi(x).
struct Gelu {
  __device__ static float value(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
  __device__ static float slope(float x) {
    const float cdf = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    return cdf + x * 0.39894228040143268f * expf(-0.5f * x * x);
  }
};
struct Relu {
  __device__ static float value(float x) { return fmaxf(x, 0.0f); }
  __device__ static float slope(float x) { return x > 0.0f ? 1.0f : 0.0f; }
};

template <typename Function, typename T, int N>
struct Forward {
  using Values = Pack<T, N>;
  const T* pre;
  T* out;
  __device__ Values load(Index i) const { return cuda::load<N>(pre, i); }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) v.set(e, Function::value(v.get(e)));
    cuda::store<N>(out, i, v);
  }
};

template <typename Function, typename T, int N>
struct Backward {
  struct Values {
    Pack<T, N> pre, dout;
  };
  const T* pre;
  const T* dout;
  T* dpre;
  __device__ Values load(Index i) const { return {cuda::load<N>(pre, i), cuda::load<N>(dout, i)}; }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) v.dout.set(e, v.dout.get(e) * Function::slope(v.pre.get(e)));
    cuda::store<N>(dpre, i, v.dout);
  }
};

__device__ __forceinline__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

/// SwiGLU (Shazeer, arXiv 2002.05202): silu(gate) * up with pre = (gate | up); `packs` of one row of `out`.
template <typename T, int N>
struct SwiGlu {
  struct Values {
    Pack<T, N> gate, up;
  };
  const T* pre;
  T* out;
  unsigned packs;
  __device__ Index gate_at(Index i) const { return i + static_cast<Index>(static_cast<unsigned>(i) / packs) * packs; }
  __device__ Values load(Index i) const {
    const Index at = gate_at(i);
    return {cuda::load<N>(pre, at), cuda::load<N>(pre, at + packs)};
  }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float gate = v.gate.get(e);
      v.gate.set(e, gate * logistic(gate) * v.up.get(e));
    }
    cuda::store<N>(out, i, v.gate);
  }
};

template <typename T, int N>
struct SwiGluBackward {
  struct Values {
    Pack<T, N> gate, up, dout;
  };
  const T* pre;
  const T* dout;
  T* dpre;
  unsigned packs;
  __device__ Index gate_at(Index i) const { return i + static_cast<Index>(static_cast<unsigned>(i) / packs) * packs; }
  __device__ Values load(Index i) const {
    const Index at = gate_at(i);
    return {cuda::load<N>(pre, at), cuda::load<N>(pre, at + packs), cuda::load<N>(dout, i)};
  }
  __device__ void store(Index i, Values v) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float gate = v.gate.get(e);
      const float s = logistic(gate);
      const float dy = v.dout.get(e);
      v.gate.set(e, dy * v.up.get(e) * s * (1.0f + gate * (1.0f - s)));
      v.up.set(e, dy * gate * s);
    }
    const Index at = gate_at(i);
    cuda::store<N>(dpre, at, v.gate);
    cuda::store<N>(dpre, at + packs, v.up);
  }
};

}  // namespace

cudaError_t launch_activation(cudaStream_t stream, Real type, ActivationKind kind, const void* pre, void* out,
                              Index rows, Index columns) {
  cudaError_t status = cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(pre, out), [&]<typename T, int N>() {
    const T* in = static_cast<const T*>(pre);
    T* y = static_cast<T*>(out);
    const Index packs = rows * columns / N;
    switch (kind) {
      case ActivationKind::Gelu:
        status = launch_map<4>(stream, Forward<Gelu, T, N>{in, y}, packs);
        break;
      case ActivationKind::Relu:
        status = launch_map<4>(stream, Forward<Relu, T, N>{in, y}, packs);
        break;
      case ActivationKind::SwiGlu: {
        const SwiGlu<T, N> op{in, y, static_cast<unsigned>(columns / N)};
        status = launch_map<4>(stream, op, packs);
        break;
      }
    }
  });
  return status;
}

cudaError_t launch_activation_backward(cudaStream_t stream, Real type, ActivationKind kind, const void* pre,
                                       const void* dout, void* dpre, Index rows, Index columns) {
  cudaError_t status = cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(pre, dout, dpre), [&]<typename T, int N>() {
    const T* in = static_cast<const T*>(pre);
    const T* dy = static_cast<const T*>(dout);
    T* dx = static_cast<T*>(dpre);
    const Index packs = rows * columns / N;
    switch (kind) {
      case ActivationKind::Gelu:
        status = launch_map<2>(stream, Backward<Gelu, T, N>{in, dy, dx}, packs);
        break;
      case ActivationKind::Relu:
        status = launch_map<2>(stream, Backward<Relu, T, N>{in, dy, dx}, packs);
        break;
      case ActivationKind::SwiGlu: {
        const SwiGluBackward<T, N> op{in, dy, dx, static_cast<unsigned>(columns / N)};
        status = launch_map<2>(stream, op, packs);
        break;
      }
    }
  });
  return status;
}

}  // namespace moecast::cuda
