#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "base/random.h"
#include "runtime/backend.h"

namespace moecast::cpu {

/// One gate call with typed memory; meanings are those of GateInput and GateTensors. What the caller left out is null.
template <typename T>
struct GateCall {
  using Index = std::int64_t;

  GateRule rule;
  GateDraws draws;
  Index tokens = 0;
  Index experts = 0;    // E, all that the router chooses among
  Index computing = 0;  // of them, those that are no zero experts
  Index choices = 0;    // K
  const T* logits = nullptr;
  const T* noise_logits = nullptr;
  const T* bias = nullptr;
  const std::int32_t* ids = nullptr;
  const std::int32_t* taken = nullptr;  // [T, k]
  T* scores = nullptr;
  std::int32_t* expert = nullptr;
  T* weight = nullptr;
  std::int32_t* row = nullptr;
  std::int32_t* count = nullptr;
  T* balance_loss = nullptr;
  T* losses = nullptr;
  T* zero_weight = nullptr;

  [[nodiscard]] bool noisy() const { return rule.router == RouterKind::NoisyTopK; }
  /// Weights are a softmax over the chosen logits.
  [[nodiscard]] bool softmax_of_chosen() const { return rule.router == RouterKind::TopKSoftmax || noisy(); }
  /// Weights are the chosen scores divided by their sum.
  [[nodiscard]] bool renormalizes() const {
    if (rule.router == RouterKind::RandomSecond) return true;
    const bool scored = rule.router == RouterKind::SoftmaxTopK || rule.router == RouterKind::SigmoidTopK;
    return scored && rule.renormalize && rule.top_k > 1;
  }
  [[nodiscard]] T noise(Index token, Index e) const {
    if (!draws.explores) return T(0);
    const CounterRandom random(draws.seed, draws.stream);
    return static_cast<T>(
        random.normal(draws.first_token + static_cast<std::uint64_t>(token), static_cast<std::uint64_t>(e)));
  }
};

template <typename T>
T softplus(T x) {
  return std::log1p(std::exp(-std::abs(x))) + (x > T(0) ? x : T(0));
}

template <typename T>
T sigmoid_of(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

/// Softmax of `count` values; returns the logarithm of the sum of their exponentials. y may be x.
template <typename T>
T softmax(const T* x, T* y, std::int64_t count) {
  T largest = x[0];
  for (std::int64_t i = 1; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  T sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += y[i] = std::exp(x[i] - largest);
  for (std::int64_t i = 0; i < count; ++i) y[i] /= sum;
  return largest + std::log(sum);
}

/// What softmax and top-k see of one token: its logits, with their noise if they have any.
template <typename T>
void seen_logits(const GateCall<T>& call, std::int64_t token, T* h) {
  const T* x = call.logits + token * call.experts;
  for (std::int64_t e = 0; e < call.experts; ++e) {
    h[e] = x[e];
    if (call.noisy()) h[e] += call.noise(token, e) * softplus(call.noise_logits[token * call.experts + e]);
  }
}

/// Scores, chosen experts, their weights and rows.
template <typename T>
void choose_experts(const GateCall<T>& call, std::optional<std::int64_t> capacity);

/// Values of the losses.
template <typename T>
void add_up_losses(const GateCall<T>& call);

/// Gradients of the losses with respect to what they are made of, for one call. Scales are those of GateLossScales.
template <typename T>
class LossGradients {
 public:
  LossGradients(const GateCall<T>& call, const GateLossScales& scales);

  /// At the combine weight of this expert (importance).
  [[nodiscard]] T weight(std::int64_t expert) const { return importance_[static_cast<std::size_t>(expert)]; }
  /// Adds to the gradient at a token's scores (balance).
  void add_scores(std::int64_t token, T* dscores) const;
  /// Adds to the gradients at a token's logits (z), at its logits with noise and at its noise logits (load).
  void add_logits(std::int64_t token, const T* h, T* dlogits, T* dh, T* dnoise) const;

 private:
  const GateCall<T>& call_;
  T balance_, z_;
  std::vector<T> share_, importance_, load_;
};

/// As Backend::gate_backward.
template <typename T>
struct GateBackwardCall {
  const T* dweight = nullptr;
  const T* dzero = nullptr;
  T* dlogits = nullptr;
  T* dnoise = nullptr;
  T* load = nullptr;
};
template <typename T>
void run_gate_backward(const GateCall<T>& call, const GateLossScales& scales, const GateBackwardCall<T>& gradients);

}  // namespace moecast::cpu
