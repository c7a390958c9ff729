#include <cmath>

#include "runtime/cuda/cuda_backend.h"
#include "runtime/cuda/tensor_data.h"

namespace moecast::cuda {
namespace {

AttentionArguments arguments_of(const AttentionShape& shape) {
  ASSERT(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "{} heads, {} key heads", shape.heads,
         shape.kv_heads);
  AttentionArguments arguments;
  arguments.batch = shape.batch;
  arguments.sequence = shape.sequence;
  arguments.heads = static_cast<int>(shape.heads);
  arguments.kv_heads = static_cast<int>(shape.kv_heads);
  arguments.head_dim = static_cast<int>(shape.head_dim);
  arguments.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  return arguments;
}

}  // namespace

void CudaBackend::attention(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp) {
  const AttentionArguments arguments = arguments_of(shape);
  const Index tokens = shape.batch * shape.sequence;
  const void* in = data(qkv, tokens * arguments.qkv_stride());
  void* y = data_like(out, qkv, tokens * arguments.out_stride());
  float* lse = floats(log_sum_exp, tokens * shape.heads);
  cudaStream_t stream = select(lane).stream;
  if (attention_tiles_fit(real(qkv), arguments, in, y)) {
    note(launch_attention_tiles(stream, arguments, in, y, lse), "attention");
  } else {
    note(launch_attention_simple(stream, real(qkv), arguments, in, y, lse), "attention");
  }
}

void CudaBackend::attention_backward(Lane lane, const AttentionShape& shape, Tensor qkv, Tensor out, Tensor log_sum_exp,
                                     Tensor dout, Tensor dqkv) {
  const AttentionArguments arguments = arguments_of(shape);
  const Index tokens = shape.batch * shape.sequence;
  const void* in = data(qkv, tokens * arguments.qkv_stride());
  const void* y = data_like(out, qkv, tokens * arguments.out_stride());
  const void* dy = data_like(dout, qkv, tokens * arguments.out_stride());
  void* dx = data_like(dqkv, qkv, tokens * arguments.qkv_stride());
  const float* lse = floats(log_sum_exp, tokens * shape.heads);
  LaneState& state = select(lane);
  float* delta = scratch<float>(state, tokens * shape.heads);
  if (delta == nullptr) return;
  note(launch_attention_delta(state.stream, real(qkv), arguments, y, dy, delta), "attention_backward");
  if (attention_tiles_fit(real(qkv), arguments, in, dy) && attention_tiles_fit(real(qkv), arguments, dx, dy)) {
    note(launch_attention_tiles_backward(state.stream, arguments, in, lse, delta, dy, dx), "attention_backward");
  } else {
    note(launch_attention_simple_backward(state.stream, real(qkv), arguments, in, lse, delta, dy, dx),
         "attention_backward");
  }
}

const void* CudaBackend::rope_table(LaneState& lane, double theta, Index sequence, Index head_dim) {
  RopeTable& table = lane.rope;
  const Result<void*> memory = table.memory.reserve(sequence * head_dim / 2 * 8);
  if (!memory.ok()) {
    note(Status(memory.error()));
    return nullptr;
  }
  if (table.theta != theta || table.sequence != sequence || table.head_dim != head_dim) {
    note(launch_rope_table(lane.stream, theta, sequence, head_dim, *memory), "rope");
    table.theta = theta;
    table.sequence = sequence;
    table.head_dim = head_dim;
  }
  return *memory;
}

void CudaBackend::rope(Lane lane, const AttentionShape& shape, double theta, Tensor qkv, bool inverse) {
  const AttentionArguments arguments = arguments_of(shape);
  ASSERT(shape.head_dim % 2 == 0, "head_dim {} is odd", shape.head_dim);
  const Index tokens = shape.batch * shape.sequence;
  void* in = data(qkv, tokens * arguments.qkv_stride());
  LaneState& state = select(lane);
  const void* table = rope_table(state, theta, shape.sequence, shape.head_dim);
  if (table == nullptr) return;
  note(launch_rope(state.stream, real(qkv), table, in, tokens, shape.sequence, shape.heads + shape.kv_heads,
                   arguments.qkv_stride(), shape.head_dim, inverse),
       "rope");
}

}  // namespace moecast::cuda
