#include "tests/runtime/backend_reference_testing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moecast::testing::reference {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

Values softmax(const Values& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  Values y;
  for (const double value : x) y.push_back(std::exp(value - largest));
  const double total = std::accumulate(y.begin(), y.end(), 0.0);
  for (double& value : y) value /= total;
  return y;
}

Values row_of(const Values& x, std::int64_t row, std::int64_t columns) {
  return Values(x.begin() + row * columns, x.begin() + (row + 1) * columns);
}

}  // namespace

Values gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const Values& a,
            const Values& b) {
  Values y(at(m * n), 0.0);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t l = 0; l < k; ++l) {
        y[at(i * n + j)] += a[at(transpose_a ? l * m + i : i * k + l)] * b[at(transpose_b ? j * k + l : l * n + j)];
      }
    }
  }
  return y;
}

Values sum(const Values& a, const Values& b) {
  Values y = a;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += b.at(i);
  return y;
}

Values transposed(const Values& x, std::int64_t rows, std::int64_t columns) {
  Values y(x.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) y[at(c * rows + r)] = x[at(r * columns + c)];
  }
  return y;
}

double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::Gelu:
    case Activation::GeGlu:  // of its gate
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::Relu:
      return x > 0 ? x : 0;
    case Activation::SwiGlu:
      return x / (1 + std::exp(-x));
  }
  return 0;
}

double activation_slope(Activation kind, double x) {
  switch (kind) {
    case Activation::Gelu:
    case Activation::GeGlu:  // of its gate
      return 0.5 * (1 + std::erf(x / std::sqrt(2.0))) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
    case Activation::Relu:
      return x > 0 ? 1 : 0;
    case Activation::SwiGlu: {
      const double s = 1 / (1 + std::exp(-x));
      return s + x * s * (1 - s);
    }
  }
  return 0;
}

Values activation(Activation kind, std::int64_t rows, std::int64_t width, const Values& pre) {
  Values out;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      if (kind == Activation::SwiGlu) {
        out.push_back(activate(kind, pre[at(r * 2 * width + c)]) * pre[at(r * 2 * width + width + c)]);
      } else {
        out.push_back(activate(kind, pre[at(r * width + c)]));
      }
    }
  }
  return out;
}

Values activation_backward(Activation kind, std::int64_t rows, std::int64_t width, const Values& pre,
                           const Values& dout) {
  Values dpre(pre.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      const double dy = dout[at(r * width + c)];
      if (kind == Activation::SwiGlu) {
        const std::size_t gate = at(r * 2 * width + c);
        const std::size_t up = at(r * 2 * width + width + c);
        dpre[gate] = dy * activation_slope(kind, pre[gate]) * pre[up];
        dpre[up] = dy * activate(kind, pre[gate]);
      } else {
        dpre[at(r * width + c)] = dy * activation_slope(kind, pre[at(r * width + c)]);
      }
    }
  }
  return dpre;
}

Norm norm(NormKind kind, std::int64_t rows, const Values& x, const Values& gain, const Values& bias, double epsilon) {
  Norm result;
  const std::int64_t n = static_cast<std::int64_t>(gain.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    const Values row = row_of(x, r, n);
    const double mean =
        kind == NormKind::LayerNorm ? std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(n) : 0.0;
    double variance = 0;
    for (const double value : row) variance += (value - mean) * (value - mean) / static_cast<double>(n);
    const double rstd = 1 / std::sqrt(variance + epsilon);
    result.mean.push_back(mean);
    result.rstd.push_back(rstd);
    for (std::int64_t c = 0; c < n; ++c) {
      result.y.push_back((row[at(c)] - mean) * rstd * gain[at(c)] + (bias.empty() ? 0 : bias[at(c)]));
    }
  }
  return result;
}

/// dx_i = sum_j dy_j gain_j dxhat_j / dx_i with the Jacobian of xhat written out.
NormGradient norm_backward(NormKind kind, std::int64_t rows, const Values& dy, const Values& x, const Values& gain,
                           double epsilon) {
  const std::int64_t n = static_cast<std::int64_t>(gain.size());
  const double center = kind == NormKind::LayerNorm ? 1.0 / static_cast<double>(n) : 0.0;
  const Norm forward = norm(kind, rows, x, gain, {}, epsilon);
  NormGradient result{Values(x.size(), 0.0), Values(gain.size(), 0.0), Values(gain.size(), 0.0)};
  for (std::int64_t r = 0; r < rows; ++r) {
    const double rstd = forward.rstd[at(r)];
    const auto xhat = [&](std::int64_t c) { return (x[at(r * n + c)] - forward.mean[at(r)]) * rstd; };
    for (std::int64_t j = 0; j < n; ++j) {
      const double dyj = dy[at(r * n + j)];
      result.dgain[at(j)] += dyj * xhat(j);
      result.dbias[at(j)] += dyj;
      for (std::int64_t i = 0; i < n; ++i) {
        const double jacobian = rstd * ((i == j ? 1.0 : 0.0) - center - xhat(i) * xhat(j) / static_cast<double>(n));
        result.dx[at(r * n + i)] += dyj * gain[at(j)] * jacobian;
      }
    }
  }
  return result;
}

