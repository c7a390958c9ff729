#include "runtime/cuda/kernels/common.cuh"

/// Rotary position embedding (Su et al., arXiv 2104.09864) in the half-split pairing of Llama.
namespace moecast::cuda {
namespace {

/// Angles in double: at position 32,768 a float angle would be wrong in the third digit.
__global__ void __launch_bounds__(256) rope_table_kernel(double theta, Index count, int half, float2* table) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= count) return;
  const double position = static_cast<double>(i / half);
  const double angle = position * pow(theta, -static_cast<double>(i % half) / half);
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  table[i] = {static_cast<float>(cosine), static_cast<float>(sine)};
}

/// A thread rotates one pack of the low half against its partner in the high half.
template <typename T, int N>
__global__ void __launch_bounds__(256) rope_kernel(const float2* table, T* qkv, Index count, Index sequence, int heads,
                                                   Index row_stride, int half, float sign) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= count) return;
  const int packs = half / N;
  const int pack = static_cast<int>(i % packs);
  const int head = static_cast<int>(i / packs % heads);
  const Index token = i / packs / heads;
  T* low = qkv + token * row_stride + static_cast<Index>(head) * 2 * half + pack * N;
  const float2* angles = table + token % sequence * half + pack * N;
  Pack<T, N> a = load<N>(low, 0);
  Pack<T, N> b = load<N>(low + half, 0);
#pragma unroll
  for (int e = 0; e < N; ++e) {
    const float cosine = angles[e].x;
    const float sine = sign * angles[e].y;
    const float x = a.get(e);
    const float y = b.get(e);
    a.set(e, x * cosine - y * sine);
    b.set(e, y * cosine + x * sine);
  }
  store<N>(low, 0, a);
  store<N>(low + half, 0, b);
}

}  // namespace

cudaError_t launch_rope_table(cudaStream_t stream, double theta, Index sequence, Index head_dim, void* table) {
  const Index count = sequence * head_dim / 2;
  if (count == 0) return cudaSuccess;
  rope_table_kernel<<<static_cast<unsigned>(divide_up(count, 256)), 256, 0, stream>>>(
      theta, count, static_cast<int>(head_dim / 2), static_cast<float2*>(table));
  return cudaGetLastError();
}

cudaError_t launch_rope(cudaStream_t stream, Real type, const void* table, void* qkv, Index tokens, Index sequence,
                        Index rotated_heads, Index row_stride, Index head_dim, bool inverse) {
  if (tokens == 0) return cudaSuccess;
  const Index half = head_dim / 2;
  const Index width = wide_count(type);
  with_pack(type, half % width == 0 && row_stride % width == 0 && aligned16(qkv), [&]<typename T, int N>() {
    const Index count = tokens * rotated_heads * (half / N);
    rope_kernel<T, N><<<static_cast<unsigned>(divide_up(count, 256)), 256, 0, stream>>>(
        static_cast<const float2*>(table), static_cast<T*>(qkv), count, sequence, static_cast<int>(rotated_heads),
        row_stride, static_cast<int>(half), inverse ? -1.0f : 1.0f);
  });
  return cudaGetLastError();
}

}  // namespace moecast::cuda
