#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "runtime/cuda/bench/bench.h"

namespace moecast::cuda {
namespace {

constexpr Lane kLane = Bench::kLane;
constexpr Index kTokens = 16384;
constexpr Index kWidth = 4096;  // 128 MiB a tensor: far beyond the L2 cache

/// `bytes`: what the operator must move at least, each input and output once.
void report(Bench& bench, const char* name, const std::string& shape, double bytes, double wanted,
            const std::function<void()>& call) {
  const double seconds = bench.seconds(call);
  bench.table().add(
      {name, shape, seconds, bytes / seconds * 1e-9, "GB/s", bench.copy_bytes_per_second * 1e-9, "copy", wanted});
}

void bench_norms(Bench& bench) {
  CudaBackend& backend = bench.backend();
  for (const Index d : {2048, 4096}) {
    const Index rows = kTokens * kWidth / d;
    const Tensor x = bench.random(DType::BF16, {rows, d});
    const Tensor y = bench.random(DType::BF16, {rows, d});
    const Tensor dx = bench.random(DType::BF16, {rows, d});
    const Tensor gain = bench.random(DType::BF16, {d});
    const Tensor bias = bench.random(DType::BF16, {d});
    const Tensor mean = bench.empty(DType::F32, {rows});
    const Tensor rstd = bench.empty(DType::F32, {rows});
    const Tensor dgain = bench.random(DType::F32, {d});
    const Tensor dbias = bench.random(DType::F32, {d});
    const double tensor = x.bytes().value();
    const std::string shape = fmt::format("[{},{}]", rows, d);
    report(bench, "layer norm", shape, 2 * tensor, 0.8,
           [&] { backend.norm(kLane, NormKind::LayerNorm, x, gain, bias, 1e-5, y, mean, rstd); });
    report(bench, "rms norm", shape, 2 * tensor, 0.8,
           [&] { backend.norm(kLane, NormKind::RmsNorm, x, gain, {}, 1e-5, y, {}, rstd); });
    report(bench, "layer norm backward", shape, 3 * tensor, 0.8,
           [&] { backend.norm_backward(kLane, NormKind::LayerNorm, y, x, gain, mean, rstd, dx, false, dgain, dbias); });
    report(bench, "rms norm backward +=", shape, 4 * tensor, 0.8,
           [&] { backend.norm_backward(kLane, NormKind::RmsNorm, y, x, gain, {}, rstd, dx, true, dgain, {}); });
    bench.release();
  }
}

void bench_permutation(Bench& bench) {
  CudaBackend& backend = bench.backend();
  for (const Index choices : {2, 8}) {
    const Index tokens = kTokens * 2 / choices;
    const Index rows = tokens * choices;
    std::vector<std::int32_t> target(static_cast<std::size_t>(rows));
    std::iota(target.begin(), target.end(), 0);
    std::shuffle(target.begin(), target.end(), std::mt19937(5));
    const Tensor row = bench.integers({tokens, choices}, target);
    const Tensor x = bench.random(DType::BF16, {tokens, kWidth});
    const Tensor y = bench.random(DType::BF16, {tokens, kWidth});
    const Tensor permuted = bench.random(DType::BF16, {rows, kWidth});
    const Tensor drows = bench.random(DType::BF16, {rows, kWidth});
    const Tensor weight = bench.random(DType::F32, {tokens, choices});
    const Tensor dweight = bench.random(DType::F32, {tokens, choices});
    const double small = x.bytes().value();
    const double large = permuted.bytes().value();
    const std::string shape = fmt::format("[{},{}] k {}", tokens, kWidth, choices);
    report(bench, "permute", shape, small + large, 0.8, [&] { backend.permute(kLane, x, row, permuted); });
    report(bench, "permute backward", shape, small + large, 0.8,
           [&] { backend.permute_backward(kLane, permuted, row, y, false); });
    report(bench, "unpermute", shape, small + large, 0.8,
           [&] { backend.unpermute(kLane, permuted, row, weight, y, false); });
    report(bench, "unpermute backward", shape, small + 2 * large, 0.8,
           [&] { backend.unpermute_backward(kLane, x, permuted, row, weight, drows, dweight); });
    bench.release();
  }
}

void bench_elementwise(Bench& bench) {
  CudaBackend& backend = bench.backend();
  const Tensor x = bench.random(DType::BF16, {kTokens, kWidth});
  const Tensor wide = bench.random(DType::BF16, {kTokens, 2 * kWidth});
  const Tensor dwide = bench.random(DType::BF16, {kTokens, 2 * kWidth});
  const Tensor y = bench.random(DType::BF16, {kTokens, kWidth});
  const Tensor dx = bench.random(DType::BF16, {kTokens, kWidth});
  const Tensor bias = bench.random(DType::BF16, {8, kWidth});
  const Tensor dbias = bench.random(DType::F32, {8, kWidth});
  const Tensor c = bench.random(DType::F32, {kTokens});
  const Tensor dc = bench.random(DType::F32, {kTokens});
  const Tensor f32 = bench.random(DType::F32, {kTokens, kWidth});
  const double tensor = x.bytes().value();
  std::vector<Index> offsets;
  for (Index g = 0; g <= 8; ++g) offsets.push_back(kTokens / 8 * g);
  const std::string shape = fmt::format("[{},{}]", kTokens, kWidth);
  report(bench, "add", shape, 3 * tensor, 0.8, [&] { backend.add(kLane, y, x); });
  report(bench, "cast f32 to bf16", shape, 3 * tensor, 0.8, [&] { backend.cast(kLane, y, f32); });
  report(bench, "scaled rows", shape, 3 * tensor, 0.8, [&] { backend.add_scaled_rows(kLane, y, x, c); });
  report(bench, "scaled rows backward", shape, 3 * tensor, 0.8,
         [&] { backend.scaled_rows_backward(kLane, y, x, c, dx, dc); });
  report(bench, "bias add, 8 groups", shape, 2 * tensor, 0.8, [&] { backend.bias_add(kLane, y, bias, offsets); });
  report(bench, "bias gradient, 8 groups", shape, tensor, 0.8,
         [&] { backend.bias_gradient(kLane, y, offsets, dbias); });
  const std::vector<Index> one = {0, kTokens};
  report(bench, "bias gradient", shape, tensor, 0.8, [&] { backend.bias_gradient(kLane, y, one, dbias.slice(0, 1)); });
  report(bench, "gelu", shape, 2 * tensor, 0.8, [&] { backend.activation(kLane, Activation::Gelu, x, y); });
  report(bench, "gelu backward", shape, 3 * tensor, 0.8,
         [&] { backend.activation_backward(kLane, Activation::Gelu, x, y, dx); });
  report(bench, "swiglu", shape, 3 * tensor, 0.8, [&] { backend.activation(kLane, Activation::SwiGlu, wide, y); });
  report(bench, "swiglu backward", shape, 5 * tensor, 0.8,
         [&] { backend.activation_backward(kLane, Activation::SwiGlu, wide, y, dwide); });
  const AttentionShape heads = {kTokens / 2048, 2048, 32, 16, 64};
  report(bench, "rope", shape + " 32+16 heads", 2 * tensor * 0.75, 0,
         [&] { backend.rope(kLane, heads, 1e4, x, false); });
  bench.release();
}

void bench_vocabulary(Bench& bench) {
  CudaBackend& backend = bench.backend();
  constexpr Index rows = 8192, vocabulary = 50304, d = 2048;
  const Tensor logits = bench.random(DType::BF16, {rows, vocabulary});
  const Tensor loss = bench.random(DType::F32, {rows});
  std::vector<std::int32_t> ids(rows);
  std::mt19937 generator(3);
  for (std::int32_t& id : ids) {  // word-like: few tokens are frequent
    const double u = static_cast<double>(generator() >> 8) * 0x1p-24;
    id = static_cast<std::int32_t>(std::pow(static_cast<double>(vocabulary), u)) - 1;
  }
  const Tensor targets = bench.integers({rows}, ids);
  const Tensor tokens = bench.random(DType::BF16, {vocabulary, d});
  const Tensor positions = bench.random(DType::BF16, {2048, d});
  const Tensor out = bench.random(DType::BF16, {rows, d});
  const Tensor dtokens = bench.random(DType::F32, {vocabulary, d});
  const Tensor dpositions = bench.random(DType::F32, {2048, d});
  report(bench, "cross entropy", fmt::format("[{},{}]", rows, vocabulary), 2 * logits.bytes().value(), 0,
         [&] { backend.cross_entropy(kLane, logits, targets, 1e-4, loss); });
  const double tensor = out.bytes().value();
  report(bench, "embedding", fmt::format("[{},{}]", rows, d), 2 * tensor, 0,
         [&] { backend.embedding(kLane, targets, tokens, positions, 2048, out); });
  report(bench, "embedding backward", fmt::format("[{},{}]", rows, d), 2 * tensor, 0,
         [&] { backend.embedding_backward(kLane, targets, out, 2048, dtokens, dpositions); });
  bench.release();
}

void bench_optimizer(Bench& bench) {
  CudaBackend& backend = bench.backend();
  constexpr Index count = 1 << 28;
  const Tensor master = bench.random(DType::F32, {count});
  const Tensor gradient = bench.random(DType::F32, {count});
  const Tensor first = bench.random(DType::F32, {count});
  const Tensor second = bench.random(DType::F32, {count});
  const Tensor weight = bench.random(DType::BF16, {count});
  const Tensor norm = bench.empty(DType::F64, {1});
  const double elements = static_cast<double>(count);
  report(bench, "adamw", "2^28 parameters", 30 * elements, 0.8,
         [&] { backend.adamw(kLane, AdamWStep{1e-3}, master, gradient, first, second, weight); });
  report(bench, "squared norm", "2^28", 4 * elements, 0.8, [&] { backend.squared_norm(kLane, gradient, norm, false); });
  bench.release();
}

void bench_gate(Bench& bench) {
  CudaBackend& backend = bench.backend();
  for (const auto& [experts, k] : {std::pair<Index, Index>{8, 2}, {64, 8}, {256, 8}}) {
    const Tensor logits = bench.random(DType::F32, {kTokens, experts});
    GateTensors gate;
    gate.scores = bench.empty(DType::F32, {kTokens, experts});
    gate.expert = bench.empty(DType::I32, {kTokens, k});
    gate.weight = bench.empty(DType::F32, {kTokens, k});
    gate.row = bench.empty(DType::I32, {kTokens, k});
    gate.count = bench.empty(DType::I32, {experts});
    gate.balance_loss = bench.empty(DType::F32, {1});
    const Tensor dweight = bench.random(DType::F32, {kTokens, k});
    const Tensor dlogits = bench.empty(DType::F32, {kTokens, experts});
    const GateRule rule{RouterKind::SoftmaxTopK, k, true};
    const std::string shape = fmt::format("[{},{}] k {}", kTokens, experts, k);
    const double tensor = logits.bytes().value();
    report(bench, "gate", shape, 2 * tensor, 0, [&] { backend.gate(kLane, rule, std::nullopt, {logits}, gate); });
    report(bench, "gate backward", shape, 2 * tensor, 0, [&] {
      backend.gate_backward(kLane, rule, {logits}, gate, {0.01}, {dweight, {}, dlogits});
    });
    bench.release();
  }
}

}  // namespace

void bench_memory_bound(Bench& bench) {
  bench.table().heading("memory-bound operators (bytes counted once) against the device copy");
  bench_norms(bench);
  bench_permutation(bench);
  bench_elementwise(bench);
  bench_optimizer(bench);
  bench_vocabulary(bench);
  bench_gate(bench);
}

}  // namespace moecast::cuda
