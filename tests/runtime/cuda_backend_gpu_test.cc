#include <algorithm>
#include <cstdio>
#include <numeric>

#include "runtime/gpu_module.h"
#include "tests/runtime/backend_contract_suite.h"

namespace moecast::testing {
namespace {

/// Null, with the reason on stderr, where there is no GPU: the test is then skipped.
std::unique_ptr<Backend> cuda_backend() {
  Result<std::unique_ptr<Backend>> backend = make_cuda_backend(0);
  if (backend.ok()) return std::move(backend).value();
  std::fprintf(stderr, "%s\n", backend.error().text().c_str());
  return nullptr;
}

/// BF16 results carry one rounding of 2^-9 and, in attention, one more of every probability; F32 results of BF16 inputs
/// are as exact as F32 sums.
BackendCase bf16_case() {
  return {"CudaBF16", cuda_backend, DType::BF16, 1.5e-2, 1e-4, {DType::F32, DType::F64, DType::BF16}, true};
}
BackendCase f32_case() {
  return {"CudaF32", cuda_backend, DType::F32, 3e-5, 3e-5, {DType::F32, DType::F64, DType::BF16}, true};
}

INSTANTIATE_TEST_SUITE_P(Cuda, BackendContract, ::testing::Values(f32_case(), bf16_case()), backend_case_name);

/// Sizes that reach the kernels' wide paths: 16-byte packs, several blocks, tensor cores. Both dtypes.
class CudaKernels : public ::testing::TestWithParam<BackendCase> {
 protected:
  static constexpr Lane kLane = Lane::Compute;
  void SetUp() override {
    if (!tester.available()) GTEST_SKIP() << "no GPU on this machine";
  }
  Tensor x(const Shape& shape, double low = -1, double high = 1) {
    return tester.random(tester.compute(), shape, low, high);
  }
  Tensor g(const Shape& shape) { return tester.random(DType::F32, shape); }
  Tensor x_out(const Shape& shape) { return tester.poisoned(tester.compute(), shape); }
  Tensor g_out(const Shape& shape) { return tester.poisoned(DType::F32, shape); }
  static Integers rows_of(std::int64_t tokens, std::int64_t choices, std::int64_t rows, std::mt19937& generator);

