#include <algorithm>

#include "runtime/cuda/kernels/common.cuh"

namespace moecast::cuda {
namespace {

template <typename T, int N>
struct Embedding {
  struct Values {
    Pack<T, N> token, position;
  };
  const std::int32_t* ids;
  const T* tokens;
  const T* positions;  // may be null
  T* out;
  unsigned packs;
  unsigned sequence;
  __device__ Values load(Index i) const {
    const unsigned row = static_cast<unsigned>(i) / packs;
    const unsigned pack = static_cast<unsigned>(i) % packs;
    Values v;
    v.token = cuda::load<N>(tokens, static_cast<Index>(ids[row]) * packs + pack);
    if (positions != nullptr) v.position = cuda::load<N>(positions, static_cast<Index>(row % sequence) * packs + pack);
    return v;
  }
  __device__ void store(Index i, Values v) const {
    if (positions != nullptr) {
#pragma unroll
      for (int e = 0; e < N; ++e) v.token.set(e, v.token.get(e) + v.position.get(e));
    }
    cuda::store<N>(out, i, v.token);
  }
};

/// sorted[row[i]] = values[i] (or i itself if values is null): what a stable counting sort has placed.
__global__ void __launch_bounds__(256)
    scatter_kernel(const std::int32_t* row, const std::int32_t* values, Index count, std::int32_t* sorted) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;
  if (i < count) sorted[row[i]] = values == nullptr ? static_cast<std::int32_t>(i) : values[i];
}
__global__ void __launch_bounds__(256)
    gather_kernel(const std::int32_t* ids, const std::int32_t* order, Index count, std::int32_t* keys) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;
  if (i < count) keys[i] = ids[order[i]];
}

/// order: rows sorted by id, then by row; keys: their ids. The block at the first row of an id adds that id's rows in
/// order.
template <typename T, int N>
__global__ void __launch_bounds__(128) token_gradient_kernel(const std::int32_t* keys, const std::int32_t* order,
                                                             const T* dout, Index rows, Index packs, float* dtokens) {
  const Index first = blockIdx.x;
  const std::int32_t id = keys[first];
  if (first > 0 && keys[first - 1] == id) return;
  Index end = first;
  for (int equal = 128; equal == 128; end += equal) {  // sorted: equal keys are a prefix of what is left
    const Index i = end + threadIdx.x;
    equal = __syncthreads_count(i < rows && keys[i] == id);
  }
  for (Index pack = static_cast<Index>(blockIdx.y) * 128 + threadIdx.x; pack < packs; pack += gridDim.y * 128) {
    float sum[N] = {};
#pragma unroll 4
    for (Index i = first; i < end; ++i) {
      const Pack<T, N> value = load<N>(dout, order[i] * packs + pack);
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] += value.get(e);
    }
#pragma unroll
    for (int e = 0; e < N; ++e) dtokens[(id * packs + pack) * N + e] += sum[e];
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(256)
    position_gradient_kernel(const T* dout, Index batch, Index count, float* dpositions) {
  const Index i = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x;  // pack of a position
  if (i >= count) return;
  float sum[N] = {};
#pragma unroll 4
  for (Index b = 0; b < batch; ++b) {
    const Pack<T, N> value = load<N>(dout, b * count + i);
#pragma unroll
    for (int e = 0; e < N; ++e) sum[e] += value.get(e);
  }
#pragma unroll
  for (int e = 0; e < N; ++e) dpositions[i * N + e] += sum[e];
}

constexpr int kDigitBits = 8;
SlotKeys digit_keys(const std::int32_t* keys, Index rows, int shift) {
  return SlotKeys{keys, rows, 1, 1 << kDigitBits, shift, (1 << kDigitBits) - 1};
}

}  // namespace

cudaError_t launch_embedding(cudaStream_t stream, Real type, const std::int32_t* ids, const void* tokens,
                             const void* positions, Index sequence, void* out, Index rows, Index columns) {
  cudaError_t status = cudaSuccess;
  with_pack(type, columns % wide_count(type) == 0 && aligned16(tokens, positions, out), [&]<typename T, int N>() {
    const unsigned packs = static_cast<unsigned>(columns / N);
    const Embedding<T, N> op{
        ids,   static_cast<const T*>(tokens),  static_cast<const T*>(positions), static_cast<T*>(out),
        packs, static_cast<unsigned>(sequence)};
    status = launch_map<2>(stream, op, rows * packs);
  });
  return status;
}

/// Row of each key, counts, two orders, the keys in the present order, and the sort's own scratch.
Index embedding_backward_scratch(Index rows, Index) {
  return 4 * rows + (1 << kDigitBits) + slots_scratch(digit_keys(nullptr, rows, 0));
}

cudaError_t launch_embedding_backward(cudaStream_t stream, Real type, const std::int32_t* ids, const void* dout,
                                      Index sequence, float* dtokens, float* dpositions, std::int32_t* scratch,
                                      Index rows, Index columns, Index vocabulary) {
  if (rows == 0) return cudaSuccess;
  std::int32_t* row = scratch;
  std::int32_t* order[2] = {row + rows, row + 2 * rows};
  std::int32_t* keys = row + 3 * rows;
  std::int32_t* count = row + 4 * rows;
  std::int32_t* sort_scratch = count + (1 << kDigitBits);
  const unsigned blocks = static_cast<unsigned>(divide_up(rows, 256));
  int now = 0;
  bool sorted = false;
  for (int shift = 0; !sorted || (vocabulary - 1) >> shift > 0; shift += kDigitBits) {  // least significant digit first
    if (sorted) gather_kernel<<<blocks, 256, 0, stream>>>(ids, order[now], rows, keys);
    const SlotKeys digits = digit_keys(sorted ? keys : ids, rows, shift);
    const cudaError_t status = launch_slots(stream, digits, -1, sort_scratch, row, count, nullptr);
    if (status != cudaSuccess) return status;
    scatter_kernel<<<blocks, 256, 0, stream>>>(row, sorted ? order[now] : nullptr, rows, order[1 - now]);
    now = 1 - now;
    sorted = true;
  }
  gather_kernel<<<blocks, 256, 0, stream>>>(ids, order[now], rows, keys);
  with_pack(type, columns % wide_count(type) == 0 && aligned16(dout), [&]<typename T, int N>() {
    const Index packs = columns / N;
    const T* gradient = static_cast<const T*>(dout);
    const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(std::min<Index>(divide_up(packs, 128), 64)));
    token_gradient_kernel<T, N><<<grid, 128, 0, stream>>>(keys, order[now], gradient, rows, packs, dtokens);
    if (dpositions == nullptr) return;
    const Index count_of_packs = sequence * packs;
    position_gradient_kernel<T, N><<<static_cast<unsigned>(divide_up(count_of_packs, 256)), 256, 0, stream>>>(
        gradient, rows / sequence, count_of_packs, dpositions);
  });
  return cudaGetLastError();
}

}  // namespace moecast::cuda
