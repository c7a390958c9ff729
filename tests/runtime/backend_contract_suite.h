#pragma once

/// The contract of Backend, one test for each operator: fresh random inputs, odd sizes, poisoned outputs, results held
/// against loops in double (backend_reference_testing.h). To run an implementation through it, include this header in
/// one test file and write INSTANTIATE_TEST_SUITE_P(Name, BackendContract, ::testing::Values(case...),
/// backend_case_name).

#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/backend_reference_testing.h"
#include "tests/runtime/backend_testing.h"

namespace moecast::testing {

inline void PrintTo(const BackendCase& subject, std::ostream* out) { *out << subject.name; }
inline std::string backend_case_name(const ::testing::TestParamInfo<BackendCase>& info) { return info.param.name; }

class BackendContract : public ::testing::TestWithParam<BackendCase> {
 protected:
  static constexpr Lane kLane = Lane::Compute;
  static constexpr Tensor none() { return {}; }

  void SetUp() override {
    if (!tester.available()) GTEST_SKIP() << GetParam().name << " cannot run on this machine";
  }
  DType x_type() const { return tester.compute(); }   // X: activations and compute weights
  DType g_type() const { return tester.gradient(); }  // F32, or F64 when X is F64
  /// Random values of the compute or gradient type.
  Tensor x(const Shape& shape) { return tester.random(x_type(), shape); }
  Tensor g(const Shape& shape) { return tester.random(g_type(), shape); }
  Tensor x_out(const Shape& shape) { return tester.poisoned(x_type(), shape); }
  Tensor g_out(const Shape& shape) { return tester.poisoned(g_type(), shape); }
  /// An output that is overwritten (poisoned) or added to (random).
  Tensor output(DType dtype, const Shape& shape, bool accumulate) {
    return accumulate ? tester.random(dtype, shape) : tester.poisoned(dtype, shape);
  }
  /// What must come out: the result alone, or added to what was there.
  static Values accumulated(bool accumulate, const Values& before, const Values& result) {
    return accumulate ? reference::sum(before, result) : result;
  }

