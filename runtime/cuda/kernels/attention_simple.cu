#include "runtime/cuda/kernels/common.cuh"

/// Causal attention for any dtype and head_dim up to 256, without tensor cores: a warp for each query (or key), scores
/// of 32 keys at a time, one in each lane; then every lane owns the head dimensions lane, lane + 32, ...
namespace moecast::cuda {
namespace {

constexpr int kMaxDim = 256;
constexpr int kLaneDims = kMaxDim / 32;
constexpr int kWarps = 4;

/// What one head of one sample reads: row pointers of q, k, v by position.
template <typename T>
struct Head {
  const T* q;
  const T* k;
  const T* v;
  Index stride;
};

template <typename T>
__device__ Head<T> head_of(const AttentionArguments& shape, const T* qkv, Index batch, int head) {
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const T* sample = qkv + batch * shape.sequence * shape.qkv_stride();
  return {sample + static_cast<Index>(head) * shape.head_dim,
          sample + static_cast<Index>(shape.heads + kv_head) * shape.head_dim,
          sample + static_cast<Index>(shape.heads + shape.kv_heads + kv_head) * shape.head_dim, shape.qkv_stride()};
}

template <typename T>
__device__ float dot(const T* a, const T* b, int count) {
  float sum = 0;
  for (int d = 0; d < count; ++d) sum += to_float(a[d]) * to_float(b[d]);
  return sum;
}

/// sum[i] += factor of each of the 32 lanes times dimension lane + 32 i of that lane's row (rows of 0 < count <= 32).
template <typename T>
__device__ void add_rows(float (&sum)[kLaneDims], float factor, const T* rows, Index stride, int count, int head_dim,
                         int lane) {
  for (int r = 0; r < count; ++r) {
    const float f = __shfl_sync(0xffffffffu, factor, r);
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      const int d = lane + 32 * i;
      if (d < head_dim) sum[i] += f * to_float(rows[r * stride + d]);
    }
  }
}

template <typename T>
__device__ void write_row(const float (&sum)[kLaneDims], float factor, T* row, int head_dim, int lane) {
#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    const int d = lane + 32 * i;
    if (d < head_dim) row[d] = from_float<T>(sum[i] * factor);
  }
}

template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    forward_kernel(const AttentionArguments shape, const T* qkv, T* out, float* log_sum_exp) {
  const int lane = static_cast<int>(threadIdx.x);
  const int query = static_cast<int>(blockIdx.x * kWarps + threadIdx.y);
  const int head = static_cast<int>(blockIdx.y);
  const Index batch = blockIdx.z;
  if (query >= shape.sequence) return;
  const Head<T> rows = head_of(shape, qkv, batch, head);
  const T* q = rows.q + query * rows.stride;
  float largest = -INFINITY;
  float total = 0;
  float sum[kLaneDims] = {};
  for (int first = 0; first <= query; first += 32) {
    const int count = min(32, query + 1 - first);
    const float score =
        lane < count ? shape.scale * dot(q, rows.k + (first + lane) * rows.stride, shape.head_dim) : -INFINITY;
    const float new_largest = fmaxf(largest, warp_max(score));
    const float correction = expf(largest - new_largest);
    const float p = expf(score - new_largest);
    largest = new_largest;
    total = total * correction + warp_sum(p);
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) sum[i] *= correction;
    add_rows(sum, p, rows.v + first * rows.stride, rows.stride, count, shape.head_dim, lane);
  }
  const Index token = batch * shape.sequence + query;
  write_row(sum, 1.0f / total, out + token * shape.out_stride() + static_cast<Index>(head) * shape.head_dim,
            shape.head_dim, lane);
  if (lane == 0) log_sum_exp[(batch * shape.heads + head) * shape.sequence + query] = largest + logf(total);
}

/// dq = scale * sum over keys of ds k, with p = exp(s - lse), ds = p (<dout, v> - delta).
template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    query_gradient_kernel(const AttentionArguments shape, const T* qkv, const float* log_sum_exp, const float* delta,
                          const T* dout, T* dqkv) {
  const int lane = static_cast<int>(threadIdx.x);
  const int query = static_cast<int>(blockIdx.x * kWarps + threadIdx.y);
  const int head = static_cast<int>(blockIdx.y);
  const Index batch = blockIdx.z;
  if (query >= shape.sequence) return;
  const Head<T> rows = head_of(shape, qkv, batch, head);
  const Index token = batch * shape.sequence + query;
  const T* q = rows.q + query * rows.stride;
  const T* dy = dout + token * shape.out_stride() + static_cast<Index>(head) * shape.head_dim;
  const Index statistic = (batch * shape.heads + head) * shape.sequence + query;
  float sum[kLaneDims] = {};
  for (int first = 0; first <= query; first += 32) {
    const int count = min(32, query + 1 - first);
    float ds = 0;
    if (lane < count) {
      const Index key = (first + lane) * rows.stride;
      const float p = expf(shape.scale * dot(q, rows.k + key, shape.head_dim) - log_sum_exp[statistic]);
      ds = p * (dot(dy, rows.v + key, shape.head_dim) - delta[statistic]);
    }
    add_rows(sum, ds, rows.k + first * rows.stride, rows.stride, count, shape.head_dim, lane);
  }
  write_row(sum, shape.scale, dqkv + token * rows.stride + static_cast<Index>(head) * shape.head_dim, shape.head_dim,
            lane);
}

