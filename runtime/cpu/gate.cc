#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/cpu/cpu_backend_class.h"
#include "runtime/cpu/tensor_data.h"

namespace moecast::cpu {
namespace {

using Index = std::int64_t;

/// Typed view of one gate call.
template <typename T>
struct GateCall {
  GateRule rule;
  Index tokens = 0, experts = 0;
  T* scores = nullptr;
  std::int32_t* expert = nullptr;
  T* weight = nullptr;
  std::int32_t* row = nullptr;
  std::int32_t* count = nullptr;
  T* balance_loss = nullptr;
};

template <typename T>
GateCall<T> gate_call(const GateRule& rule, const GateTensors& tensors) {
  GateCall<T> call;
  call.rule = rule;
  call.tokens = tensors.scores.rows();
  call.experts = tensors.scores.columns();
  ASSERT(1 <= rule.top_k && rule.top_k <= call.experts, "{} of {} experts", rule.top_k, call.experts);
  call.scores = elements<T>(tensors.scores, call.tokens * call.experts);
  call.expert = elements<std::int32_t>(tensors.expert, call.tokens * rule.top_k);
  call.weight = elements<T>(tensors.weight, call.tokens * rule.top_k);
  call.row = elements<std::int32_t>(tensors.row, call.tokens * rule.top_k);
  call.count = elements<std::int32_t>(tensors.count, call.experts);
  call.balance_loss = elements<T>(tensors.balance_loss, 1);
  return call;
}

template <typename T>
void softmax(const T* x, T* y, Index count) {
  const T largest = *std::max_element(x, x + count);
  T sum = 0;
  for (Index i = 0; i < count; ++i) sum += y[i] = std::exp(x[i] - largest);
  for (Index i = 0; i < count; ++i) y[i] /= sum;
}

/// The k best experts, best first; ties go to the lower expert.
template <typename T>
void choose(const T* scores, Index experts, Index k, std::int32_t* chosen) {
  for (Index j = 0; j < k; ++j) {
    std::int32_t best = -1;
    for (std::int32_t e = 0; e < experts; ++e) {
      const bool taken = std::find(chosen, chosen + j, e) != chosen + j;
      if (!taken && (best < 0 || scores[e] > scores[best])) best = e;
    }
    chosen[j] = best;
  }
}

template <typename T>
void combine_weights(const GateRule& rule, const T* logits, const T* scores, const std::int32_t* chosen, T* weight) {
  const Index k = rule.top_k;
  if (rule.router == RouterKind::TopKSoftmax) {
    for (Index j = 0; j < k; ++j) weight[j] = logits[chosen[j]];
    return softmax(weight, weight, k);
  }
  T sum = 0;
  for (Index j = 0; j < k; ++j) sum += weight[j] = scores[chosen[j]];
  if (!rule.renormalize || k == 1) return;
  for (Index j = 0; j < k; ++j) weight[j] /= sum;
}

/// Slots in order of all first choices, then all second choices (GShard, arXiv 2006.16668, algorithm 1).
template <typename T>
void assign_rows(const GateCall<T>& call, std::optional<Index> capacity) {
  std::fill(call.count, call.count + call.experts, 0);
  for (Index i = 0; i < call.tokens * call.rule.top_k; ++i) ++call.count[call.expert[i]];
  std::vector<Index> first_row(static_cast<std::size_t>(call.experts), 0);
  for (std::size_t e = 1; e < first_row.size(); ++e) {
    first_row[e] = first_row[e - 1] + (capacity ? *capacity : call.count[e - 1]);
  }
  std::vector<Index> used(first_row.size(), 0);
  for (Index j = 0; j < call.rule.top_k; ++j) {
    for (Index t = 0; t < call.tokens; ++t) {
      const Index i = t * call.rule.top_k + j;
      const std::size_t e = static_cast<std::size_t>(call.expert[i]);
      const bool dropped = capacity && used[e] >= *capacity;
      call.row[i] = dropped ? -1 : static_cast<std::int32_t>(first_row[e] + used[e]++);
    }
  }
}

/// f_e: the share of tokens whose first choice is e.
template <typename T>
std::vector<T> first_choice_shares(const GateCall<T>& call) {
  std::vector<T> share(static_cast<std::size_t>(call.experts), T(0));
  for (Index t = 0; t < call.tokens; ++t) share[static_cast<std::size_t>(call.expert[t * call.rule.top_k])] += T(1);
  for (T& value : share) value /= static_cast<T>(call.tokens);
  return share;
}

/// E sum_e f_e P_e with P_e the mean score (Fedus, Zoph & Shazeer, arXiv 2101.03961, equations 4 to 6).
template <typename T>
T balance_loss(const GateCall<T>& call) {
  if (call.tokens == 0) return T(0);
  const std::vector<T> share = first_choice_shares(call);
  T sum = 0;
  for (Index t = 0; t < call.tokens; ++t) {
    for (Index e = 0; e < call.experts; ++e) {
      sum += share[static_cast<std::size_t>(e)] * call.scores[t * call.experts + e];
    }
  }
  return sum * static_cast<T>(call.experts) / static_cast<T>(call.tokens);
}

template <typename T>
void run_gate(const GateCall<T>& call, std::optional<Index> capacity, const T* logits) {
  const Index k = call.rule.top_k;
  for (Index t = 0; t < call.tokens; ++t) {
    const T* x = logits + t * call.experts;
    T* scores = call.scores + t * call.experts;
    softmax(x, scores, call.experts);
    choose(call.rule.router == RouterKind::TopKSoftmax ? x : scores, call.experts, k, call.expert + t * k);
    combine_weights(call.rule, x, scores, call.expert + t * k, call.weight + t * k);
  }
  assign_rows(call, capacity);
  *call.balance_loss = balance_loss(call);
}

/// dx of y = x / sum(x), or of y = softmax(x) when `y` also multiplies: both need dy_j - <dy, y>.
template <typename T>
T weighted_sum(const T* dy, const T* y, Index count) {
  T sum = 0;
  for (Index j = 0; j < count; ++j) sum += dy[j] * y[j];
  return sum;
}

template <typename T>
void run_gate_backward(const GateCall<T>& call, const T* dweight, T balance_scale, T* dlogits) {
  const Index k = call.rule.top_k;
  if (call.tokens == 0) return;
  const std::vector<T> share = first_choice_shares(call);
  const T balance = balance_scale * static_cast<T>(call.experts) / static_cast<T>(call.tokens);
  std::vector<T> dscores(share.size());
  for (Index t = 0; t < call.tokens; ++t) {
    const T* scores = call.scores + t * call.experts;
    const T* weight = call.weight + t * k;
    const T* dw = dweight + t * k;
    T* dx = dlogits + t * call.experts;
    for (std::size_t e = 0; e < share.size(); ++e) dscores[e] = balance * share[e];
    const bool normalised = call.rule.router == RouterKind::TopKSoftmax || (call.rule.renormalize && k > 1);
    const T mean = normalised ? weighted_sum(dw, weight, k) : T(0);
    T chosen_sum = 0;
    for (Index j = 0; j < k; ++j) chosen_sum += scores[call.expert[t * k + j]];
    if (call.rule.router == RouterKind::SoftmaxTopK) {
      const T divisor = normalised ? chosen_sum : T(1);
      for (Index j = 0; j < k; ++j)
        dscores[static_cast<std::size_t>(call.expert[t * k + j])] += (dw[j] - mean) / divisor;
    }
    const T inner = weighted_sum(dscores.data(), scores, call.experts);
    for (Index e = 0; e < call.experts; ++e) dx[e] = scores[e] * (dscores[static_cast<std::size_t>(e)] - inner);
    if (call.rule.router == RouterKind::TopKSoftmax) {
      for (Index j = 0; j < k; ++j) dx[call.expert[t * k + j]] += weight[j] * (dw[j] - mean);
    }
  }
}

}  // namespace

void CpuBackend::gate(Lane, const GateRule& rule, std::optional<std::int64_t> capacity, Tensor logits,
                      const GateTensors& out) {
  with_scalar(logits.dtype, [&]<typename T>(const Kernels<T>&) {
    run_gate(gate_call<T>(rule, out), capacity, elements<T>(logits, out.scores.element_count()));
  });
}

void CpuBackend::gate_backward(Lane, const GateRule& rule, const GateTensors& saved, Tensor dweight,
                               double balance_scale, Tensor dlogits) {
  with_scalar(dlogits.dtype, [&]<typename T>(const Kernels<T>&) {
    run_gate_backward(gate_call<T>(rule, saved), elements<T>(dweight, saved.weight.element_count()),
                      static_cast<T>(balance_scale), elements<T>(dlogits, saved.scores.element_count()));
  });
}

}  // namespace moecast::cpu