  BackendTester tester{GetParam()};
  /// Only for a tester that is available.
  Backend& backend() { return tester.backend(); }
};

// Memory, copies, events ----------------------------------------------------------------------------------------------

TEST_P(BackendContract, UploadThenDownloadGivesTheSameBytes) {
  const Tensor tensor = tester.poisoned(DType::I32, {1001});
  const Integers values = tester.random_integers(1001, std::numeric_limits<std::int32_t>::max());
  backend().upload(kLane, tensor, values.data());
  Integers back(values.size());
  backend().download(kLane, back.data(), tensor);
  backend().synchronize(kLane);
  EXPECT_EQ(back, values);
}

TEST_P(BackendContract, CopyMovesExactlyTheSlice) {
  const Tensor source = x({9, 7});
  const Tensor target = x({9, 7});
  Values expected = tester.read(target);
  const Values values = tester.read(source);
  backend().copy(kLane, target.slice(2, 5), source.slice(4, 7));
  std::copy(values.begin() + 4 * 7, values.begin() + 7 * 7, expected.begin() + 2 * 7);
  EXPECT_EQ(tester.read(target), expected);
}

TEST_P(BackendContract, HostMemoryIsWritableAndCopiesReachIt) {
  auto memory = backend().allocate_host(Bytes(64));
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ((*memory)->size(), Bytes(64));
  const Tensor tensor = tester.upload({16}, tester.random_integers(16, 1000));
  backend().download(kLane, (*memory)->data(), tensor);
  backend().synchronize(kLane);
  const Integers values = tester.read_integers(tensor);
  EXPECT_EQ(std::memcmp((*memory)->data(), values.data(), 64), 0);
}

TEST_P(BackendContract, EventsGiveTimesThatDoNotRunBackwards) {
  backend().reserve_events(3);
  for (int round = 0; round < 2; ++round) {  // recording again reuses the index
    backend().record_event(kLane, 0);
    backend().fill(kLane, x_out({4096}), 1);
    backend().record_event(kLane, 2);
    backend().wait_event(Lane::Comm, 2);
    backend().synchronize(kLane);
    EXPECT_GE(backend().elapsed(0, 2), Duration(0));
    EXPECT_EQ(backend().elapsed(0, 0), Duration(0));
  }
  EXPECT_TRUE(backend().check().ok());
}

// Elementwise ---------------------------------------------------------------------------------------------------------

TEST_P(BackendContract, FillWritesEveryElement) {
  for (const DType dtype : {x_type(), g_type(), DType::I32}) {
    const Tensor y = tester.poisoned(dtype, {37});
    backend().fill(kLane, y, -3);
    EXPECT_EQ(tester.read(y), Values(37, -3.0));
  }
}

TEST_P(BackendContract, AddAddsElementByElement) {
  for (const DType dtype : {x_type(), g_type()}) {
    const Tensor y = tester.random(dtype, {13, 11});
    const Tensor source = tester.random(dtype, {13, 11});
    const Values expected = reference::sum(tester.read(y), tester.read(source));
    backend().add(kLane, y, source);
    tester.expect_close(y, expected, "y");
  }
}

TEST_P(BackendContract, CastRoundsToTheNearestValueOfTheOtherType) {
  for (const DType from : GetParam().castable) {
    for (const DType to : GetParam().castable) {
      const Tensor source = tester.random(from, {107});
      const Tensor y = tester.poisoned(to, {107});
      backend().cast(kLane, y, source);
      EXPECT_EQ(tester.read(y), tester.read(tester.upload(to, {107}, tester.read(source))));
    }
  }
}

TEST_P(BackendContract, AddScaledRowsScalesEachRowByItsCoefficient) {
  for (const bool with_c : {true, false}) {
    const Tensor y = x({5, 19});
    const Tensor source = x({5, 19});
    const Tensor c = g({5});
    Values expected = tester.read(y);
    const Values values = tester.read(source);
    const Values factors = with_c ? tester.read(c) : Values(5, 1.0);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += factors[i / 19] * values[i];
    backend().add_scaled_rows(kLane, y, source, with_c ? c : none());
    tester.expect_close(y, expected, "y");
  }
}

TEST_P(BackendContract, ScaledRowsBackwardGivesRowAndCoefficientGradients) {
  for (const bool with_c : {true, false}) {
    const Tensor dy = x({5, 19});
    const Tensor source = x({5, 19});
    const Tensor c = g({5});
    const Tensor dx = x_out({5, 19});
    const Tensor dc = g_out({5});
    backend().scaled_rows_backward(kLane, dy, source, with_c ? c : none(), dx, with_c ? dc : none());
    const Values dys = tester.read(dy);
    const Values xs = tester.read(source);
    const Values factors = with_c ? tester.read(c) : Values(5, 1.0);
    Values expected_dx(dys.size());
    Values expected_dc(5, 0.0);
    for (std::size_t i = 0; i < dys.size(); ++i) {
      expected_dx[i] = factors[i / 19] * dys[i];
      expected_dc[i / 19] += dys[i] * xs[i];
    }
    tester.expect_close(dx, expected_dx, "dx");
    if (with_c) tester.expect_close(dc, expected_dc, "dc");
  }
}

TEST_P(BackendContract, SigmoidAndItsBackwardWorkInPlace) {
  const Tensor c = tester.random(g_type(), {21}, -20, 20);
  const Tensor dc = g({21});
  Values expected = tester.read(c);
  for (double& value : expected) value = 1 / (1 + std::exp(-value));
  backend().sigmoid(kLane, c);
  tester.expect_close(c, expected, "c");
  const Values saved = tester.read(c);
  Values gradient = tester.read(dc);
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] *= saved[i] * (1 - saved[i]);
  backend().sigmoid_backward(kLane, c, dc);
  tester.expect_close(dc, gradient, "dc");
}

// Matrix products -----------------------------------------------------------------------------------------------------

TEST_P(BackendContract, GemmMultipliesForEveryTransposeSizeAndOutputType) {
  const std::vector<std::array<std::int64_t, 3>> sizes = {{1, 1, 1},   {3, 5, 7},   {17, 33, 65}, {64, 48, 128},
                                                          {37, 1, 24}, {1, 40, 16}, {40, 24, 1},  {130, 70, 300}};
  for (const auto& [m, n, k] : sizes) {
    for (int variant = 0; variant < 16; ++variant) {
      const bool transpose_a = (variant & 1) != 0;
      const bool transpose_b = (variant & 2) != 0;
      const bool accumulate = (variant & 4) != 0;
      const DType y_type = (variant & 8) != 0 ? g_type() : x_type();
      const Tensor a = x(transpose_a ? Shape{k, m} : Shape{m, k});
      const Tensor b = x(transpose_b ? Shape{n, k} : Shape{k, n});
      const Tensor y = output(y_type, {m, n}, accumulate);
      const Values before = tester.read(y);
      const Values product = reference::gemm(transpose_a, transpose_b, m, n, k, tester.read(a), tester.read(b));
      backend().gemm(kLane, transpose_a, transpose_b, a, b, y, accumulate);
      tester.expect_close(y, accumulated(accumulate, before, product), fmt::format("y {}x{}x{}/{}", m, n, k, variant));
    }
  }
}

TEST_P(BackendContract, GemmOverNoRowsOfTheSumGivesZeroOrLeavesY) {
  const Tensor a = x({0, 6});
  const Tensor b = x({0, 5});
  const Tensor fresh = g_out({6, 5});
  backend().gemm(kLane, true, false, a, b, fresh, false);
  EXPECT_EQ(tester.read(fresh), Values(30, 0.0));
  const Tensor kept = g({6, 5});
  const Values before = tester.read(kept);
  backend().gemm(kLane, true, false, a, b, kept, true);
  EXPECT_EQ(tester.read(kept), before);
}