/// dk = scale * sum over queries of ds q and dv = sum of p dout, over all query heads of the key's group.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    key_gradient_kernel(const AttentionArguments shape, const T* qkv, const float* log_sum_exp, const float* delta,
                        const T* dout, T* dqkv) {
  const int lane = static_cast<int>(threadIdx.x);
  const int key = static_cast<int>(blockIdx.x * kWarps + threadIdx.y);
  const int kv_head = static_cast<int>(blockIdx.y);
  const Index batch = blockIdx.z;
  if (key >= shape.sequence) return;
  const int group = shape.heads / shape.kv_heads;
  const Index stride = shape.qkv_stride();
  const int sequence = static_cast<int>(shape.sequence);
  float dk[kLaneDims] = {};
  float dv[kLaneDims] = {};
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const Head<T> rows = head_of(shape, qkv, batch, head);
    const T* dy = dout + batch * shape.sequence * shape.out_stride() + static_cast<Index>(head) * shape.head_dim;
    const Index statistics = (batch * shape.heads + head) * shape.sequence;
    for (int first = key; first < sequence; first += 32) {
      const int count = min(32, sequence - first);
      float p = 0;
      float ds = 0;
      if (lane < count) {
        const Index query = first + lane;
        const float score = shape.scale * dot(rows.q + query * stride, rows.k + key * stride, shape.head_dim);
        p = expf(score - log_sum_exp[statistics + query]);
        const float dp = dot(dy + query * shape.out_stride(), rows.v + key * stride, shape.head_dim);
        ds = p * (dp - delta[statistics + query]);
      }
      add_rows(dk, ds, rows.q + first * stride, stride, count, shape.head_dim, lane);
      add_rows(dv, p, dy + first * shape.out_stride(), shape.out_stride(), count, shape.head_dim, lane);
    }
  }
  T* row = dqkv + (batch * shape.sequence + key) * stride;
  write_row(dk, shape.scale, row + static_cast<Index>(shape.heads + kv_head) * shape.head_dim, shape.head_dim, lane);
  write_row(dv, 1.0f, row + static_cast<Index>(shape.heads + shape.kv_heads + kv_head) * shape.head_dim, shape.head_dim,
            lane);
}

/// One warp for each (token, head).
template <typename T>
__global__ void __launch_bounds__(128)
    delta_kernel(const AttentionArguments shape, const T* out, const T* dout, float* delta) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Index pair = static_cast<Index>(blockIdx.x) * 4 + threadIdx.x / 32;
  if (pair >= shape.batch * shape.sequence * shape.heads) return;
  const T* a = out + pair * shape.head_dim;
  const T* b = dout + pair * shape.head_dim;
  float sum = 0;
  for (int d = lane; d < shape.head_dim; d += 32) sum += to_float(a[d]) * to_float(b[d]);
  sum = warp_sum(sum);
  const Index token = pair / shape.heads;
  const Index batch = token / shape.sequence;
  if (lane == 0) {
    delta[(batch * shape.heads + pair % shape.heads) * shape.sequence + token % shape.sequence] = sum;
  }
}

dim3 warp_grid(const AttentionArguments& shape, int heads) {
  return dim3(static_cast<unsigned>(divide_up(shape.sequence, kWarps)), static_cast<unsigned>(heads),
              static_cast<unsigned>(shape.batch));
}

}  // namespace

cudaError_t launch_attention_delta(cudaStream_t stream, Real type, const AttentionArguments& shape, const void* out,
                                   const void* dout, float* delta) {
  const Index pairs = shape.batch * shape.sequence * shape.heads;
  if (pairs == 0) return cudaSuccess;
  with_real(type, [&]<typename T>() {
    delta_kernel<T><<<static_cast<unsigned>(divide_up(pairs, 4)), 128, 0, stream>>>(shape, static_cast<const T*>(out),
                                                                                    static_cast<const T*>(dout), delta);
  });
  return cudaGetLastError();
}

cudaError_t launch_attention_simple(cudaStream_t stream, Real type, const AttentionArguments& shape, const void* qkv,
                                    void* out, float* log_sum_exp) {
  if (shape.head_dim > kMaxDim) return cudaErrorInvalidValue;
  if (shape.batch * shape.sequence == 0) return cudaSuccess;
  with_real(type, [&]<typename T>() {
    forward_kernel<T><<<warp_grid(shape, shape.heads), dim3(32, kWarps), 0, stream>>>(
        shape, static_cast<const T*>(qkv), static_cast<T*>(out), log_sum_exp);
  });
  return cudaGetLastError();
}

cudaError_t launch_attention_simple_backward(cudaStream_t stream, Real type, const AttentionArguments& shape,
                                             const void* qkv, const float* log_sum_exp, const float* delta,
                                             const void* dout, void* dqkv) {
  if (shape.head_dim > kMaxDim) return cudaErrorInvalidValue;
  if (shape.batch * shape.sequence == 0) return cudaSuccess;
  with_real(type, [&]<typename T>() {
    const T* in = static_cast<const T*>(qkv);
    const T* dy = static_cast<const T*>(dout);
    T* dx = static_cast<T*>(dqkv);
    query_gradient_kernel<T>
        <<<warp_grid(shape, shape.heads), dim3(32, kWarps), 0, stream>>>(shape, in, log_sum_exp, delta, dy, dx);
    key_gradient_kernel<T>
        <<<warp_grid(shape, shape.kv_heads), dim3(32, kWarps), 0, stream>>>(shape, in, log_sum_exp, delta, dy, dx);
  });
  return cudaGetLastError();
}

}  // namespace moecast::cuda
