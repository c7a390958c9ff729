#include <fmt/core.h>

#include <array>

#include "runtime/cuda/bench/bench.h"

namespace moecast::cuda {
namespace {

constexpr Lane kLane = Bench::kLane;

/// One dropless MoE layer on one GPU, forward and backward: router, gate, permute, expert FFN (GELU, no bias), combine.
/// bench/torch_compare.py times the same layer in eager PyTorch.
struct MoeLayer {
  MoeLayer(CudaBackend& device, Index expert_count, Index choices)
      : backend(device), experts(expert_count), rule{RouterKind::SoftmaxTopK, choices, true} {}

  CudaBackend& backend;
  Index experts;
  GateRule rule;
  Tensor x, dx, wg, dwg, logits, bf16_logits, dlogits, w1, w2, dw1, dw2, permuted, pre, hidden, rows, out, dout, drows,
      dhidden, dpre, dpermuted, dweight;
  GateTensors gate;
  std::unique_ptr<DeviceMemory> host_counts;
  std::vector<Index> offsets;

  void forward() {
    backend.gemm(kLane, false, false, x, wg, logits, false);
    backend.gate(kLane, rule, std::nullopt, {logits}, gate);
    backend.download(kLane, host_counts->data(), gate.count);
    backend.permute(kLane, x, gate.row, permuted);
    backend.synchronize(kLane);  // dropless: the row counts shape the products
    offsets.assign(1, 0);
    const std::int32_t* counts = static_cast<const std::int32_t*>(host_counts->data());
    for (Index e = 0; e < experts; ++e) offsets.push_back(offsets.back() + counts[e]);
    backend.grouped_gemm(kLane, permuted, w1, false, offsets, pre);
    backend.activation(kLane, Activation::Gelu, pre, hidden);
    backend.grouped_gemm(kLane, hidden, w2, false, offsets, rows);
    backend.unpermute(kLane, rows, gate.row, gate.weight, out, false);
  }
  void backward() {
    backend.unpermute_backward(kLane, dout, rows, gate.row, gate.weight, drows, dweight);
    backend.grouped_gemm(kLane, drows, w2, true, offsets, dhidden);
    backend.grouped_gemm_weight(kLane, hidden, drows, offsets, dw2);
    backend.activation_backward(kLane, Activation::Gelu, pre, dhidden, dpre);
    backend.grouped_gemm(kLane, dpre, w1, true, offsets, dpermuted);
    backend.grouped_gemm_weight(kLane, permuted, dpre, offsets, dw1);
    backend.permute_backward(kLane, dpermuted, gate.row, dx, false);
    backend.gate_backward(kLane, rule, {logits}, gate, {0.01}, {dweight, {}, dlogits});
    backend.cast(kLane, bf16_logits, dlogits);
    backend.gemm(kLane, false, true, bf16_logits, wg, dx, true);
    backend.gemm(kLane, true, false, x, bf16_logits, dwg, true);
  }
};

MoeLayer make_layer(Bench& bench, Index tokens, Index d, Index f, Index experts, Index k) {
  MoeLayer layer(bench.backend(), experts, k);
  const Index rows = tokens * k;
  const auto bf16 = [&](std::initializer_list<std::int64_t> shape) { return bench.random(DType::BF16, shape); };
  const auto f32 = [&](std::initializer_list<std::int64_t> shape) { return bench.random(DType::F32, shape); };
  layer.x = bf16({tokens, d});
  layer.dx = bf16({tokens, d});
  layer.wg = bf16({d, experts});
  layer.dwg = f32({d, experts});
  layer.logits = f32({tokens, experts});
  layer.bf16_logits = bf16({tokens, experts});
  layer.dlogits = f32({tokens, experts});
  layer.w1 = bf16({experts, d, f});
  layer.w2 = bf16({experts, f, d});
  layer.dw1 = f32({experts, d, f});
  layer.dw2 = f32({experts, f, d});
  layer.permuted = bf16({rows, d});
  layer.pre = bf16({rows, f});
  layer.hidden = bf16({rows, f});
  layer.rows = bf16({rows, d});
  layer.out = bf16({tokens, d});
  layer.dout = bf16({tokens, d});
  layer.drows = bf16({rows, d});
  layer.dhidden = bf16({rows, f});
  layer.dpre = bf16({rows, f});
  layer.dpermuted = bf16({rows, d});
  layer.dweight = f32({tokens, k});
  layer.gate.scores = f32({tokens, experts});
  layer.gate.expert = bench.empty(DType::I32, {tokens, k});
  layer.gate.weight = f32({tokens, k});
  layer.gate.row = bench.empty(DType::I32, {tokens, k});
  layer.gate.count = bench.empty(DType::I32, {experts});
  layer.gate.balance_loss = f32({1});
  auto host = bench.backend().allocate_host(layer.gate.count.bytes());
  ASSERT(host.ok(), "{}", host.error().text());
  layer.host_counts = std::move(host).value();
  return layer;
}

}  // namespace

void bench_moe_layer(Bench& bench) {
  bench.table().heading("dropless MoE layer, forward + backward (useful operations of the experts) against gemm");
  constexpr std::array<std::array<Index, 5>, 3> shapes = {
      {{8192, 2048, 8192, 8, 2}, {16384, 2048, 1024, 64, 8}, {8192, 1024, 4096, 8, 2}}};
  for (const auto& [tokens, d, f, experts, k] : shapes) {
    MoeLayer layer = make_layer(bench, tokens, d, f, experts, k);
    const std::string text = fmt::format("T{} d{} f{} E{} k{}", tokens, d, f, experts, k);
    const double flops =
        4.0 * static_cast<double>(tokens * k) * static_cast<double>(d) * static_cast<double>(f);  // forward
    const double limit = bench.flops_per_second * 1e-12;
    const double forward = bench.seconds([&] { layer.forward(); });
    bench.table().add({"moe forward", text, forward, flops / forward * 1e-12, "TFLOP/s", limit, "gemm", 0});
    const double both = bench.seconds([&] {
      layer.forward();
      layer.backward();
    });
    bench.table().add({"moe forward+backward", text, both, 3 * flops / both * 1e-12, "TFLOP/s", limit, "gemm", 0});
    bench.release();
  }
}

}  // namespace moecast::cuda
