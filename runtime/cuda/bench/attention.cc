#include <fmt/core.h>

#include "runtime/cuda/bench/bench.h"

namespace moecast::cuda {

void bench_attention(Bench& bench) {
  bench.table().heading("causal attention, BF16 (half the score matrix counted; backward 2.5 x forward) against gemm");
  CudaBackend& backend = bench.backend();
  constexpr Lane lane = Bench::kLane;
  const AttentionShape shapes[] = {{8, 2048, 16, 16, 64},
                                   {4, 4096, 16, 16, 128},
                                   {1, 16384, 16, 16, 128},
                                   {4, 4096, 32, 8, 128},
                                   {16, 1024, 16, 16, 64}};
  for (const AttentionShape& shape : shapes) {
    const Index tokens = shape.batch * shape.sequence;
    const Index width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const Tensor qkv = bench.random(DType::BF16, {tokens, width});
    const Tensor dqkv = bench.random(DType::BF16, {tokens, width});
    const Tensor out = bench.random(DType::BF16, {tokens, shape.heads * shape.head_dim});
    const Tensor dout = bench.random(DType::BF16, {tokens, shape.heads * shape.head_dim});
    const Tensor lse = bench.empty(DType::F32, {shape.batch, shape.heads, shape.sequence});
    const double flops = 2.0 * static_cast<double>(shape.batch * shape.heads * shape.head_dim) *
                         static_cast<double>(shape.sequence) * static_cast<double>(shape.sequence);
    const std::string text =
        fmt::format("b{} s{} h{}/{} d{}", shape.batch, shape.sequence, shape.heads, shape.kv_heads, shape.head_dim);
    const double limit = bench.flops_per_second * 1e-12;
    const double forward = bench.seconds([&] { backend.attention(lane, shape, qkv, out, lse); });
    bench.table().add({"attention", text, forward, flops / forward * 1e-12, "TFLOP/s", limit, "gemm", 0});
    const double backward = bench.seconds([&] { backend.attention_backward(lane, shape, qkv, out, lse, dout, dqkv); });
    bench.table().add(
        {"attention backward", text, backward, 2.5 * flops / backward * 1e-12, "TFLOP/s", limit, "gemm", 0});
    bench.release();
  }
}

}  // namespace moecast::cuda