/// Groups of uneven size, two of them empty; six groups share three weights.
struct GroupCase {
  std::vector<std::int64_t> offsets = {0, 5, 5, 22, 23, 40, 40};
  std::int64_t rows = 40;
  std::int64_t weights = 3;
  [[nodiscard]] std::int64_t weight_of_row(std::int64_t row) const {
    std::size_t g = 0;
    while (offsets[g + 1] <= row) ++g;
    return static_cast<std::int64_t>(g) % weights;
  }
};

TEST_P(BackendContract, GroupedGemmUsesTheWeightOfEachGroup) {
  const GroupCase groups;
  constexpr std::int64_t k = 24;
  constexpr std::int64_t n = 40;
  for (const bool transpose_w : {false, true}) {
    const Tensor rows = x({groups.rows, k});
    const Tensor w = x(transpose_w ? Shape{groups.weights, n, k} : Shape{groups.weights, k, n});
    const Tensor y = x_out({groups.rows, n});
    backend().grouped_gemm(kLane, rows, w, transpose_w, groups.offsets, y);
    const Values xs = tester.read(rows);
    const Values ws = tester.read(w);
    Values expected;
    for (std::int64_t r = 0; r < groups.rows; ++r) {
      const Values row(xs.begin() + r * k, xs.begin() + (r + 1) * k);
      const auto first = ws.begin() + groups.weight_of_row(r) * k * n;
      const Values product = reference::gemm(false, transpose_w, 1, n, k, row, Values(first, first + k * n));
      expected.insert(expected.end(), product.begin(), product.end());
    }
    tester.expect_close(y, expected, "y");
  }
}

TEST_P(BackendContract, GroupedGemmWeightAddsTheProductOfEachGroup) {
  const GroupCase groups;
  constexpr std::int64_t k = 24;
  constexpr std::int64_t n = 40;
  const Tensor rows = x({groups.rows, k});
  const Tensor dy = x({groups.rows, n});
  const Tensor dw = g({groups.weights, k, n});
  Values expected = tester.read(dw);
  const Values xs = tester.read(rows);
  const Values dys = tester.read(dy);
  for (std::int64_t r = 0; r < groups.rows; ++r) {
    for (std::int64_t i = 0; i < k * n; ++i) {
      expected[static_cast<std::size_t>(groups.weight_of_row(r) * k * n + i)] +=
          xs[static_cast<std::size_t>(r * k + i / n)] * dys[static_cast<std::size_t>(r * n + i % n)];
    }
  }
  backend().grouped_gemm_weight(kLane, rows, dy, groups.offsets, dw);
  tester.expect_close(dw, expected, "dw");
}

TEST_P(BackendContract, GroupedOperatorsAcceptNoRows) {
  const std::vector<std::int64_t> offsets = {0, 0, 0};
  const Tensor rows = x({0, 8});
  const Tensor w = x({2, 8, 16});
  const Tensor y = x_out({0, 16});
  const Tensor dw = g({2, 8, 16});
  const Tensor db = g({2, 16});
  const Values dw_before = tester.read(dw);
  const Values db_before = tester.read(db);
  backend().grouped_gemm(kLane, rows, w, false, offsets, y);
  backend().bias_add(kLane, y, x({2, 16}), offsets);
  backend().activation(kLane, Activation::Gelu, y, y);
  backend().bias_gradient(kLane, y, offsets, db);
  backend().grouped_gemm_weight(kLane, rows, y, offsets, dw);
  EXPECT_EQ(tester.read(dw), dw_before);
  EXPECT_EQ(tester.read(db), db_before);
}

// Bias and activation -------------------------------------------------------------------------------------------------

TEST_P(BackendContract, BiasAddAddsTheBiasOfEachGroup) {
  const GroupCase groups;
  for (const std::int64_t n : {1, 19, 64}) {
    const Tensor y = x({groups.rows, n});
    const Tensor b = x({groups.weights, n});
    Values expected = tester.read(y);
    const Values bias = tester.read(b);
    for (std::int64_t i = 0; i < groups.rows * n; ++i) {
      expected[static_cast<std::size_t>(i)] += bias[static_cast<std::size_t>(groups.weight_of_row(i / n) * n + i % n)];
    }
    backend().bias_add(kLane, y, b, groups.offsets);
    tester.expect_close(y, expected, "y");
  }
}

TEST_P(BackendContract, BiasGradientAddsTheColumnSumsOfEachGroup) {
  const GroupCase groups;
  for (const std::int64_t n : {1, 19, 64}) {
    const Tensor dx = x({groups.rows, n});
    const Tensor db = g({groups.weights, n});
    Values expected = tester.read(db);
    const Values gradient = tester.read(dx);
    for (std::int64_t i = 0; i < groups.rows * n; ++i) {
      expected[static_cast<std::size_t>(groups.weight_of_row(i / n) * n + i % n)] +=
          gradient[static_cast<std::size_t>(i)];
    }
    backend().bias_gradient(kLane, dx, groups.offsets, db);
    tester.expect_close(db, expected, "db");
  }
}