namespace {

/// Index of element `d` of the q (part 0), k (1) or v (2) row of a query head.
std::size_t qkv_index(const AttentionShape& s, std::int64_t sample, std::int64_t position, int part, std::int64_t head,
                      std::int64_t d) {
  const std::int64_t kv_head = head / (s.heads / s.kv_heads);
  const std::int64_t first[3] = {head, s.heads + kv_head, s.heads + s.kv_heads + kv_head};
  const std::int64_t token = sample * s.sequence + position;
  return at((token * (s.heads + 2 * s.kv_heads) + first[part]) * s.head_dim + d);
}

/// Scaled scores of one query against the keys that it may see.
Values visible_scores(const AttentionShape& s, const Values& qkv, std::int64_t sample, std::int64_t head,
                      std::int64_t query) {
  Values scores;
  for (std::int64_t key = 0; key <= query; ++key) {
    double score = 0;
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      score += qkv[qkv_index(s, sample, query, 0, head, d)] * qkv[qkv_index(s, sample, key, 1, head, d)];
    }
    scores.push_back(score / std::sqrt(static_cast<double>(s.head_dim)));
  }
  return scores;
}

std::size_t out_index(const AttentionShape& s, std::int64_t sample, std::int64_t position, std::int64_t head,
                      std::int64_t d) {
  return at(((sample * s.sequence + position) * s.heads + head) * s.head_dim + d);
}

template <typename Body>
void for_queries(const AttentionShape& s, const Body& body) {
  for (std::int64_t sample = 0; sample < s.batch; ++sample) {
    for (std::int64_t head = 0; head < s.heads; ++head) {
      for (std::int64_t query = 0; query < s.sequence; ++query) body(sample, head, query);
    }
  }
}

}  // namespace

Attention attention(const AttentionShape& s, const Values& qkv) {
  Attention result;
  result.out.assign(at(s.batch * s.sequence * s.heads * s.head_dim), 0.0);
  for_queries(s, [&](std::int64_t sample, std::int64_t head, std::int64_t query) {
    const Values scores = visible_scores(s, qkv, sample, head, query);
    const Values p = softmax(scores);
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (const double score : scores) total += std::exp(score - largest);
    result.log_sum_exp.push_back(largest + std::log(total));
    for (std::int64_t key = 0; key <= query; ++key) {
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        result.out[out_index(s, sample, query, head, d)] += p[at(key)] * qkv[qkv_index(s, sample, key, 2, head, d)];
      }
    }
  });
  return result;
}

Values attention_backward(const AttentionShape& s, const Values& qkv, const Values& dout) {
  Values dqkv(qkv.size(), 0.0);
  for_queries(s, [&](std::int64_t sample, std::int64_t head, std::int64_t query) {
    const Values p = softmax(visible_scores(s, qkv, sample, head, query));
    Values dp(p.size(), 0.0);
    for (std::int64_t key = 0; key <= query; ++key) {
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        const double dy = dout[out_index(s, sample, query, head, d)];
        dp[at(key)] += dy * qkv[qkv_index(s, sample, key, 2, head, d)];
        dqkv[qkv_index(s, sample, key, 2, head, d)] += dy * p[at(key)];
      }
    }
    const double mean = std::inner_product(p.begin(), p.end(), dp.begin(), 0.0);
    for (std::int64_t key = 0; key <= query; ++key) {
      const double ds = p[at(key)] * (dp[at(key)] - mean) / std::sqrt(static_cast<double>(s.head_dim));
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        const std::size_t q = qkv_index(s, sample, query, 0, head, d);
        const std::size_t k = qkv_index(s, sample, key, 1, head, d);
        dqkv[q] += ds * qkv[k];
        dqkv[k] += ds * qkv[q];
      }
    }
  });
  return dqkv;
}

Values rope(const AttentionShape& s, double theta, const Values& qkv) {
  Values y = qkv;
  const std::int64_t half = s.head_dim / 2;
  for (std::int64_t t = 0; t < s.batch * s.sequence; ++t) {
    for (std::int64_t head = 0; head < s.heads + s.kv_heads; ++head) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(s.head_dim);
        const double angle = static_cast<double>(t % s.sequence) / std::pow(theta, exponent);
        const std::size_t low = at((t * (s.heads + 2 * s.kv_heads) + head) * s.head_dim + i);
        const std::size_t high = low + at(half);
        y[low] = qkv[low] * std::cos(angle) - qkv[high] * std::sin(angle);
        y[high] = qkv[high] * std::cos(angle) + qkv[low] * std::sin(angle);
      }
    }
  }
  return y;
}

