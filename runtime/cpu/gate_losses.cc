#include <algorithm>
#include <numbers>

#include "runtime/cpu/gate_call.h"

namespace moecast::cpu {
namespace {

using Index = std::int64_t;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// f_e: the share of tokens whose first choice is e; where experts choose, all have as many.
template <typename T>
std::vector<T> first_choice_shares(const GateCall<T>& call) {
  if (call.rule.router == RouterKind::ExpertChoice) {
    return std::vector<T>(at(call.experts), T(1) / static_cast<T>(call.experts));
  }
  std::vector<T> share(at(call.experts), T(0));
  for (Index t = 0; t < call.tokens; ++t) share[at(call.expert[t * call.choices])] += T(1);
  for (T& value : share) value /= static_cast<T>(call.tokens);
  return share;
}

template <typename T>
T score_sum(const GateCall<T>& call, Index token) {
  const T* scores = call.scores + token * call.experts;
  T sum = 0;
  for (Index e = 0; e < call.experts; ++e) sum += scores[e];
  return sum;
}

/// E sum_e f_e P_e with P_e the mean score (Fedus, Zoph & Shazeer, arXiv 2101.03961, equations 4 to 6); sigmoids are
/// divided by their sum first (DeepSeek-V3, arXiv 2412.19437, equation 19).
template <typename T>
T balance_loss(const GateCall<T>& call) {
  if (call.tokens == 0) return T(0);
  const std::vector<T> share = first_choice_shares(call);
  const bool normalises = call.rule.router == RouterKind::SigmoidTopK;
  T sum = 0;
  for (Index t = 0; t < call.tokens; ++t) {
    const T divisor = normalises ? score_sum(call, t) : T(1);
    for (Index e = 0; e < call.experts; ++e) sum += share[at(e)] * call.scores[t * call.experts + e] / divisor;
  }
  return sum * static_cast<T>(call.experts) / static_cast<T>(call.tokens);
}

/// CV^2 = variance over squared mean.
template <typename T>
T squared_variation(const std::vector<T>& values) {
  T mean = 0, square = 0;
  for (const T value : values) mean += value / static_cast<T>(values.size());
  for (const T value : values) square += (value - mean) * (value - mean) / static_cast<T>(values.size());
  return square / (mean * mean);
}

/// d CV^2 / d x_e = 2 (x_e - mean) / (E mean^2) - 2 variance / (E mean^3), times `scale`.
template <typename T>
std::vector<T> squared_variation_gradient(const std::vector<T>& values, T scale) {
  const T count = static_cast<T>(values.size());
  T mean = 0;
  for (const T value : values) mean += value / count;
  const T variation = squared_variation(values);
  std::vector<T> gradient;
  for (const T value : values) gradient.push_back(scale * 2 / (count * mean) * ((value - mean) / mean - variation));
  return gradient;
}

template <typename T>
std::vector<T> importance(const GateCall<T>& call) {
  std::vector<T> sum(at(call.experts), T(0));
  for (Index i = 0; i < call.tokens * call.choices; ++i) sum[at(call.expert[i])] += call.weight[i];
  return sum;
}

/// P(x, e) = Phi((x W)_e - kth_excluding(H, k, e)) / softplus((x W_noise)_e): how likely e is chosen when its noise is
/// drawn again (Shazeer 2017, arXiv 1701.06538, equation 9).
template <typename T>
class ExpectedChoice {
 public:
  /// `h`: logits of the token with noise.
  ExpectedChoice(const GateCall<T>& call, Index token, const T* h) : call_(call), token_(token), h_(h) {
    if (call.rule.top_k >= call.experts) return;  // every expert is chosen
    std::vector<Index> order(at(call.experts));
    for (Index e = 0; e < call.experts; ++e) order[at(e)] = e;
    std::partial_sort(order.begin(), order.begin() + call.rule.top_k + 1, order.end(),
                      [&](Index a, Index b) { return h[a] != h[b] ? h[a] > h[b] : a < b; });
    last_in_ = order[at(call.rule.top_k - 1)];
    first_out_ = order[at(call.rule.top_k)];
  }
  [[nodiscard]] bool certain() const { return last_in_ < 0; }
  /// The expert whose logit e has to exceed.
  [[nodiscard]] Index rival(Index e) const {
    const bool in = h_[e] > h_[last_in_] || e == last_in_;
    return in ? first_out_ : last_in_;
  }
  [[nodiscard]] T deviation(Index e) const { return softplus(call_.noise_logits[token_ * call_.experts + e]); }
  [[nodiscard]] T standardised(Index e) const {
    return (call_.logits[token_ * call_.experts + e] - h_[rival(e)]) / deviation(e);
  }
  [[nodiscard]] T probability(Index e) const {
    if (certain()) return T(1);
    return T(0.5) * std::erfc(-standardised(e) / std::numbers::sqrt2_v<T>);
  }