TEST_P(BackendContract, ActivationsFollowTheirFormulas) {
  for (const Activation kind : {Activation::Gelu, Activation::Relu, Activation::SwiGlu}) {
    const std::int64_t factor = kind == Activation::SwiGlu ? 2 : 1;
    for (const std::int64_t width : {1, 19, 96}) {
      const Tensor pre = tester.random(x_type(), {7, factor * width}, -6, 6);
      const Tensor out = x_out({7, width});
      backend().activation(kLane, kind, pre, out);
      tester.expect_close(out, reference::activation(kind, 7, width, tester.read(pre)), "out");
      const Tensor dout = x({7, width});
      const Tensor dpre = x_out({7, factor * width});
      backend().activation_backward(kLane, kind, pre, dout, dpre);
      tester.expect_close(dpre, reference::activation_backward(kind, 7, width, tester.read(pre), tester.read(dout)),
                          "dpre");
    }
  }
}

TEST_P(BackendContract, ActivationsStayFiniteFarFromZero) {
  const Values far = {-1e4, -200, -100, -20, 20, 100, 200, 1e4};
  const Tensor pre = tester.upload(x_type(), {1, 8}, far);
  for (const Activation kind : {Activation::Gelu, Activation::Relu}) {
    const Tensor out = x_out({1, 8});
    backend().activation(kLane, kind, pre, out);
    tester.expect_close(out, reference::activation(kind, 1, 8, tester.read(pre)), "out");
  }
  Values gated = far;
  gated.insert(gated.end(), 8, 1.0);
  const Tensor out = x_out({1, 8});
  const Tensor pair = tester.upload(x_type(), {1, 16}, gated);
  backend().activation(kLane, Activation::SwiGlu, pair, out);
  tester.expect_close(out, reference::activation(Activation::SwiGlu, 1, 8, tester.read(pair)), "swiglu");
}

// Norm ----------------------------------------------------------------------------------------------------------------

TEST_P(BackendContract, NormNormalisesEveryRow) {
  for (const NormKind kind : {NormKind::LayerNorm, NormKind::RmsNorm}) {
    const bool layer = kind == NormKind::LayerNorm;
    for (const std::int64_t d : {3, 64, 77, 257}) {
      const Tensor source = tester.random(x_type(), {9, d}, -1, 3);
      const Tensor gain = x({d});
      const Tensor bias = x({d});
      const Tensor y = x_out({9, d});
      const Tensor mean = g_out({9});
      const Tensor rstd = g_out({9});
      backend().norm(kLane, kind, source, gain, layer ? bias : none(), 1e-5, y, layer ? mean : none(), rstd);
      const reference::Norm expected =
          reference::norm(kind, 9, tester.read(source), tester.read(gain), layer ? tester.read(bias) : Values(), 1e-5);
      tester.expect_close(y, expected.y, "y");
      tester.expect_close(rstd, expected.rstd, "rstd");
      if (layer) tester.expect_close(mean, expected.mean, "mean");
    }
  }
}

TEST_P(BackendContract, NormBackwardGivesInputGainAndBiasGradients) {
  for (int variant = 0; variant < 4; ++variant) {
    const NormKind kind = (variant & 1) != 0 ? NormKind::LayerNorm : NormKind::RmsNorm;
    const bool accumulate = (variant & 2) != 0;
    const bool layer = kind == NormKind::LayerNorm;
    for (const std::int64_t d : {3, 64, 77, 257}) {
      const Tensor source = tester.random(x_type(), {9, d}, -1, 3);
      const Tensor gain = x({d});
      const Tensor mean = g_out({9});
      const Tensor rstd = g_out({9});
      backend().norm(kLane, kind, source, gain, layer ? x({d}) : none(), 1e-5, x_out({9, d}), layer ? mean : none(),
                     rstd);
      const Tensor dy = x({9, d});
      const Tensor dx = output(x_type(), {9, d}, accumulate);
      const Tensor dgain = g({d});
      const Tensor dbias = g({d});
      const reference::NormGradient expected =
          reference::norm_backward(kind, 9, tester.read(dy), tester.read(source), tester.read(gain), 1e-5);
      const Values dx_expected = accumulated(accumulate, tester.read(dx), expected.dx);
      const Values dgain_expected = reference::sum(tester.read(dgain), expected.dgain);
      const Values dbias_expected = reference::sum(tester.read(dbias), expected.dbias);
      backend().norm_backward(kLane, kind, dy, source, gain, layer ? mean : none(), rstd, dx, accumulate, dgain,
                              layer ? dbias : none());
      tester.expect_close(dx, dx_expected, "dx");
      tester.expect_close(dgain, dgain_expected, "dgain");
      if (layer) tester.expect_close(dbias, dbias_expected, "dbias");
    }
  }
}

