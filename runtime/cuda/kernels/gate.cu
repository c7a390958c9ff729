#include <climits>

#include "runtime/cuda/kernels/common.cuh"

/// Softmax, top-k and the balance loss of the gate; slots.cu places the tokens. One warp for each token.
namespace moecast::cuda {
namespace {

constexpr int kTokens = 4;  // warps of a block

/// The better of two candidates: larger value, then lower expert. Expert INT_MAX is none.
__device__ __forceinline__ bool better(float value, int expert, float than, int than_expert) {
  if (expert == INT_MAX || than_expert == INT_MAX) return than_expert == INT_MAX;
  return value > than || (value == than && expert < than_expert);
}

/// Index of the largest value that is not taken, by the whole warp. NaN loses against everything but "none".
__device__ int warp_argmax(const float* values, const unsigned* taken, int experts, int lane) {
  float best = 0;
  int expert = INT_MAX;
  for (int e = lane; e < experts; e += 32) {
    const bool free = (taken[e / 32] >> (e % 32) & 1u) == 0;
    if (free && (expert == INT_MAX || values[e] > best)) {
      best = values[e];
      expert = e;
    }
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, best, mask);
    const int other_expert = __shfl_xor_sync(0xffffffffu, expert, mask);
    if (other_expert != INT_MAX && better(other, other_expert, best, expert)) {
      best = other;
      expert = other_expert;
    }
  }
  return __shfl_sync(0xffffffffu, expert, 0);
}

__global__ void __launch_bounds__(32 * kTokens)
    choose_kernel(const GateArguments gate, const float* logits, float* scores, std::int32_t* expert, float* weight) {
  extern __shared__ float shared[];  // for each warp: [experts] values and a bit for each expert
  const int lane = static_cast<int>(threadIdx.x);
  const int words = (gate.experts + 31) / 32;
  float* value = shared + threadIdx.y * (gate.experts + words);
  unsigned* taken = reinterpret_cast<unsigned*>(value + gate.experts);
  const Index token = static_cast<Index>(blockIdx.x) * kTokens + threadIdx.y;
  if (token >= gate.tokens) return;
  const float* x = logits + token * gate.experts;
  float largest = -INFINITY;
  for (int e = lane; e < gate.experts; e += 32) {
    value[e] = x[e];
    largest = fmaxf(largest, value[e]);
  }
  for (int w = lane; w < words; w += 32) taken[w] = 0;
  largest = warp_max(largest);
  float sum = 0;
  for (int e = lane; e < gate.experts; e += 32) sum += expf(value[e] - largest);
  sum = warp_sum(sum);
  for (int e = lane; e < gate.experts; e += 32) {
    const float score = expf(value[e] - largest) / sum;
    scores[token * gate.experts + e] = score;
    if (!gate.top_k_softmax) value[e] = score;
  }
  __syncwarp();
  float total = 0;
  float first = 0;  // the largest chosen logit: subtracted before exp
  for (int j = 0; j < gate.top_k; ++j) {
    const int chosen = warp_argmax(value, taken, gate.experts, lane);
    __syncwarp();
    const float v = value[chosen];
    if (j == 0) first = v;
    total += gate.top_k_softmax ? expf(v - first) : v;
    if (lane == 0) {
      taken[chosen / 32] |= 1u << (chosen % 32);
      expert[token * gate.top_k + j] = chosen;
      weight[token * gate.top_k + j] = v;
    }
    __syncwarp();
  }
  if (lane != 0) return;
  for (int j = 0; j < gate.top_k; ++j) {
    float& w = weight[token * gate.top_k + j];
    if (gate.top_k_softmax) {
      w = expf(w - first) / total;
    } else if (gate.renormalize) {
      w /= total;
    }
  }
}

constexpr int kBalanceTokens = 256;  // rows of one partial sum

/// partial [chunks][experts] = sums of the scores of kBalanceTokens tokens.
__global__ void __launch_bounds__(256)
    score_sum_kernel(const float* scores, Index tokens, int experts, float* partial) {
  __shared__ float sums[8][33];
  const int e = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
  const Index first = static_cast<Index>(blockIdx.y) * kBalanceTokens;
  float sum = 0;
  if (e < experts) {
#pragma unroll 8
    for (int i = static_cast<int>(threadIdx.y); i < kBalanceTokens; i += 8) {
      if (first + i < tokens) sum += scores[(first + i) * experts + e];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || e >= experts) return;
#pragma unroll
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  partial[static_cast<Index>(blockIdx.y) * experts + e] = sum;
}

/// E sum_e f_e P_e with f_e the share of first choices and P_e the mean score (Fedus, Zoph & Shazeer, arXiv
/// 2101.03961, equations 4 to 6). One block.
__global__ void __launch_bounds__(256) balance_kernel(const float* partial, Index chunks, Index tokens, int experts,
                                                      const std::int32_t* first_count, float* loss) {
  __shared__ double sums[256];
  double sum = 0;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += 256) {
    double scores = 0;
#pragma unroll 8
    for (Index c = 0; c < chunks; ++c) scores += partial[c * experts + e];
    sum += scores * first_count[e];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < 256; ++i) sum += sums[i];
  const double t = static_cast<double>(tokens);
  *loss = tokens == 0 ? 0.0f : static_cast<float>(sum * experts / (t * t));
}

__global__ void __launch_bounds__(256)
    first_choices_kernel(const std::int32_t* expert, Index tokens, int top_k, int experts, std::int32_t* first_count) {
  extern __shared__ int counts[];  // [experts]
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += 256) counts[e] = 0;
  __syncthreads();
  for (Index t = static_cast<Index>(blockIdx.x) * 256 + threadIdx.x; t < tokens; t += gridDim.x * 256) {
    atomicAdd(&counts[expert[t * top_k]], 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += 256) {
    if (counts[e] != 0) atomicAdd(&first_count[e], counts[e]);  // integers: any order, the same sum
  }
}

/// The chosen weights w are s / sum(s), s or softmax(logits): the first and last need dw - <dw, w>; then the softmax
/// over all experts, whose output also carries the balance loss.
__global__ void __launch_bounds__(32 * kTokens)
    gate_backward_kernel(const GateArguments gate, const float* scores, const std::int32_t* expert, const float* weight,
                         const float* dweight, const std::int32_t* first_count, float balance, float* dlogits) {
  extern __shared__ float shared[];  // [experts] for each warp: d loss / d scores
  const int lane = static_cast<int>(threadIdx.x);
  float* dscore = shared + threadIdx.y * gate.experts;
  const Index token = static_cast<Index>(blockIdx.x) * kTokens + threadIdx.y;
  if (token >= gate.tokens) return;
  const float* s = scores + token * gate.experts;
  const std::int32_t* chosen = expert + token * gate.top_k;
  const float* w = weight + token * gate.top_k;
  const float* dw = dweight + token * gate.top_k;
  for (int e = lane; e < gate.experts; e += 32) dscore[e] = balance * static_cast<float>(first_count[e]);
  float mean = 0;
  float chosen_sum = 0;
  for (int j = lane; j < gate.top_k; j += 32) {
    mean += dw[j] * w[j];
    chosen_sum += s[chosen[j]];
  }
  const bool normalised = gate.top_k_softmax || gate.renormalize;
  mean = normalised ? warp_sum(mean) : 0.0f;
  const float divisor = normalised ? warp_sum(chosen_sum) : 1.0f;
  __syncwarp();
  if (!gate.top_k_softmax) {
    for (int j = lane; j < gate.top_k; j += 32) dscore[chosen[j]] += (dw[j] - mean) / divisor;
  }
  __syncwarp();
  float inner = 0;
  for (int e = lane; e < gate.experts; e += 32) inner += dscore[e] * s[e];
  inner = warp_sum(inner);
  for (int e = lane; e < gate.experts; e += 32) dscore[e] = s[e] * (dscore[e] - inner);
  __syncwarp();
  if (gate.top_k_softmax) {
    for (int j = lane; j < gate.top_k; j += 32) dscore[chosen[j]] += w[j] * (dw[j] - mean);
  }
  __syncwarp();
  for (int e = lane; e < gate.experts; e += 32) dlogits[token * gate.experts + e] = dscore[e];
}

unsigned token_blocks(const GateArguments& gate) { return static_cast<unsigned>(divide_up(gate.tokens, kTokens)); }

/// Shared memory beyond 48 KiB has to be asked for.
template <typename Kernel>
cudaError_t allow_shared(Kernel kernel, unsigned bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace

cudaError_t launch_gate_choose(cudaStream_t stream, const GateArguments& gate, const float* logits, float* scores,
                               std::int32_t* expert, float* weight) {
  if (gate.tokens == 0) return cudaSuccess;
  const unsigned bytes = kTokens * static_cast<unsigned>(gate.experts + (gate.experts + 31) / 32) * 4;
  if (const cudaError_t status = allow_shared(choose_kernel, bytes); status != cudaSuccess) return status;
  choose_kernel<<<token_blocks(gate), dim3(32, kTokens), bytes, stream>>>(gate, logits, scores, expert, weight);
  return cudaGetLastError();
}

Index gate_balance_scratch(const GateArguments& gate) { return divide_up(gate.tokens, kBalanceTokens) * gate.experts; }

cudaError_t launch_gate_balance(cudaStream_t stream, const GateArguments& gate, const float* scores,
                                const std::int32_t* first_count, float* scratch, float* balance_loss) {
  const Index chunks = divide_up(gate.tokens, kBalanceTokens);
  if (chunks > 0) {
    const dim3 grid(static_cast<unsigned>(divide_up(gate.experts, 32)), static_cast<unsigned>(chunks));
    score_sum_kernel<<<grid, dim3(32, 8), 0, stream>>>(scores, gate.tokens, gate.experts, scratch);
  }
  balance_kernel<<<1, 256, 0, stream>>>(scratch, chunks, gate.tokens, gate.experts, first_count, balance_loss);
  return cudaGetLastError();
}

cudaError_t launch_first_choices(cudaStream_t stream, const GateArguments& gate, const std::int32_t* expert,
                                 std::int32_t* first_count) {
  const std::size_t bytes = static_cast<std::size_t>(gate.experts) * 4;
  if (const cudaError_t status = cudaMemsetAsync(first_count, 0, bytes, stream); status != cudaSuccess) return status;
  if (gate.tokens == 0) return cudaSuccess;
  const unsigned blocks = static_cast<unsigned>(divide_up(gate.tokens, 256 * 8));
  first_choices_kernel<<<blocks, 256, bytes, stream>>>(expert, gate.tokens, gate.top_k, gate.experts, first_count);
  return cudaGetLastError();
}

cudaError_t launch_gate_backward(cudaStream_t stream, const GateArguments& gate, const float* scores,
                                 const std::int32_t* expert, const float* weight, const float* dweight,
                                 const std::int32_t* first_count, float balance_scale, float* dlogits) {
  if (gate.tokens == 0) return cudaSuccess;
  const unsigned bytes = kTokens * static_cast<unsigned>(gate.experts) * 4;
  if (const cudaError_t status = allow_shared(gate_backward_kernel, bytes); status != cudaSuccess) return status;
  const double tokens = static_cast<double>(gate.tokens);
  const float balance = static_cast<float>(balance_scale * gate.experts / (tokens * tokens));
  gate_backward_kernel<<<token_blocks(gate), dim3(32, kTokens), bytes, stream>>>(gate, scores, expert, weight, dweight,
                                                                                 first_count, balance, dlogits);
  return cudaGetLastError();
}

}  // namespace moecast::cuda