 private:
  const GateCall<T>& call_;
  Index token_;
  const T* h_;
  Index last_in_ = -1, first_out_ = -1;
};

template <typename T>
std::vector<T> expected_load(const GateCall<T>& call) {
  std::vector<T> sum(at(call.experts), T(0)), h(at(call.experts));
  for (Index t = 0; t < call.tokens; ++t) {
    seen_logits(call, t, h.data());
    const ExpectedChoice<T> choice(call, t, h.data());
    for (Index e = 0; e < call.experts; ++e) sum[at(e)] += choice.probability(e);
  }
  return sum;
}

template <typename T>
T z_loss(const GateCall<T>& call) {
  std::vector<T> unused(at(call.experts));
  T sum = 0;
  for (Index t = 0; t < call.tokens; ++t) {
    const T z = softmax(call.logits + t * call.experts, unused.data(), call.experts);
    sum += z * z;
  }
  return sum / static_cast<T>(call.tokens);
}

}  // namespace

template <typename T>
void add_up_losses(const GateCall<T>& call) {
  *call.balance_loss = balance_loss(call);
  if (call.losses == nullptr) return;
  const bool learns = call.rule.has_weights() && call.tokens > 0;
  call.losses[0] = learns ? squared_variation(importance(call)) : T(0);
  call.losses[1] = learns && call.noisy() ? squared_variation(expected_load(call)) : T(0);
  call.losses[2] = learns ? z_loss(call) : T(0);
}

template <typename T>
LossGradients<T>::LossGradients(const GateCall<T>& call, const GateLossScales& scales)
    : call_(call),
      balance_(static_cast<T>(scales.balance) * static_cast<T>(call.experts) / static_cast<T>(call.tokens)),
      z_(static_cast<T>(scales.others.z) * 2 / static_cast<T>(call.tokens)),
      share_(first_choice_shares(call)),
      importance_(at(call.experts), T(0)) {
  if (scales.others.importance > 0) {
    importance_ = squared_variation_gradient(importance(call), static_cast<T>(scales.others.importance));
  }
  if (scales.others.load > 0 && call.noisy()) {
    load_ = squared_variation_gradient(expected_load(call), static_cast<T>(scales.others.load));
  }
}

template <typename T>
void LossGradients<T>::add_scores(Index token, T* dscores) const {
  if (call_.rule.router != RouterKind::SigmoidTopK) {
    for (Index e = 0; e < call_.experts; ++e) dscores[e] += balance_ * share_[at(e)];
    return;
  }
  const T* scores = call_.scores + token * call_.experts;
  const T sum = score_sum(call_, token);
  T mean = 0;
  for (Index e = 0; e < call_.experts; ++e) mean += share_[at(e)] * scores[e] / sum;
  for (Index e = 0; e < call_.experts; ++e) dscores[e] += balance_ * (share_[at(e)] - mean) / sum;
}

template <typename T>
void LossGradients<T>::add_logits(Index token, const T* h, T* dlogits, T* dh, T* dnoise) const {
  if (z_ > 0) {
    std::vector<T> probability(at(call_.experts));
    const T z = softmax(call_.logits + token * call_.experts, probability.data(), call_.experts);
    for (Index e = 0; e < call_.experts; ++e) dlogits[e] += z_ * z * probability[at(e)];
  }
  if (load_.empty()) return;
  const ExpectedChoice<T> choice(call_, token, h);
  if (choice.certain()) return;
  for (Index e = 0; e < call_.experts; ++e) {
    const T u = choice.standardised(e);
    const T density = std::exp(T(-0.5) * u * u) / std::sqrt(2 * std::numbers::pi_v<T>);
    const T slope = load_[at(e)] * density / choice.deviation(e);
    dlogits[e] += slope;
    dh[choice.rival(e)] -= slope;
    dnoise[e] -= slope * u * sigmoid_of(call_.noise_logits[token * call_.experts + e]);
  }
}

template void add_up_losses(const GateCall<float>& call);
template void add_up_losses(const GateCall<double>& call);
template class LossGradients<float>;
template class LossGradients<double>;

}  // namespace moecast::cpu