// Attention -----------------------------------------------------------------------------------------------------------

inline std::vector<AttentionShape> attention_shapes() {
  return {{2, 1, 2, 2, 16}, {2, 7, 4, 2, 16}, {1, 65, 4, 1, 32}, {1, 130, 2, 2, 64}, {3, 33, 6, 3, 8}};
}

TEST_P(BackendContract, AttentionIsCausalAndGroupsQueries) {
  for (const AttentionShape& shape : attention_shapes()) {
    const std::int64_t tokens = shape.batch * shape.sequence;
    const Tensor qkv = tester.random(x_type(), {tokens, (shape.heads + 2 * shape.kv_heads) * shape.head_dim}, -2, 2);
    const Tensor out = x_out({tokens, shape.heads * shape.head_dim});
    const Tensor log_sum_exp = g_out({shape.batch, shape.heads, shape.sequence});
    backend().attention(kLane, shape, qkv, out, log_sum_exp);
    const reference::Attention expected = reference::attention(shape, tester.read(qkv));
    tester.expect_close(out, expected.out, "out");
    tester.expect_close(log_sum_exp, expected.log_sum_exp, "log_sum_exp");
  }
}

TEST_P(BackendContract, AttentionBackwardGivesQueryKeyAndValueGradients) {
  for (const AttentionShape& shape : attention_shapes()) {
    const std::int64_t tokens = shape.batch * shape.sequence;
    const std::int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const Tensor qkv = tester.random(x_type(), {tokens, width}, -2, 2);
    const Tensor out = x_out({tokens, shape.heads * shape.head_dim});
    const Tensor log_sum_exp = g_out({shape.batch, shape.heads, shape.sequence});
    backend().attention(kLane, shape, qkv, out, log_sum_exp);
    const Tensor dout = x({tokens, shape.heads * shape.head_dim});
    const Tensor dqkv = x_out({tokens, width});
    backend().attention_backward(kLane, shape, qkv, out, log_sum_exp, dout, dqkv);
    tester.expect_close(dqkv, reference::attention_backward(shape, tester.read(qkv), tester.read(dout)), "dqkv");
  }
}

TEST_P(BackendContract, RopeRotatesQueriesAndKeysAndItsInverseUndoesIt) {
  for (const AttentionShape& shape : attention_shapes()) {
    const Shape sizes = {shape.batch * shape.sequence, (shape.heads + 2 * shape.kv_heads) * shape.head_dim};
    const Tensor qkv = x(sizes);
    const Values before = tester.read(qkv);
    backend().rope(kLane, shape, 10000.0, qkv, false);
    tester.expect_close(qkv, reference::rope(shape, 10000.0, before), "rotated");
    backend().rope(kLane, shape, 10000.0, qkv, true);
    tester.expect_close(qkv, before, "undone");
  }
}

// Embedding and loss --------------------------------------------------------------------------------------------------

TEST_P(BackendContract, EmbeddingAddsTokenAndPosition) {
  constexpr std::int64_t batch = 3, sequence = 5, d = 19, vocabulary = 11;
  for (const bool with_positions : {true, false}) {
    const Integers ids = tester.random_integers(batch * sequence, vocabulary);
    const Tensor tokens = x({vocabulary, d});
    const Tensor positions = x({sequence + 2, d});
    const Tensor out = x_out({batch * sequence, d});
    backend().embedding(kLane, tester.upload({batch * sequence}, ids), tokens, with_positions ? positions : none(),
                        sequence, out);
    const Values token_values = tester.read(tokens);
    const Values position_values = tester.read(positions);
    Values expected;
    for (std::int64_t i = 0; i < batch * sequence * d; ++i) {
      const std::int64_t t = i / d;
      const double position = position_values[static_cast<std::size_t>(t % sequence * d + i % d)];
      expected.push_back(token_values[static_cast<std::size_t>(ids[static_cast<std::size_t>(t)] * d + i % d)] +
                         (with_positions ? position : 0));
    }
    tester.expect_close(out, expected, "out");
  }
}

TEST_P(BackendContract, EmbeddingBackwardAddsEveryUseOfATokenAndPosition) {
  constexpr std::int64_t batch = 3, sequence = 5, d = 19, vocabulary = 4;  // tokens repeat
  for (const bool with_positions : {true, false}) {
    const Integers ids = tester.random_integers(batch * sequence, vocabulary);
    const Tensor dout = x({batch * sequence, d});
    const Tensor dtokens = g({vocabulary, d});
    const Tensor dpositions = g({sequence + 2, d});
    Values expected_tokens = tester.read(dtokens);
    Values expected_positions = tester.read(dpositions);
    const Values gradient = tester.read(dout);
    for (std::int64_t i = 0; i < batch * sequence * d; ++i) {
      const double value = gradient[static_cast<std::size_t>(i)];
      expected_tokens[static_cast<std::size_t>(ids[static_cast<std::size_t>(i / d)] * d + i % d)] += value;
      if (with_positions) expected_positions[static_cast<std::size_t>(i / d % sequence * d + i % d)] += value;
    }
    backend().embedding_backward(kLane, tester.upload({batch * sequence}, ids), dout, sequence, dtokens,
                                 with_positions ? dpositions : none());
    tester.expect_close(dtokens, expected_tokens, "dtokens");
    tester.expect_close(dpositions, expected_positions, "dpositions");
  }
}