CrossEntropy cross_entropy(std::int64_t rows, const Values& logits, const Integers& targets, double scale) {
  CrossEntropy result;
  const std::int64_t n = static_cast<std::int64_t>(logits.size()) / rows;
  for (std::int64_t r = 0; r < rows; ++r) {
    const Values p = softmax(row_of(logits, r, n));
    result.loss.push_back(-std::log(p[at(targets[at(r)])]));
    for (std::int64_t c = 0; c < n; ++c) {
      result.dlogits.push_back((p[at(c)] - (c == targets[at(r)] ? 1.0 : 0.0)) * scale);
    }
  }
  return result;
}

namespace {

/// Expert numbers by falling value; equal values by rising number.
Integers ranking(const Values& values) {
  Integers order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[at(a)] > values[at(b)]; });
  return order;
}

Values chosen_weights(const GateRule& rule, const Values& logits, const Integers& chosen) {
  const Values scores = softmax(logits);
  Values weight;
  for (const std::int32_t e : chosen)
    weight.push_back(rule.router == RouterKind::TopKSoftmax ? logits[at(e)] : scores[at(e)]);
  if (rule.router == RouterKind::TopKSoftmax) return softmax(weight);
  if (!rule.renormalize || rule.top_k == 1) return weight;
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  for (double& value : weight) value /= total;
  return weight;
}

Integers assign_rows(const Gate& gate, std::int64_t k, std::optional<std::int64_t> capacity) {
  const std::int64_t tokens = static_cast<std::int64_t>(gate.expert.size()) / k;
  Integers row(gate.expert.size());
  for (std::int64_t j = 0; j < k; ++j) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int32_t expert = gate.expert[at(t * k + j)];
      std::int32_t slot = 0;  // earlier choices of the same expert, all first choices before second ones
      for (std::int64_t i = 0; i <= j; ++i) {
        for (std::int64_t u = 0; u < (i < j ? tokens : t); ++u) slot += gate.expert[at(u * k + i)] == expert ? 1 : 0;
      }
      std::int32_t base = 0;
      for (std::int32_t e = 0; e < expert; ++e)
        base += capacity ? static_cast<std::int32_t>(*capacity) : gate.count[at(e)];
      row[at(t * k + j)] = capacity && slot >= *capacity ? -1 : base + slot;
    }
  }
  return row;
}

/// E sum_e f_e P_e, f counted from the first choices that are given.
double balance_loss(std::int64_t tokens, std::int64_t k, const Integers& expert, const Values& scores) {
  const std::int64_t experts = static_cast<std::int64_t>(scores.size()) / tokens;
  double loss = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    double share = 0;
    double mean = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      share += expert[at(t * k)] == e ? 1.0 / static_cast<double>(tokens) : 0.0;
      mean += scores[at(t * experts + e)] / static_cast<double>(tokens);
    }
    loss += static_cast<double>(experts) * share * mean;
  }
  return loss;
}

}  // namespace

Gate gate(const GateRule& rule, std::optional<std::int64_t> capacity, std::int64_t tokens, const Values& logits) {
  Gate result;
  const std::int64_t experts = static_cast<std::int64_t>(logits.size()) / tokens;
  result.count.assign(at(experts), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Values row = row_of(logits, t, experts);
    const Values scores = softmax(row);
    Integers chosen = ranking(row);  // softmax keeps the order
    chosen.resize(at(rule.top_k));
    const Values weight = chosen_weights(rule, row, chosen);
    result.scores.insert(result.scores.end(), scores.begin(), scores.end());
    result.expert.insert(result.expert.end(), chosen.begin(), chosen.end());
    result.weight.insert(result.weight.end(), weight.begin(), weight.end());
    for (const std::int32_t e : chosen) ++result.count[at(e)];
  }
  result.row = assign_rows(result, rule.top_k, capacity);
  result.balance_loss = balance_loss(tokens, rule.top_k, result.expert, result.scores);
  return result;
}

Values gate_backward(const GateRule& rule, std::int64_t tokens, const Values& logits, const Values& dweight,
                     double balance_scale) {
  const std::int64_t experts = static_cast<std::int64_t>(logits.size()) / tokens;
  const Gate fixed = gate(rule, std::nullopt, tokens, logits);
  const std::int64_t k = rule.top_k;
  const auto objective = [&](std::int64_t t, const Values& row) {
    const Integers chosen(fixed.expert.begin() + t * k, fixed.expert.begin() + (t + 1) * k);
    const Values weight = chosen_weights(rule, row, chosen);
    Values scores = fixed.scores;
    const Values changed = softmax(row);
    std::copy(changed.begin(), changed.end(), scores.begin() + t * experts);
    double value = balance_scale * balance_loss(tokens, k, fixed.expert, scores);
    for (std::int64_t j = 0; j < k; ++j) value += dweight[at(t * k + j)] * weight[at(j)];
    return value;
  };
  Values dlogits;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t e = 0; e < experts; ++e) {
      constexpr double kStep = 1e-4;
      Values up = row_of(logits, t, experts);
      Values down = up;
      up[at(e)] += kStep;
      down[at(e)] -= kStep;
      dlogits.push_back((objective(t, up) - objective(t, down)) / (2 * kStep));
    }
  }
  return dlogits;
}

}  // namespace moecast::testing::reference
