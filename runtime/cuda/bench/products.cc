#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "runtime/cuda/bench/bench.h"

namespace moecast::cuda {
namespace {

constexpr int kAlgorithms = 12;  // proposals of the library that are timed

struct GemmCase {
  Index m, n, k;
  bool transpose_a, transpose_b;
  bool weight_gradient;  // accumulates into F32
};

double tera_flops(const GemmCase& c, double seconds) {
  return 2.0 * static_cast<double>(c.m) * static_cast<double>(c.n) * static_cast<double>(c.k) / seconds * 1e-12;
}

Product product_of(Bench& bench, const GemmCase& c) {
  Product product;
  product.transpose_a = c.transpose_a;
  product.transpose_b = c.transpose_b;
  product.m = c.m;
  product.n = c.n;
  product.k = c.k;
  product.a = bench.random(DType::BF16, {c.m * c.k}).data;
  product.b = bench.random(DType::BF16, {c.k * c.n}).data;
  product.output = c.weight_gradient ? Real::F32 : Real::BF16;
  product.accumulate = c.weight_gradient;
  product.y = bench.random(c.weight_gradient ? DType::F32 : DType::BF16, {c.m * c.n}).data;
  return product;
}

/// Seconds with the backend's choice, and with the fastest of the library's proposals.
std::pair<double, double> time_product(Bench& bench, const GemmCase& c) {
  const Product product = product_of(bench, c);
  GemmEngine& engine = bench.backend().gemm_engine();
  cudaStream_t stream = bench.backend().stream(Bench::kLane);
  void* workspace = bench.empty(DType::F32, {GemmEngine::kWorkspaceBytes / 4}).data;
  const double chosen = bench.seconds([&] { bench.backend().note(engine.run(product, workspace, stream)); });
  double best = std::numeric_limits<double>::infinity();
  const auto algorithms = engine.algorithms(product, kAlgorithms);
  ASSERT(algorithms.ok(), "{}", algorithms.error().text());
  for (const cublasLtMatmulAlgo_t& algorithm : *algorithms) {
    best = std::min(
        best, bench.seconds([&] { bench.backend().note(engine.run_with(product, algorithm, workspace, stream)); }));
  }
  bench.release();
  return {chosen, std::min(best, chosen)};
}

std::string gemm_shape(const GemmCase& c) {
  return fmt::format("{}x{}x{} {}{}{}", c.m, c.n, c.k, c.transpose_a ? 't' : 'n', c.transpose_b ? 't' : 'n',
                     c.weight_gradient ? " +=f32" : "");
}

/// Rows of each expert: equal, or from 0.4 to 1.6 of the mean.
std::vector<Index> group_offsets(Index experts, Index rows, bool skewed) {
  std::vector<Index> offsets = {0};
  for (Index e = 0; e < experts; ++e) {
    const Index share = skewed ? rows * (4 + e % 8 * 12 / 7) / 10 : rows;
    offsets.push_back(offsets.back() + share);
  }
  return offsets;
}

struct GroupedCase {
  Index experts, rows, d, f;
  bool skewed;
};

void bench_grouped(Bench& bench, const GroupedCase& c) {
  CudaBackend& backend = bench.backend();
  const std::vector<Index> offsets = group_offsets(c.experts, c.rows, c.skewed);
  const Index total = offsets.back();
  const Tensor x = bench.random(DType::BF16, {total, c.d});
  const Tensor w1 = bench.random(DType::BF16, {c.experts, c.d, c.f});
  const Tensor w2 = bench.random(DType::BF16, {c.experts, c.f, c.d});
  const Tensor hidden = bench.random(DType::BF16, {total, c.f});
  const Tensor y = bench.random(DType::BF16, {total, c.d});
  const Tensor dw1 = bench.random(DType::F32, {c.experts, c.d, c.f});
  const Tensor dense1 = w1.slice(0, 1).reshaped({c.d, c.f});
  const Tensor dense2 = w2.slice(0, 1).reshaped({c.f, c.d});
  const Tensor dense_dw = dw1.slice(0, 1).reshaped({c.d, c.f});
  constexpr Lane lane = Bench::kLane;
  const auto report = [&](const char* name, double flops, double grouped, double dense, double wanted) {
    const std::string shape = fmt::format("{}x{}{} d{} f{}", c.experts, c.rows, c.skewed ? " skewed" : "", c.d, c.f);
    bench.table().add({name, shape, grouped, flops / grouped * 1e-12, "TFLOP/s", flops / dense * 1e-12, "dense",
                       c.rows >= 1024 ? wanted : 0});
  };
  const double flops = 2.0 * static_cast<double>(total) * static_cast<double>(c.d) * static_cast<double>(c.f);
  const double forward = bench.seconds([&] {
    backend.grouped_gemm(lane, x, w1, false, offsets, hidden);
    backend.grouped_gemm(lane, hidden, w2, false, offsets, y);
  });
  const double dense_forward = bench.seconds([&] {
    backend.gemm(lane, false, false, x, dense1, hidden, false);
    backend.gemm(lane, false, false, hidden, dense2, y, false);
  });
  report("grouped forward", 2 * flops, forward, dense_forward, 0.75);
  const double backward = bench.seconds([&] {
    backend.grouped_gemm(lane, y, w2, true, offsets, hidden);
    backend.grouped_gemm(lane, hidden, w1, true, offsets, x);
  });
  const double dense_backward = bench.seconds([&] {
    backend.gemm(lane, false, true, y, dense2, hidden, false);
    backend.gemm(lane, false, true, hidden, dense1, x, false);
  });
  report("grouped backward", 2 * flops, backward, dense_backward, 0.75);
  const double weight = bench.seconds([&] { backend.grouped_gemm_weight(lane, x, hidden, offsets, dw1); });
  const double dense_weight = bench.seconds([&] { backend.gemm(lane, true, false, x, hidden, dense_dw, true); });
  report("grouped weight gradient", flops, weight, dense_weight, 0.75);
  bench.release();
}

}  // namespace

void measure_limits(Bench& bench) {
  bench.table().heading("limits");
  const Tensor from = bench.random(DType::BF16, {1 << 29});
  const Tensor to = bench.random(DType::BF16, {1 << 29});
  const double seconds = bench.seconds([&] { bench.backend().copy(Bench::kLane, to, from); });
  bench.copy_bytes_per_second = 2.0 * from.bytes().value() / seconds;
  bench.release();
  bench.table().add({"device copy", "1 GiB", seconds, bench.copy_bytes_per_second * 1e-9, "GB/s", 0, "", 0});
  const GemmCase large = {8192, 8192, 8192, false, true, false};
  const auto [chosen, best] = time_product(bench, large);
  bench.flops_per_second = tera_flops(large, best) * 1e12;
  bench.table().add({"gemm", gemm_shape(large), chosen, tera_flops(large, chosen), "TFLOP/s", tera_flops(large, best),
                     "best algorithm", 0.95});
}

void bench_products(Bench& bench) {
  bench.table().heading("products, the backend's algorithm against the fastest of cuBLASLt's proposals");
  const GemmCase cases[] = {
      {8192, 6144, 2048, false, false, false}, {8192, 2048, 2048, false, false, false},
      {8192, 8192, 2048, false, false, false}, {8192, 2048, 8192, false, false, false},
      {8192, 2048, 8192, false, true, false},  {2048, 8192, 8192, true, false, true},
      {4096, 4096, 4096, false, false, false}, {1024, 1024, 1024, false, false, false},
      {8192, 50304, 2048, false, true, false}, {8192, 64, 2048, false, false, false},
  };
  for (const GemmCase& c : cases) {
    const auto [chosen, best] = time_product(bench, c);
    bench.table().add(
        {"gemm", gemm_shape(c), chosen, tera_flops(c, chosen), "TFLOP/s", tera_flops(c, best), "best algorithm", 0.95});
  }
}

void bench_grouped_products(Bench& bench) {
  bench.table().heading("grouped products of an expert FFN against one dense product of all rows");
  const GroupedCase cases[] = {
      {8, 256, 2048, 8192, false},  {8, 1024, 2048, 8192, false},  {8, 1024, 2048, 8192, true},
      {8, 2048, 2048, 8192, true},  {8, 4096, 2048, 8192, true},   {64, 256, 2048, 1024, true},
      {64, 1024, 2048, 1024, true}, {64, 1024, 2048, 1024, false},
  };
  for (const GroupedCase& c : cases) bench_grouped(bench, c);
}

}  // namespace moecast::cuda