TEST_P(BackendContract, CrossEntropyGivesLossAndOverwritesLogitsByTheGradient) {
  for (const std::int64_t vocabulary : {2, 37, 256, 1003}) {
    const Tensor logits = tester.random(x_type(), {6, vocabulary}, -9, 9);
    const Integers targets = tester.random_integers(6, static_cast<std::int32_t>(vocabulary));
    const Tensor loss = g_out({6});
    const reference::CrossEntropy expected = reference::cross_entropy(6, tester.read(logits), targets, 0.125);
    backend().cross_entropy(kLane, logits, tester.upload({6}, targets), 0.125, loss);
    tester.expect_close(loss, expected.loss, "loss");
    tester.expect_close(logits, expected.dlogits, "logits");
  }
}

// Gate and permutation ------------------------------------------------------------------------------------------------

inline std::vector<GateRule> gate_rules() {
  return {{RouterKind::SoftmaxTopK, 1, true},
          {RouterKind::SoftmaxTopK, 2, true},
          {RouterKind::SoftmaxTopK, 3, false},
          {RouterKind::TopKSoftmax, 1, true},
          {RouterKind::TopKSoftmax, 2, true}};
}

inline GateTensors gate_tensors(BackendTester& tester, std::int64_t tokens, std::int64_t experts, std::int64_t k) {
  GateTensors out;
  out.scores = tester.poisoned(tester.gradient(), {tokens, experts});
  out.expert = tester.poisoned(DType::I32, {tokens, k});
  out.weight = tester.poisoned(tester.gradient(), {tokens, k});
  out.row = tester.poisoned(DType::I32, {tokens, k});
  out.count = tester.poisoned(DType::I32, {experts});
  out.balance_loss = tester.poisoned(tester.gradient(), {1});
  return out;
}

inline void expect_gate(BackendTester& tester, const GateTensors& out, const reference::Gate& expected) {
  tester.expect_close(out.scores, expected.scores, "scores");
  tester.expect_close(out.weight, expected.weight, "weight");
  EXPECT_EQ(tester.read_integers(out.expert), expected.expert);
  EXPECT_EQ(tester.read_integers(out.row), expected.row);
  EXPECT_EQ(tester.read_integers(out.count), expected.count);
  tester.expect_close(out.balance_loss, {expected.balance_loss}, "balance_loss");
}

TEST_P(BackendContract, GateChoosesWeighsAndPlacesEveryToken) {
  constexpr std::int64_t tokens = 41;
  for (const std::int64_t experts : {4, 7, 33}) {
    for (const GateRule& rule : gate_rules()) {
      for (const std::optional<std::int64_t> capacity :
           {std::optional<std::int64_t>(), std::optional<std::int64_t>(5)}) {
        const Tensor logits = tester.random(g_type(), {tokens, experts}, -3, 3);
        const GateTensors out = gate_tensors(tester, tokens, experts, rule.top_k);
        backend().gate(kLane, rule, capacity, {logits}, out);
        expect_gate(tester, out, reference::gate(rule, capacity, tokens, tester.read(logits)));
      }
    }
  }
}

TEST_P(BackendContract, GateGivesTiesToTheLowerExpert) {
  for (const GateRule& rule : gate_rules()) {
    const Tensor logits = tester.upload(g_type(), {3, 4}, {1, 1, 1, 1, 0, 2, 2, 0, 0, 1, 0, 1});
    const GateTensors out = gate_tensors(tester, 3, 4, rule.top_k);
    backend().gate(kLane, rule, std::nullopt, {logits}, out);
    expect_gate(tester, out, reference::gate(rule, std::nullopt, 3, tester.read(logits)));
    const Integers expert = tester.read_integers(out.expert);
    EXPECT_EQ(expert[0], 0);
    EXPECT_EQ(expert[static_cast<std::size_t>(rule.top_k)], 1);
  }
}

