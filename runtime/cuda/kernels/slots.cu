#include "runtime/cuda/kernels/common.cuh"

/// Stable counting sort: count the keys of each chunk, scan the chunks of each bin, then rank the keys of each chunk.
/// It places tokens in expert slots (first choices first, then token order: GShard, arXiv 2006.16668, algorithm 1) and
/// sorts token ids for the embedding gradient.
namespace moecast::cuda {
namespace {

constexpr int kChunk = 256;  // keys of a block, all of one choice
constexpr int kWarps = kChunk / 32;

__device__ __forceinline__ int key_at(const SlotKeys& keys, int choice, Index item) {
  return (keys.keys[item * keys.choices + choice] >> keys.shift) & keys.mask;
}

Index chunks_per_choice(const SlotKeys& keys) { return divide_up(keys.items, kChunk); }

/// chunk_count [bins][chunks]
__global__ void __launch_bounds__(kChunk) count_kernel(const SlotKeys keys, Index chunks, std::int32_t* chunk_count) {
  extern __shared__ int counts[];  // [bins]
  for (int b = static_cast<int>(threadIdx.x); b < keys.bins; b += kChunk) counts[b] = 0;
  __syncthreads();
  const Index per_choice = chunks / keys.choices;
  const Index item = blockIdx.x % per_choice * kChunk + threadIdx.x;
  if (item < keys.items) atomicAdd(&counts[key_at(keys, static_cast<int>(blockIdx.x / per_choice), item)], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < keys.bins; b += kChunk) {
    chunk_count[b * chunks + blockIdx.x] = counts[b];
  }
}

/// One block for each bin: chunk counts become the keys of the bin before the chunk.
__global__ void __launch_bounds__(256) scan_kernel(const SlotKeys keys, Index chunks, std::int32_t* chunk_count,
                                                   std::int32_t* count, std::int32_t* first_count) {
  __shared__ int warp_total[8];
  std::int32_t* counts = chunk_count + blockIdx.x * chunks;
  const Index per_choice = chunks / keys.choices;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  int before = 0;
  for (Index first = 0; first < chunks; first += 256) {
    const Index i = first + threadIdx.x;
    const int mine = i < chunks ? counts[i] : 0;
    int sum = mine;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (lane == 31) warp_total[warp] = sum;
    __syncthreads();
    int total = 0;
    int earlier = 0;
#pragma unroll
    for (int w = 0; w < 8; ++w) {
      if (w < warp) earlier += warp_total[w];
      total += warp_total[w];
    }
    const int inclusive = before + earlier + sum;
    if (i < chunks) counts[i] = inclusive - mine;
    if (i == per_choice - 1 && first_count != nullptr) first_count[blockIdx.x] = inclusive;
    before += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) count[blockIdx.x] = before;
}

__global__ void __launch_bounds__(kChunk)
    rank_kernel(const SlotKeys keys, Index chunks, Index capacity, const std::int32_t* chunk_count,
                const std::int32_t* count, std::int32_t* row) {
  extern __shared__ int shared[];
  int* warp_count = shared;                 // [kWarps][bins]
  int* base = shared + kWarps * keys.bins;  // [bins]: first row of the bin (dropless only)
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < kWarps * keys.bins; i += kChunk) warp_count[i] = 0;
  if (capacity < 0 && warp == 0) {  // exclusive scan of the bins, 32 at a time
    int before = 0;
    for (int first = 0; first < keys.bins; first += 32) {
      const int mine = first + lane < keys.bins ? count[first + lane] : 0;
      int sum = mine;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, offset);
        if (lane >= offset) sum += other;
      }
      if (first + lane < keys.bins) base[first + lane] = before + sum - mine;
      before += __shfl_sync(0xffffffffu, sum, 31);
    }
  }
  __syncthreads();
  const Index per_choice = chunks / keys.choices;
  const int choice = static_cast<int>(blockIdx.x / per_choice);
  const Index item = blockIdx.x % per_choice * kChunk + threadIdx.x;
  const bool live = item < keys.items;
  const int key = live ? key_at(keys, choice, item) : -1;
  const unsigned same = __match_any_sync(0xffffffffu, key);
  const int rank_in_warp = __popc(same & ((1u << lane) - 1u));
  if (live && rank_in_warp == 0) warp_count[warp * keys.bins + key] = __popc(same);
  __syncthreads();
  if (!live) return;
  int slot = chunk_count[key * chunks + blockIdx.x] + rank_in_warp;
  for (int w = 0; w < warp; ++w) slot += warp_count[w * keys.bins + key];
  Index out = capacity < 0 ? base[key] + slot : key * capacity + slot;
  if (capacity >= 0 && slot >= capacity) out = -1;
  row[item * keys.choices + choice] = static_cast<std::int32_t>(out);
}

}  // namespace

Index slots_scratch(const SlotKeys& keys) { return keys.choices * chunks_per_choice(keys) * keys.bins; }

cudaError_t launch_slots(cudaStream_t stream, const SlotKeys& keys, Index capacity, std::int32_t* scratch,
                         std::int32_t* row, std::int32_t* count, std::int32_t* first_count) {
  const Index chunks = keys.choices * chunks_per_choice(keys);
  if (chunks == 0) {
    cudaError_t status = cudaMemsetAsync(count, 0, static_cast<std::size_t>(keys.bins) * 4, stream);
    if (status == cudaSuccess && first_count != nullptr) {
      status = cudaMemsetAsync(first_count, 0, static_cast<std::size_t>(keys.bins) * 4, stream);
    }
    return status;
  }
  const unsigned bin_bytes = static_cast<unsigned>(keys.bins) * 4;
  const unsigned rank_bytes = (kWarps + 1) * bin_bytes;
  if (rank_bytes > 48 * 1024) {  // more than 1,365 bins
    const cudaError_t status =
        cudaFuncSetAttribute(rank_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(rank_bytes));
    if (status != cudaSuccess) return status;
  }
  const unsigned grid = static_cast<unsigned>(chunks);
  count_kernel<<<grid, kChunk, bin_bytes, stream>>>(keys, chunks, scratch);
  scan_kernel<<<static_cast<unsigned>(keys.bins), 256, 0, stream>>>(keys, chunks, scratch, count, first_count);
  rank_kernel<<<grid, kChunk, rank_bytes, stream>>>(keys, chunks, capacity, scratch, count, row);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