  BackendTester tester{GetParam()};
  Backend& backend() { return tester.backend(); }
};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaKernels, ::testing::Values(f32_case(), bf16_case()), backend_case_name);

TEST_P(CudaKernels, AttentionAgreesForTiledHeadDimensionsAndRaggedSequences) {
  const AttentionShape shapes[] = {{2, 1, 2, 2, 64},   {1, 64, 2, 1, 128},  {2, 129, 2, 2, 64},
                                   {1, 333, 4, 2, 64}, {1, 333, 4, 2, 128}, {2, 257, 3, 1, 128}};
  for (const AttentionShape& shape : shapes) {
    SCOPED_TRACE(
        fmt::format("sequence {} heads {} of {} dim {}", shape.sequence, shape.heads, shape.kv_heads, shape.head_dim));
    const std::int64_t tokens = shape.batch * shape.sequence;
    const std::int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const Tensor qkv = x({tokens, width}, -2, 2);
    const Tensor out = x_out({tokens, shape.heads * shape.head_dim});
    const Tensor log_sum_exp = g_out({shape.batch, shape.heads, shape.sequence});
    backend().attention(kLane, shape, qkv, out, log_sum_exp);
    const reference::Attention expected = reference::attention(shape, tester.read(qkv));
    tester.expect_close(out, expected.out, "out");
    tester.expect_close(log_sum_exp, expected.log_sum_exp, "log_sum_exp");
    const Tensor dout = x({tokens, shape.heads * shape.head_dim});
    const Tensor dqkv = x_out({tokens, width});
    backend().attention_backward(kLane, shape, qkv, out, log_sum_exp, dout, dqkv);
    const double rounding = tester.compute() == DType::BF16 ? 2e-2 : 0;  // of probabilities, their gradients and out
    tester.expect_close(dqkv, reference::attention_backward(shape, tester.read(qkv), tester.read(dout)), "dqkv",
                        rounding);
  }
}

TEST_P(CudaKernels, AttentionWithLargeScoresStaysExact) {
  const AttentionShape shape = {1, 200, 1, 1, 64};
  const Tensor qkv = x({200, 192}, -8, 8);  // scores of several hundred: one key wins, neighbours underflow
  const Tensor out = x_out({200, 64});
  const Tensor log_sum_exp = g_out({1, 1, 200});
  backend().attention(kLane, shape, qkv, out, log_sum_exp);
  const reference::Attention expected = reference::attention(shape, tester.read(qkv));
  tester.expect_close(out, expected.out, "out");
  tester.expect_close(log_sum_exp, expected.log_sum_exp, "log_sum_exp");
}

TEST_P(CudaKernels, AttentionGivesTheSameBitsAgain) {
  const AttentionShape shape = {1, 300, 4, 2, 64};
  const Tensor qkv = x({300, 512});
  const Tensor dout = x({300, 256});
  const auto run = [&] {
    const Tensor out = x_out({300, 256});
    const Tensor log_sum_exp = g_out({1, 4, 300});
    const Tensor dqkv = x_out({300, 512});
    backend().attention(kLane, shape, qkv, out, log_sum_exp);
    backend().attention_backward(kLane, shape, qkv, out, log_sum_exp, dout, dqkv);
    return tester.read_bytes(dqkv);
  };
  EXPECT_EQ(run(), run());
}

TEST_P(CudaKernels, NormAgreesForWideRows) {
  for (const NormKind kind : {NormKind::LayerNorm, NormKind::RmsNorm}) {
    const bool layer = kind == NormKind::LayerNorm;
    for (const auto& [rows, d] : {std::pair<std::int64_t, std::int64_t>{301, 64}, {37, 512}, {33, 2048}, {5, 8192}}) {
      SCOPED_TRACE(fmt::format("[{},{}] {}", rows, d, layer ? "LayerNorm" : "RMSNorm"));
      const Tensor source = x({rows, d}, -1, 3);
      const Tensor gain = x({d});
      const Tensor bias = x({d});
      const Tensor y = x_out({rows, d});
      const Tensor mean = g_out({rows});
      const Tensor rstd = g_out({rows});
      backend().norm(kLane, kind, source, gain, layer ? bias : Tensor(), 1e-5, y, layer ? mean : Tensor(), rstd);
      const Values xs = tester.read(source);
      const Values gains = tester.read(gain);
      const reference::Norm expected =
          reference::norm(kind, rows, xs, gains, layer ? tester.read(bias) : Values(), 1e-5);
      tester.expect_close(y, expected.y, "y");
      tester.expect_close(rstd, expected.rstd, "rstd");
      const Tensor dy = x({rows, d});
      const Tensor dx = x({rows, d});
      const Tensor dgain = g({d});
      const Tensor dbias = g({d});
      Values expected_dx = tester.read(dx);
      Values expected_dgain = tester.read(dgain);
      Values expected_dbias = tester.read(dbias);
      const Values dys = tester.read(dy);
      for (std::int64_t r = 0; r < rows; ++r) {  // the Jacobian of the reference is quadratic in d: written out here
        double mean_g = 0;
        double mean_gx = 0;
        const auto normal = [&](std::int64_t c) {
          const double center = layer ? expected.mean[static_cast<std::size_t>(r)] : 0.0;
          return (xs[static_cast<std::size_t>(r * d + c)] - center) * expected.rstd[static_cast<std::size_t>(r)];
        };
        for (std::int64_t c = 0; c < d; ++c) {
          const double dyc = dys[static_cast<std::size_t>(r * d + c)];
          const double slope = dyc * gains[static_cast<std::size_t>(c)];
          mean_g += layer ? slope / static_cast<double>(d) : 0;
          mean_gx += slope * normal(c) / static_cast<double>(d);
          expected_dgain[static_cast<std::size_t>(c)] += dyc * normal(c);
          expected_dbias[static_cast<std::size_t>(c)] += dyc;
        }
        for (std::int64_t c = 0; c < d; ++c) {
          const double slope = dys[static_cast<std::size_t>(r * d + c)] * gains[static_cast<std::size_t>(c)];
          expected_dx[static_cast<std::size_t>(r * d + c)] +=
              expected.rstd[static_cast<std::size_t>(r)] * (slope - mean_g - normal(c) * mean_gx);
        }
      }
      backend().norm_backward(kLane, kind, dy, source, gain, layer ? mean : Tensor(), rstd, dx, true, dgain,
                              layer ? dbias : Tensor());
      tester.expect_close(dx, expected_dx, "dx");
      tester.expect_close(dgain, expected_dgain, "dgain");
      if (layer) tester.expect_close(dbias, expected_dbias, "dbias");
    }
  }
}

TEST_P(CudaKernels, GatePlacesThousandsOfTokens) {
  constexpr std::int64_t tokens = 1500;
  for (const std::int64_t experts : {8, 200}) {
    for (const std::optional<std::int64_t> capacity :
         {std::optional<std::int64_t>(), std::optional<std::int64_t>(60)}) {
      const GateRule rule{RouterKind::SoftmaxTopK, 4, true};
      const Tensor logits = tester.random(DType::F32, {tokens, experts}, -3, 3);
      const GateTensors out = gate_tensors(tester, tokens, experts, rule.top_k);
      backend().gate(kLane, rule, capacity, {logits}, out);
      expect_gate(tester, out, reference::gate(rule, capacity, tokens, tester.read(logits)));
    }
  }
}

/// Distinct rows in random order; a quarter of the choices dropped.
Integers CudaKernels::rows_of(std::int64_t tokens, std::int64_t choices, std::int64_t rows, std::mt19937& generator) {
  Integers row(static_cast<std::size_t>(rows));
  std::iota(row.begin(), row.end(), 0);
  std::shuffle(row.begin(), row.end(), generator);
  row.resize(static_cast<std::size_t>(tokens * choices));
  for (std::size_t i = 0; i < row.size(); i += 4) row[i] = -1;
  return row;
}

TEST_P(CudaKernels, PermutationAndItsBackwardAgreeForWideRows) {
  constexpr std::int64_t tokens = 130, choices = 3, rows = 500;
  std::mt19937 generator(7);
  for (const std::int64_t d : {8, 520, 2048}) {
    const Integers row = rows_of(tokens, choices, rows, generator);
    const Tensor row_tensor = tester.upload({tokens, choices}, row);
    const Tensor source = x({tokens, d});
    const Tensor out = x_out({rows, d});
    backend().permute(kLane, source, row_tensor, out);
    const Tensor weight = g({tokens, choices});
    const Tensor combined = x_out({tokens, d});
    backend().unpermute(kLane, out, row_tensor, weight, combined, false);
    const Tensor dout = x({tokens, d});
    const Tensor drows = x_out({rows, d});
    const Tensor dweight = g_out({tokens, choices});
    backend().unpermute_backward(kLane, dout, out, row_tensor, weight, drows, dweight);
    const Values xs = tester.read(source);
    const Values dys = tester.read(dout);
    const Values weights = tester.read(weight);
    Values expected_out(static_cast<std::size_t>(rows * d), 0.0);
    Values expected_combined(static_cast<std::size_t>(tokens * d), 0.0);
    Values expected_drows = expected_out;
    Values expected_dweight(static_cast<std::size_t>(tokens * choices), 0.0);
    for (std::int64_t i = 0; i < tokens * choices; ++i) {
      const std::int32_t target = row[static_cast<std::size_t>(i)];
      if (target < 0) continue;
      for (std::int64_t c = 0; c < d; ++c) {
        const std::size_t from = static_cast<std::size_t>(i / choices * d + c);
        const std::size_t to = static_cast<std::size_t>(target * d + c);
        const double w = weights[static_cast<std::size_t>(i)];
        expected_out[to] = xs[from];
        expected_combined[from] += w * xs[from];
        expected_drows[to] = w * dys[from];
        expected_dweight[static_cast<std::size_t>(i)] += dys[from] * xs[from];
      }
    }
    EXPECT_EQ(tester.read(out), expected_out);
    tester.expect_close(combined, expected_combined, "combined");
    tester.expect_close(drows, expected_drows, "drows");
    tester.expect_close(dweight, expected_dweight, "dweight");
  }
}

TEST_P(CudaKernels, EmbeddingGradientSortsLargeVocabularies) {
  constexpr std::int64_t batch = 3, sequence = 700, d = 64;
  for (const std::int32_t vocabulary : {3, 300, 70000}) {
    const Integers ids = tester.random_integers(batch * sequence, vocabulary);
    const Tensor dout = x({batch * sequence, d});
    const Tensor dtokens = g({vocabulary, d});
    const Tensor dpositions = g({sequence, d});
    Values expected_tokens = tester.read(dtokens);
    Values expected_positions = tester.read(dpositions);
    const Values gradient = tester.read(dout);
    for (std::int64_t i = 0; i < batch * sequence * d; ++i) {
      const std::int64_t id = ids[static_cast<std::size_t>(i / d)];
      expected_tokens[static_cast<std::size_t>(id * d + i % d)] += gradient[static_cast<std::size_t>(i)];
      expected_positions[static_cast<std::size_t>(i / d % sequence * d + i % d)] +=
          gradient[static_cast<std::size_t>(i)];
    }
    backend().embedding_backward(kLane, tester.upload({batch * sequence}, ids), dout, sequence, dtokens, dpositions);
    tester.expect_close(dtokens, expected_tokens, "dtokens");
    tester.expect_close(dpositions, expected_positions, "dpositions");
  }
}

TEST_P(CudaKernels, ElementwiseOperatorsAgreeOnLargeAlignedTensors) {
  constexpr std::int64_t rows = 513, d = 1024;
  const Tensor y = x({rows, d});
  const Tensor source = x({rows, d});
  const Tensor bias = x({2, d});
  const Tensor dbias = g({2, d});
  Values expected = reference::sum(tester.read(y), tester.read(source));
  backend().add(kLane, y, source);
  tester.expect_close(y, expected, "add");
  expected = tester.read(y);
  const Values biases = tester.read(bias);
  const std::vector<std::int64_t> offsets = {0, 400, 513};
  for (std::int64_t i = 0; i < rows * d; ++i) {
    expected[static_cast<std::size_t>(i)] += biases[static_cast<std::size_t>((i / d < 400 ? 0 : d) + i % d)];
  }
  backend().bias_add(kLane, y, bias, offsets);
  tester.expect_close(y, expected, "bias_add");
  Values sums = tester.read(dbias);
  const Values biased = tester.read(y);
  for (std::int64_t i = 0; i < rows * d; ++i) {
    sums[static_cast<std::size_t>((i / d < 400 ? 0 : d) + i % d)] += biased[static_cast<std::size_t>(i)];
  }
  backend().bias_gradient(kLane, y, offsets, dbias);
  tester.expect_close(dbias, sums, "bias_gradient");
}

TEST_P(CudaKernels, AdamWAgreesOnAlignedTensors) {
  constexpr std::int64_t count = 5000;
  const Tensor master = g({count});
  const Tensor gradient = g({count});
  const Tensor first = g({count});
  const Tensor second = tester.random(DType::F32, {count}, 0, 1);
  const Tensor weight = x_out({count});
  Values theta = tester.read(master);
  const Values slope = tester.read(gradient);
  const Values m = tester.read(first);
  const Values v = tester.read(second);
  for (std::size_t i = 0; i < theta.size(); ++i) {
    const double m_hat = (0.9 * m[i] + 0.1 * slope[i]) / (1 - 0.9);
    const double v_hat = (0.95 * v[i] + 0.05 * slope[i] * slope[i]) / (1 - 0.95);
    theta[i] -= 1e-2 * (m_hat / (std::sqrt(v_hat) + 1e-8) + 0.1 * theta[i]);
  }
  backend().adamw(kLane, AdamWStep{1e-2, 0.9, 0.95, 1e-8, 0.1, 1, 1}, master, gradient, first, second, weight);
  tester.expect_close(master, theta, "master");
  tester.expect_close(weight, theta, "weight");
}

TEST_P(CudaKernels, GroupedProductsOfEqualGroupsAgree) {
  constexpr std::int64_t weights = 3, rows = 32, k = 64, n = 96;
  std::vector<std::int64_t> offsets;
  for (std::int64_t i = 0; i <= 2 * weights; ++i) offsets.push_back(i * rows);
  const Tensor source = x({offsets.back(), k});
  const Tensor w = x({weights, k, n});
  const Tensor y = x_out({offsets.back(), n});
  const Tensor dw = g({weights, k, n});
  Values expected;
  Values expected_dw = tester.read(dw);
  const Values xs = tester.read(source);
  const Values ws = tester.read(w);
  backend().grouped_gemm(kLane, source, w, false, offsets, y);
  const Values ys = tester.read(y);
  for (std::int64_t group = 0; group < 2 * weights; ++group) {
    const auto first = xs.begin() + group * rows * k;
    const auto matrix = ws.begin() + group % weights * k * n;
    const Values block(first, first + rows * k);
    const Values product = reference::gemm(false, false, rows, n, k, block, Values(matrix, matrix + k * n));
    expected.insert(expected.end(), product.begin(), product.end());
    const auto result = ys.begin() + group * rows * n;
    const Values gradient = reference::gemm(true, false, k, n, rows, block, Values(result, result + rows * n));
    for (std::int64_t i = 0; i < k * n; ++i) {
      expected_dw[static_cast<std::size_t>(group % weights * k * n + i)] += gradient[static_cast<std::size_t>(i)];
    }
  }
  tester.expect_close(y, expected, "y");
  backend().grouped_gemm_weight(kLane, source, y, offsets, dw);
  tester.expect_close(dw, expected_dw, "dw");
}

TEST_P(CudaKernels, GemmOfLargeSizesAgrees) {
  constexpr std::int64_t m = 384, n = 320, k = 512;
  const Tensor a = x({m, k});
  const Tensor b = x({n, k});
  const Tensor y = x_out({m, n});
  backend().gemm(kLane, false, true, a, b, y, false);
  tester.expect_close(y, reference::gemm(false, true, m, n, k, tester.read(a), tester.read(b)), "y");
}

TEST_P(CudaKernels, CrossEntropyAgreesForLargeVocabularies) {
  for (const std::int64_t vocabulary : {50257, 50304}) {
    const Tensor logits = x({3, vocabulary}, -9, 9);
    const Integers targets = {0, 777, static_cast<std::int32_t>(vocabulary - 1)};
    const reference::CrossEntropy expected = reference::cross_entropy(3, tester.read(logits), targets, 0.5);
    const Tensor loss = g_out({3});
    backend().cross_entropy(kLane, logits, tester.upload({3}, targets), 0.5, loss);
    tester.expect_close(loss, expected.loss, "loss");
    tester.expect_close(logits, expected.dlogits, "dlogits");
  }
}

TEST_P(CudaKernels, LanesRunSideBySideAndMeetThroughEvents) {
  constexpr std::int64_t count = 1 << 22;
  const Tensor source = tester.poisoned(DType::F32, {count});
  const Tensor target = tester.poisoned(DType::F32, {count});
  backend().reserve_events(2);
  for (int round = 1; round <= 20; ++round) {
    backend().fill(Lane::Compute, source, round);
    backend().record_event(Lane::Compute, 0);
    backend().wait_event(Lane::Comm, 0);
    backend().copy(Lane::Comm, target, source);
    backend().record_event(Lane::Comm, 1);
    backend().wait_event(Lane::Compute, 1);  // the next fill must not overtake the copy
  }
  EXPECT_EQ(tester.read(target), Values(count, 20.0));
}

TEST(GpuModule, ReportsEveryDeviceOrTheReason) {
  const Result<GpuMachine> machine = describe_gpus();
  if (!machine.ok()) {
    EXPECT_EQ(machine.error().kind, ErrorKind::Unavailable);
    GTEST_SKIP() << machine.error().text();
  }
  ASSERT_FALSE(machine->devices.empty());
  EXPECT_GT(machine->devices[0].memory.count(), 0);
  EXPECT_GT(machine->devices[0].multiprocessors, 0);
}

TEST(GpuModule, RefusesADeviceThatIsNotThere) {
  const Result<std::unique_ptr<Backend>> backend = make_cuda_backend(4096);
  ASSERT_FALSE(backend.ok());
  EXPECT_EQ(backend.error().kind, ErrorKind::Unavailable);
}

}  // namespace
}  // namespace moecast::testing
