#include <cmath>

#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

template <typename T>
AttentionCall<T> sizes_of(const AttentionShape& shape) {
  ASSERT(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "{} heads, {} kv heads", shape.heads, shape.kv_heads);
  AttentionCall<T> call;
  call.batch = shape.batch;
  call.sequence = shape.sequence;
  call.heads = shape.heads;
  call.kv_heads = shape.kv_heads;
  call.head_dim = shape.head_dim;
  return call;
}

std::int64_t query_count(const AttentionShape& shape) {
  return shape.batch * shape.sequence * shape.heads * shape.head_dim;
}

std::int64_t qkv_count(const AttentionShape& shape) {
  return shape.batch * shape.sequence * (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
}

template <typename T>
AttentionCall<T> attention_call(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                                const Tensor& log_sum_exp) {
  AttentionCall<T> call = sizes_of<T>(shape);
  call.qkv = elements<T>(qkv, qkv_count(shape));
  call.out = elements<T>(out, query_count(shape));
  call.log_sum_exp = elements<T>(log_sum_exp, shape.batch * shape.sequence * shape.heads);
  return call;
}

/// Angle of position p and pair i: p * theta^(-2 i / head_dim) (Su et al., arXiv 2104.09864, equation 15).
template <typename T>
RopeTable<T> make_rope_table(const AttentionShape& shape, double theta) {
  RopeTable<T> table;
  table.theta = theta;
  table.sequence = shape.sequence;
  table.head_dim = shape.head_dim;
  for (std::int64_t position = 0; position < shape.sequence; ++position) {
    for (std::int64_t i = 0; i < shape.head_dim / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim);
      const double angle = static_cast<double>(position) * std::pow(theta, exponent);
      table.cosine.push_back(static_cast<T>(std::cos(angle)));
      table.sine.push_back(static_cast<T>(std::sin(angle)));
    }
  }
  return table;
}

}  // namespace

template <typename T>
const RopeTable<T>& CpuBackend::rope_table(Lane lane, const AttentionShape& shape, double theta) {
  LaneState& state = lanes_[static_cast<std::size_t>(lane)];
  RopeTable<T>* table = nullptr;
  if constexpr (sizeof(T) == sizeof(float)) {
    table = &state.rope_f32;
  } else {
    table = &state.rope_f64;
  }
  const bool fits = table->theta == theta && table->sequence >= shape.sequence && table->head_dim == shape.head_dim;
  if (!fits) *table = make_rope_table<T>(shape, theta);
  return *table;
}

void CpuBackend::attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) {
  with_scalar(qkv.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.attention(attention_call<T>(shape, qkv, out, log_sum_exp), scratch(lane));
  });
}

void CpuBackend::attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                                    Tensor dout, Tensor dqkv) {
  with_scalar(qkv.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    kernels.attention_backward(attention_call<T>(shape, qkv, out, log_sum_exp), elements<T>(dout, query_count(shape)),
                               elements<T>(dqkv, qkv_count(shape)), scratch(lane));
  });
}

void CpuBackend::rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) {
  ASSERT(shape.head_dim % 2 == 0, "rotary embedding needs an even head size, not {}", shape.head_dim);
  with_scalar(qkv.dtype, [&]<typename T>(const Kernels<T>& kernels) {
    const RopeTable<T>& table = rope_table<T>(lane, shape, theta);
    kernels.rope(sizes_of<T>(shape), table.cosine.data(), table.sine.data(), elements<T>(qkv, qkv_count(shape)),
                 inverse);
  });
}

}  // namespace moecast::cpu
