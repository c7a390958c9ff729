#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

constexpr int kThreads = 512;

/// Largest value and sum of exp(x - largest) of a part of a row; parts merge in any grouping.
struct Partial {
  float largest;
  float sum;
};
__device__ __forceinline__ Partial merge(Partial a, Partial b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) return {-INFINITY, 0};
  return {largest, a.sum * __expf(a.largest - largest) + b.sum * __expf(b.largest - largest)};
}

/// One block for each row: online softmax (Milakov & Gimelshein, arXiv 1805.02867), then the gradient in place.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(T* logits, const std::int32_t* targets, float scale, float* loss, Index packs) {
  __shared__ Partial shared[kThreads / 32];
  const Index row = blockIdx.x;
  T* x = logits + row * packs * N;
  Partial mine{-INFINITY, 0};
#pragma unroll 2
  for (Index i = threadIdx.x; i < packs; i += kThreads) {
    const Pack<T, N> v = load<N>(x, i);
    float largest = v.get(0);
#pragma unroll
    for (int e = 1; e < N; ++e) largest = fmaxf(largest, v.get(e));
    Partial part{largest, 0};
#pragma unroll
    for (int e = 0; e < N; ++e) part.sum += expf(v.get(e) - largest);
    mine = merge(mine, part);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const Partial other{__shfl_xor_sync(0xffffffffu, mine.largest, mask), __shfl_xor_sync(0xffffffffu, mine.sum, mask)};
    mine = merge(mine, other);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  Partial total = shared[0];
#pragma unroll
  for (int w = 1; w < kThreads / 32; ++w) total = merge(total, shared[w]);
  const std::int32_t target = targets[row];
  const float log_sum = total.largest + logf(total.sum);
  if (threadIdx.x == 0) loss[row] = log_sum - to_float(x[target]);
  __syncthreads();  // the target's logit has been read
  const float factor = scale / total.sum;
#pragma unroll 2
  for (Index i = threadIdx.x; i < packs; i += kThreads) {
    Pack<T, N> v = load<N>(x, i);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float p = expf(v.get(e) - total.largest) * factor;
      v.set(e, i * N + e == target ? p - scale : p);
    }
    store<N>(x, i, v);
  }
}

}  // namespace

cudaError_t launch_cross_entropy(cudaStream_t stream, Real type, void* logits, const std::int32_t* targets, float scale,
                                 float* loss, Index rows, Index columns) {
  if (rows == 0) return cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(logits), [&]<typename T, int N>() {
    cross_entropy_kernel<T, N><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(static_cast<T*>(logits), targets,
                                                                                     scale, loss, columns / N);
  });
  return cudaGetLastError();
}

}  // namespace moecast::cuda