TEST_P(BackendContract, GateBackwardGivesLogitGradients) {
  constexpr std::int64_t tokens = 23;
  for (const std::int64_t experts : {4, 33}) {
    for (const GateRule& rule : gate_rules()) {
      const Tensor logits = tester.random(g_type(), {tokens, experts}, -3, 3);
      const GateTensors saved = gate_tensors(tester, tokens, experts, rule.top_k);
      backend().gate(kLane, rule, std::nullopt, {logits}, saved);
      const Tensor dweight = g({tokens, rule.top_k});
      const Tensor dlogits = g_out({tokens, experts});
      backend().gate_backward(kLane, rule, {logits}, saved, {0.7}, {dweight, {}, dlogits});
      const Values expected = reference::gate_backward(rule, tokens, tester.read(logits), tester.read(dweight), 0.7);
      tester.expect_close(dlogits, expected, "dlogits", 1e-6);
    }
  }
}

/// Destination rows of 9 tokens with 2 choices among 24 rows: distinct, some dropped, some rows unused.
struct PermutationCase {
  static constexpr std::int64_t tokens = 9, choices = 2, rows = 24;
  Integers row = {3, 17, 0, -1, 5, 23, -1, -1, 9, 8, 1, 2, 22, 12, -1, 14, 6, 20};
};

TEST_P(BackendContract, PermutePlacesTokensAndClearsUnusedRows) {
  const PermutationCase c;
  for (const std::int64_t d : {1, 19, 64}) {
    const Tensor source = x({c.tokens, d});
    const Tensor out = x_out({c.rows, d});
    backend().permute(kLane, source, tester.upload({c.tokens, c.choices}, c.row), out);
    const Values values = tester.read(source);
    Values expected(static_cast<std::size_t>(c.rows * d), 0.0);
    for (std::size_t i = 0; i < c.row.size(); ++i) {
      if (c.row[i] < 0) continue;
      const auto token = values.begin() + static_cast<std::int64_t>(i) / c.choices * d;
      std::copy(token, token + d, expected.begin() + c.row[i] * d);
    }
    EXPECT_EQ(tester.read(out), expected);
  }
}

TEST_P(BackendContract, PermuteBackwardSumsTheChoicesOfAToken) {
  const PermutationCase c;
  for (const bool accumulate : {false, true}) {
    constexpr std::int64_t d = 19;
    const Tensor dout = x({c.rows, d});
    const Tensor dx = output(x_type(), {c.tokens, d}, accumulate);
    const Values values = tester.read(dout);
    Values gradient(static_cast<std::size_t>(c.tokens * d), 0.0);
    for (std::int64_t i = 0; i < c.tokens * c.choices * d; ++i) {
      const std::int32_t row = c.row[static_cast<std::size_t>(i / d)];
      if (row >= 0)
        gradient[static_cast<std::size_t>(i / d / c.choices * d + i % d)] +=
            values[static_cast<std::size_t>(row * d + i % d)];
    }
    const Values expected = accumulated(accumulate, tester.read(dx), gradient);
    backend().permute_backward(kLane, dout, tester.upload({c.tokens, c.choices}, c.row), dx, accumulate);
    tester.expect_close(dx, expected, "dx");
  }
}

TEST_P(BackendContract, UnpermuteSumsWeightedRows) {
  const PermutationCase c;
  for (const bool accumulate : {false, true}) {
    constexpr std::int64_t d = 19;
    const Tensor rows = x({c.rows, d});
    const Tensor weight = g({c.tokens, c.choices});
    const Tensor out = output(x_type(), {c.tokens, d}, accumulate);
    const Values values = tester.read(rows);
    const Values weights = tester.read(weight);
    Values sums(static_cast<std::size_t>(c.tokens * d), 0.0);
    for (std::int64_t i = 0; i < c.tokens * c.choices * d; ++i) {
      const std::int32_t row = c.row[static_cast<std::size_t>(i / d)];
      if (row < 0) continue;
      sums[static_cast<std::size_t>(i / d / c.choices * d + i % d)] +=
          weights[static_cast<std::size_t>(i / d)] * values[static_cast<std::size_t>(row * d + i % d)];
    }
    const Values expected = accumulated(accumulate, tester.read(out), sums);
    backend().unpermute(kLane, rows, tester.upload({c.tokens, c.choices}, c.row), weight, out, accumulate);
    tester.expect_close(out, expected, "out");
  }
}

TEST_P(BackendContract, UnpermuteBackwardGivesRowAndWeightGradients) {
  const PermutationCase c;
  for (const std::int64_t d : {1, 19, 64}) {
    const Tensor dout = x({c.tokens, d});
    const Tensor rows = x({c.rows, d});
    const Tensor weight = g({c.tokens, c.choices});
    const Tensor drows = x_out({c.rows, d});
    const Tensor dweight = g_out({c.tokens, c.choices});
    backend().unpermute_backward(kLane, dout, rows, tester.upload({c.tokens, c.choices}, c.row), weight, drows,
                                 dweight);
    const Values gradient = tester.read(dout);
    const Values values = tester.read(rows);
    const Values weights = tester.read(weight);
    Values expected_rows(static_cast<std::size_t>(c.rows * d), 0.0);
    Values expected_weight(c.row.size(), 0.0);
    for (std::int64_t i = 0; i < c.tokens * c.choices * d; ++i) {
      const std::size_t choice = static_cast<std::size_t>(i / d);
      if (c.row[choice] < 0) continue;
      const double dy = gradient[static_cast<std::size_t>(i / d / c.choices * d + i % d)];
      const std::size_t at = static_cast<std::size_t>(c.row[choice] * d + i % d);
      expected_rows[at] = weights[choice] * dy;
      expected_weight[choice] += dy * values[at];
    }
    tester.expect_close(drows, expected_rows, "drows");
    tester.expect_close(dweight, expected_weight, "dweight");
  }
}

