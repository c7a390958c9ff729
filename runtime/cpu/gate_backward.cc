#include <algorithm>

#include "runtime/cpu/gate_call.h"

namespace moecast::cpu {
namespace {

using Index = std::int64_t;

template <typename T>
T inner_product(const T* a, const T* b, Index count) {
  T sum = 0;
  for (Index i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// Gradients of one token on their way from weights to logits.
template <typename T>
class TokenGradient {
 public:
  explicit TokenGradient(const GateCall<T>& call)
      : call_(call), h_(at(call.experts)), dscores_(at(call.experts)), dh_(at(call.experts)), du_(at(call.choices)) {}

  void run(Index token, const LossGradients<T>& losses, const GateBackwardCall<T>& out) {
    const Index E = call_.experts;
    std::fill(dscores_.begin(), dscores_.end(), T(0));
    std::fill(dh_.begin(), dh_.end(), T(0));
    T* dlogits = out.dlogits + token * E;
    T* dnoise = out.dnoise != nullptr ? out.dnoise + token * E : nullptr;
    std::fill(dlogits, dlogits + E, T(0));
    if (dnoise != nullptr) std::fill(dnoise, dnoise + E, T(0));
    seen_logits(call_, token, h_.data());
    losses.add_scores(token, dscores_.data());
    losses.add_logits(token, h_.data(), dlogits, dh_.data(), dnoise);
    weights(token, losses, out);
    scores(token);
    for (Index e = 0; e < E; ++e) {
      dlogits[e] += dh_[at(e)];
      if (dnoise == nullptr) continue;  // h = x + n softplus(x_noise)
      dnoise[e] += dh_[at(e)] * call_.noise(token, e) * sigmoid_of(call_.noise_logits[token * E + e]);
    }
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  /// From weights = scale u to what they were made of: y = x / sum(x) and y = softmax(x) both need dy_j - <dy, y>.
  void weights(Index token, const LossGradients<T>& losses, const GateBackwardCall<T>& out) {
    const Index K = call_.choices;
    const T scale = static_cast<T>(call_.rule.scale);
    const std::int32_t* expert = call_.expert + token * K;
    const T* scores = call_.scores + token * call_.experts;
    T mean = 0, chosen_sum = 0;
    for (Index j = 0; j < K; ++j) {
      const T weight = call_.weight[token * K + j];
      const bool chosen = call_.rule.router != RouterKind::ExpertChoice || call_.row[token * K + j] >= 0;
      du_[at(j)] = chosen ? scale * (out.dweight[token * K + j] + losses.weight(expert[j])) : T(0);
      if (out.dzero != nullptr && expert[j] >= call_.computing) du_[at(j)] += scale * out.dzero[token];
      mean += du_[at(j)] * weight / scale;
      chosen_sum += scores[expert[j]];
    }
    for (Index j = 0; j < K; ++j) {
      if (call_.softmax_of_chosen()) {
        dh_[at(expert[j])] += call_.weight[token * K + j] / scale * (du_[at(j)] - mean);
      } else {
        dscores_[at(expert[j])] += call_.renormalizes() ? (du_[at(j)] - mean) / chosen_sum : du_[at(j)];
      }
    }
  }

  /// From scores to logits.
  void scores(Index token) {
    const T* scores = call_.scores + token * call_.experts;
    if (call_.rule.router == RouterKind::SigmoidTopK) {
      for (Index e = 0; e < call_.experts; ++e) dh_[at(e)] += dscores_[at(e)] * scores[e] * (T(1) - scores[e]);
      return;
    }
    const T inner = inner_product(dscores_.data(), scores, call_.experts);
    for (Index e = 0; e < call_.experts; ++e) dh_[at(e)] += scores[e] * (dscores_[at(e)] - inner);
  }

  const GateCall<T>& call_;
  std::vector<T> h_, dscores_, dh_, du_;  // dh: at the logits with noise; du: at the weights before their scale
};

}  // namespace

template <typename T>
void run_gate_backward(const GateCall<T>& call, const GateLossScales& scales, const GateBackwardCall<T>& gradients) {
  if (gradients.load != nullptr) {
    for (Index e = 0; e < call.experts; ++e) gradients.load[e] += static_cast<T>(call.count[e]);
  }
  if (call.tokens == 0) return;
  const LossGradients<T> losses(call, scales);
  TokenGradient<T> gradient(call);
  for (Index t = 0; t < call.tokens; ++t) gradient.run(t, losses, gradients);
}

template void run_gate_backward(const GateCall<float>& call, const GateLossScales& scales,
                                const GateBackwardCall<float>& gradients);
template void run_gate_backward(const GateCall<double>& call, const GateLossScales& scales,
                                const GateBackwardCall<double>& gradients);

}  // namespace moecast::cpu
