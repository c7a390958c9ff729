#include <algorithm>

#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2); the decayed master is also written as a weight.
template <typename W, int N>
struct AdamW {
  struct Values {
    Pack<float, N> master, gradient, first, second;
  };
  AdamWArguments step;
  float* master;
  const float* gradient;
  float* first;
  float* second;
  W* weight;  // null: the master is the weight
  __device__ Values load(Index i) const {
    return {cuda::load<N>(master, i), cuda::load<N>(gradient, i), cuda::load<N>(first, i), cuda::load<N>(second, i)};
  }
  __device__ void store(Index i, Values v) const {
    Pack<W, N> rounded;
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float g = v.gradient.get(e) * step.gradient_scale;
      const float m = step.beta1 * v.first.get(e) + (1.0f - step.beta1) * g;
      const float s = step.beta2 * v.second.get(e) + (1.0f - step.beta2) * g * g;
      const float direction = m * step.correction1 / (sqrtf(s * step.correction2) + step.epsilon);
      const float theta = v.master.get(e);
      v.master.set(e, theta - step.learning_rate * (direction + step.weight_decay * theta));
      v.first.set(e, m);
      v.second.set(e, s);
      rounded.set(e, v.master.get(e));
    }
    cuda::store<N>(master, i, v.master);
    cuda::store<N>(first, i, v.first);
    cuda::store<N>(second, i, v.second);
    if (weight != nullptr) cuda::store<N>(weight, i, rounded);
  }
};

constexpr int kNormThreads = 256;

__device__ double block_sum(double value, double* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = kNormThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    __syncthreads();
  }
  return shared[0];
}

template <int N>
__global__ void __launch_bounds__(kNormThreads) squared_norm_kernel(const float* x, Index packs, double* partial) {
  __shared__ double shared[kNormThreads];
  double sum = 0;
  const Index stride = static_cast<Index>(gridDim.x) * kNormThreads;
#pragma unroll 4
  for (Index i = static_cast<Index>(blockIdx.x) * kNormThreads + threadIdx.x; i < packs; i += stride) {
    const Pack<float, N> value = load<N>(x, i);
#pragma unroll
    for (int e = 0; e < N; ++e) sum += static_cast<double>(value.get(e)) * value.get(e);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kNormThreads)
    squared_norm_total_kernel(const double* partial, int count, double* out, bool accumulate) {
  __shared__ double shared[kNormThreads];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kNormThreads) sum += partial[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *out = accumulate ? *out + sum : sum;
}

}  // namespace

cudaError_t launch_adamw(cudaStream_t stream, const AdamWArguments& step, float* master, const float* gradient,
                         float* first_moment, float* second_moment, Real weight_type, void* weight, Index count) {
  cudaError_t status = cudaSuccess;
  const bool wide = count % 4 == 0 && aligned16(master, gradient, first_moment, second_moment) &&
                    reinterpret_cast<std::uintptr_t>(weight) % 16 == 0;
  with_real(weight_type, [&]<typename W>() {
    W* w = static_cast<W*>(weight);
    if (wide) {
      status = launch_map<2>(stream, AdamW<W, 4>{step, master, gradient, first_moment, second_moment, w}, count / 4);
    } else {
      status = launch_map<2>(stream, AdamW<W, 1>{step, master, gradient, first_moment, second_moment, w}, count);
    }
  });
  return status;
}

cudaError_t launch_squared_norm(cudaStream_t stream, const float* x, Index count, double* scratch, double* out,
                                bool accumulate) {
  const bool wide = count % 4 == 0 && aligned16(x);
  const Index packs = wide ? count / 4 : count;
  const Index blocks = std::clamp<Index>(divide_up(packs, kNormThreads * 4), 1, kSquaredNormScratch);
  if (wide) {
    squared_norm_kernel<4><<<static_cast<unsigned>(blocks), kNormThreads, 0, stream>>>(x, packs, scratch);
  } else {
    squared_norm_kernel<1><<<static_cast<unsigned>(blocks), kNormThreads, 0, stream>>>(x, packs, scratch);
  }
  squared_norm_total_kernel<<<1, kNormThreads, 0, stream>>>(scratch, static_cast<int>(blocks), out, accumulate);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