// Optimizer -----------------------------------------------------------------------------------------------------------

TEST_P(BackendContract, AdamWUpdatesMasterMomentsAndWeight) {
  for (const bool same_memory : {false, true}) {
    if (same_memory && x_type() != g_type()) continue;
    const Shape shape = {137};
    const Tensor master = g(shape);
    const Tensor gradient = g(shape);
    const Tensor first = tester.random(g_type(), shape, -0.1, 0.1);
    const Tensor second = tester.random(g_type(), shape, 0, 0.1);
    const Tensor weight = same_memory ? master : x_out(shape);
    const AdamWStep step = {1e-2, 0.9, 0.999, 1e-8, 0.1, 0.5, 3};
    Values theta = tester.read(master);
    Values m = tester.read(first);
    Values v = tester.read(second);
    const Values g_values = tester.read(gradient);
    for (std::size_t i = 0; i < theta.size(); ++i) {
      const double slope = g_values[i] * step.gradient_scale;
      m[i] = step.beta1 * m[i] + (1 - step.beta1) * slope;
      v[i] = step.beta2 * v[i] + (1 - step.beta2) * slope * slope;
      const double m_hat = m[i] / (1 - std::pow(step.beta1, 3));
      const double v_hat = v[i] / (1 - std::pow(step.beta2, 3));
      theta[i] -= step.learning_rate * (m_hat / (std::sqrt(v_hat) + step.epsilon) + step.weight_decay * theta[i]);
    }
    backend().adamw(kLane, step, master, gradient, first, second, weight);
    tester.expect_close(first, m, "first moment");
    tester.expect_close(second, v, "second moment");
    tester.expect_close(master, theta, "master");
    tester.expect_close(weight, theta, "weight");
  }
}

TEST_P(BackendContract, SquaredNormSumsSquaresInDouble) {
  for (const std::int64_t count : {1, 100003}) {
    const Tensor source = g({count});
    const Tensor out = tester.poisoned(DType::F64, {1});
    double expected = 0;
    for (const double value : tester.read(source)) expected += value * value;
    backend().squared_norm(kLane, source, out, false);
    EXPECT_NEAR(tester.read(out)[0], expected, 1e-10 * expected);
    backend().squared_norm(kLane, source, out, true);
    EXPECT_NEAR(tester.read(out)[0], 2 * expected, 2e-10 * expected);
  }
}

// Determinism ---------------------------------------------------------------------------------------------------------

TEST_P(BackendContract, ReductionsGiveTheSameBitsAgain) {
  if (!GetParam().deterministic) GTEST_SKIP() << "not promised by " << GetParam().name;
  const AttentionShape shape = {2, 67, 4, 2, 16};
  const Tensor qkv = x({134, 128});
  const Tensor dout = x({134, 64});
  const Tensor gain = x({64});
  const Tensor ids = tester.upload({134}, tester.random_integers(134, 5));
  const auto run = [&] {
    const Tensor out = x_out({134, 64});
    const Tensor log_sum_exp = g_out({2, 4, 67});
    const Tensor dqkv = x_out({134, 128});
    const Tensor rstd = g_out({134});
    const Tensor gradients = tester.upload(g_type(), {64 + 5 * 64 + 64 * 64}, Values(64 + 5 * 64 + 64 * 64, 0.0));
    backend().attention(kLane, shape, qkv, out, log_sum_exp);
    backend().attention_backward(kLane, shape, qkv, out, log_sum_exp, dout, dqkv);
    backend().norm(kLane, NormKind::RmsNorm, out, gain, none(), 1e-5, x_out({134, 64}), none(), rstd);
    backend().norm_backward(kLane, NormKind::RmsNorm, dout, out, gain, none(), rstd, x_out({134, 64}), false,
                            gradients.slice(0, 64), none());
    backend().embedding_backward(kLane, ids, dout, 67, gradients.slice(64, 64 + 320).reshaped({5, 64}), none());
    backend().gemm(kLane, true, false, dout, out, gradients.slice(384, 384 + 4096).reshaped({64, 64}), true);
    std::vector<std::byte> bits = tester.read_bytes(dqkv);
    const std::vector<std::byte> more = tester.read_bytes(gradients);
    bits.insert(bits.end(), more.begin(), more.end());
    return bits;
  };
  EXPECT_EQ(run(), run());
}

}  // namespace moecast::testing
