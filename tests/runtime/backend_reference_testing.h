#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/gate.h"
#include "models/moe_model.h"
#include "runtime/backend.h"
#include "tests/runtime/backend_testing.h"

/// Every operator once more in double, as plain loops written from the definition. Slow and obvious.
namespace moecast::testing::reference {

/// op(a) [m,k] times op(b) [k,n].
[[nodiscard]] Values gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                          const Values& a, const Values& b);
[[nodiscard]] Values sum(const Values& a, const Values& b);
[[nodiscard]] Values transposed(const Values& x, std::int64_t rows, std::int64_t columns);

[[nodiscard]] double activate(Activation kind, double x);  // GELU, ReLU; silu for SwiGLU
[[nodiscard]] double activation_slope(Activation kind, double x);
[[nodiscard]] Values activation(Activation kind, std::int64_t rows, std::int64_t width, const Values& pre);
[[nodiscard]] Values activation_backward(Activation kind, std::int64_t rows, std::int64_t width, const Values& pre,
                                         const Values& dout);

struct Norm {
  Values y, mean, rstd;
};
[[nodiscard]] Norm norm(NormKind kind, std::int64_t rows, const Values& x, const Values& gain, const Values& bias,
                        double epsilon);
struct NormGradient {
  Values dx, dgain, dbias;
};
[[nodiscard]] NormGradient norm_backward(NormKind kind, std::int64_t rows, const Values& dy, const Values& x,
                                         const Values& gain, double epsilon);

struct Attention {
  Values out, log_sum_exp;
};
[[nodiscard]] Attention attention(const AttentionShape& shape, const Values& qkv);
[[nodiscard]] Values attention_backward(const AttentionShape& shape, const Values& qkv, const Values& dout);
[[nodiscard]] Values rope(const AttentionShape& shape, double theta, const Values& qkv);

struct CrossEntropy {
  Values loss, dlogits;
};
[[nodiscard]] CrossEntropy cross_entropy(std::int64_t rows, const Values& logits, const Integers& targets,
                                         double scale);

struct Gate {
  Values scores, weight;
  Integers expert, row, count;
  double balance_loss = 0;
};
[[nodiscard]] Gate gate(const GateRule& rule, std::optional<std::int64_t> capacity, std::int64_t tokens,
                        const Values& logits);
/// Central differences of sum(dweight * weight) + balance_scale * balance_loss, the choice of experts held fixed.
[[nodiscard]] Values gate_backward(const GateRule& rule, std::int64_t tokens, const Values& logits,
                                   const Values& dweight, double balance_scale);

}  // namespace moecast::testing::reference
