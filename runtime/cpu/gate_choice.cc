#include <algorithm>
#include <numeric>

#include "base/assert.h"
#include "runtime/cpu/gate_call.h"

namespace moecast::cpu {
namespace {

using Index = std::int64_t;

/// Sets aside what a token may not choose, then takes the best of the rest.
template <typename T>
class Chooser {
 public:
  explicit Chooser(const GateCall<T>& call)
      : call_(call),
        open_(at(call.experts)),
        group_open_(at(call.rule.groups)),
        group_scores_(at(call.rule.groups)),
        keys_(at(call.experts)) {}

  /// What experts are ranked by.
  std::vector<T>& keys() { return keys_; }

  void begin(Index token) {
    std::fill(open_.begin(), open_.end(), true);
    if (call_.taken == nullptr) return;
    for (Index j = 0; j < call_.rule.top_k; ++j) open_[at(call_.taken[token * call_.rule.top_k + j])] = false;
  }

  /// Of the groups only the best few stay open. A group's score is its best key; with a selection bias the sum of its
  /// best two (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).
  void keep_best_groups() {
    const Index size = call_.experts / call_.rule.groups;
    std::fill(group_open_.begin(), group_open_.end(), false);
    for (Index g = 0; g < call_.rule.groups; ++g) group_scores_[at(g)] = group_score(g, size);
    for (Index i = 0; i < call_.rule.top_groups; ++i) {
      Index best = -1;
      for (Index g = 0; g < call_.rule.groups; ++g) {
        if (!group_open_[at(g)] && (best < 0 || group_scores_[at(g)] > group_scores_[at(best)])) best = g;
      }
      group_open_[at(best)] = true;
    }
    for (Index e = 0; e < call_.experts; ++e) {
      if (!group_open_[at(e / size)]) open_[at(e)] = false;
    }
  }

  /// The k best open experts, best first; ties go to the lower one.
  void take_best(std::int32_t* chosen) {
    for (Index j = 0; j < call_.rule.top_k; ++j) {
      Index best = -1;
      for (Index e = 0; e < call_.experts; ++e) {
        if (open_[at(e)] && (best < 0 || keys_[at(e)] > keys_[at(best)])) best = e;
      }
      take(best, chosen + j);
    }
  }

  /// k different open experts, each as likely as any other: a function of the entity that draws.
  void take_random(std::uint64_t entity, std::int32_t* chosen) {
    const CounterRandom random(call_.draws.seed, call_.draws.stream);
    Index left = std::count(open_.begin(), open_.end(), true);
    for (Index j = 0; j < call_.rule.top_k; ++j, --left) {
      Index skip = random.below(left, entity, static_cast<std::uint64_t>(j));
      Index e = 0;
      while (!open_[at(e)] || skip-- > 0) ++e;
      take(e, chosen + j);
    }
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  [[nodiscard]] T group_score(Index group, Index size) const {
    T first = keys_[at(group * size)];
    if (!call_.rule.selection_bias || size == 1) {
      return *std::max_element(keys_.begin() + group * size, keys_.begin() + (group + 1) * size);
    }
    T second = keys_[at(group * size + 1)];
    if (second > first) std::swap(first, second);
    for (Index e = group * size + 2; e < (group + 1) * size; ++e) {
      const T key = keys_[at(e)];
      second = std::max(second, std::min(first, key));
      first = std::max(first, key);
    }
    return first + second;
  }

  void take(Index e, std::int32_t* out) {
    ASSERT(0 <= e && e < call_.experts, "fewer experts are open than a token chooses");
    open_[at(e)] = false;
    *out = static_cast<std::int32_t>(e);
  }

  const GateCall<T>& call_;
  std::vector<bool> open_, group_open_;
  std::vector<T> group_scores_;
  std::vector<T> keys_;
};

/// Scores of one token from its logits.
template <typename T>
void score(const GateCall<T>& call, const T* h, T* scores) {
  if (call.rule.router != RouterKind::SigmoidTopK) {
    (void)softmax(h, scores, call.experts);
    return;
  }
  for (Index e = 0; e < call.experts; ++e) scores[e] = sigmoid_of(h[e]);
}

template <typename T>
void weigh(const GateCall<T>& call, const T* h, const T* scores, const std::int32_t* chosen, T* weight) {
  const Index k = call.rule.top_k;
  T sum = 0;
  if (call.softmax_of_chosen()) {
    for (Index j = 0; j < k; ++j) weight[j] = h[chosen[j]];
    (void)softmax(weight, weight, k);
  } else {
    for (Index j = 0; j < k; ++j) sum += weight[j] = scores[chosen[j]];
  }
  if (call.renormalizes()) {
    for (Index j = 0; j < k; ++j) weight[j] /= sum;
  }
  for (Index j = 0; j < k; ++j) weight[j] *= static_cast<T>(call.rule.scale);
}

/// Tokens choose by what the router makes of them.
template <typename T>
void choose_by_score(const GateCall<T>& call) {
  const Index k = call.rule.top_k;
  Chooser<T> chooser(call);
  std::vector<T> h(static_cast<std::size_t>(call.experts));
  for (Index t = 0; t < call.tokens; ++t) {
    T* scores = call.scores + t * call.experts;
    seen_logits(call, t, h.data());
    score(call, h.data(), scores);
    chooser.begin(t);
    const T* ranked = call.softmax_of_chosen() ? h.data() : scores;
    for (Index e = 0; e < call.experts; ++e) {
      chooser.keys()[static_cast<std::size_t>(e)] = ranked[e] + (call.bias != nullptr ? call.bias[e] : T(0));
    }
    if (call.rule.groups > 1) chooser.keep_best_groups();
    chooser.take_best(call.expert + t * k);
    weigh(call, h.data(), scores, call.expert + t * k, call.weight + t * k);
  }
}

/// Hash and random routing: every choice has the weight 1 / k, which is all of an expert's score.
template <typename T>
void choose_blindly(const GateCall<T>& call) {
  const Index k = call.rule.top_k;
  Chooser<T> chooser(call);
  std::fill(call.scores, call.scores + call.tokens * call.experts, T(0));
  for (Index t = 0; t < call.tokens; ++t) {
    const auto number = static_cast<std::uint64_t>(t) + call.draws.first_token;
    chooser.begin(t);
    chooser.take_random(call.ids != nullptr ? static_cast<std::uint64_t>(call.ids[t]) : number, call.expert + t * k);
    for (Index j = 0; j < k; ++j) {
      call.scores[t * call.experts + call.expert[t * k + j]] = T(1) / static_cast<T>(k);
      call.weight[t * k + j] = static_cast<T>(call.rule.scale) / static_cast<T>(k);
    }
  }
}

/// Each expert takes the C tokens that score highest with it: column e of a token belongs to expert e.
template <typename T>
void let_experts_choose(const GateCall<T>& call, Index capacity) {
  std::vector<T> h(static_cast<std::size_t>(call.experts));
  for (Index t = 0; t < call.tokens; ++t) {
    seen_logits(call, t, h.data());
    (void)softmax(h.data(), call.scores + t * call.experts, call.experts);
  }
  std::fill(call.row, call.row + call.tokens * call.experts, -1);
  std::fill(call.weight, call.weight + call.tokens * call.experts, T(0));
  const Index taken = std::min(capacity, call.tokens);
  std::vector<Index> order(static_cast<std::size_t>(call.tokens));
  for (Index e = 0; e < call.experts; ++e) {
    const auto score_of = [&](Index t) { return call.scores[t * call.experts + e]; };
    std::iota(order.begin(), order.end(), Index{0});
    std::partial_sort(order.begin(), order.begin() + taken, order.end(),
                      [&](Index a, Index b) { return score_of(a) != score_of(b) ? score_of(a) > score_of(b) : a < b; });
    for (Index t = 0; t < call.tokens; ++t) call.expert[t * call.experts + e] = static_cast<std::int32_t>(e);
    for (Index slot = 0; slot < taken; ++slot) {
      const Index i = order[static_cast<std::size_t>(slot)] * call.experts + e;
      call.row[i] = static_cast<std::int32_t>(e * capacity + slot);
      call.weight[i] = score_of(order[static_cast<std::size_t>(slot)]) * static_cast<T>(call.rule.scale);
    }
    call.count[e] = static_cast<std::int32_t>(taken);
  }
}

/// Which choices count: all, but for the second ones that RandomSecond leaves out. Marked by row 0 and row -1.
template <typename T>
void mark_kept(const GateCall<T>& call) {
  std::fill(call.row, call.row + call.tokens * call.choices, 0);
  if (call.rule.router != RouterKind::RandomSecond || !call.draws.explores) return;
  const CounterRandom random(call.draws.seed, call.draws.stream);
  for (Index t = 0; t < call.tokens; ++t) {
    const double second = static_cast<double>(call.weight[2 * t + 1]) / call.rule.scale;
    const auto token = call.draws.first_token + static_cast<std::uint64_t>(t);
    if (2 * second <= random.uniform(token, 0)) call.row[2 * t + 1] = -1;
  }
}

/// Slots in order of all first choices, then all second choices (GShard, arXiv 2006.16668, algorithm 1). What zero
/// experts are chosen by travels nowhere.
template <typename T>
void assign_rows(const GateCall<T>& call, std::optional<Index> capacity) {
  std::fill(call.count, call.count + call.experts, 0);
  for (Index i = 0; i < call.tokens * call.choices; ++i) {
    if (call.row[i] >= 0) ++call.count[call.expert[i]];
  }
  std::vector<Index> first_row(static_cast<std::size_t>(call.experts), 0);
  for (std::size_t e = 1; e < first_row.size(); ++e) {
    first_row[e] = first_row[e - 1] + (capacity ? *capacity : call.count[e - 1]);
  }
  std::vector<Index> used(first_row.size(), 0);
  for (Index j = 0; j < call.choices; ++j) {
    for (Index t = 0; t < call.tokens; ++t) {
      const Index i = t * call.choices + j;
      const std::size_t e = static_cast<std::size_t>(call.expert[i]);
      if (call.row[i] < 0) continue;
      const bool dropped = call.expert[i] >= call.computing || (capacity && used[e] >= *capacity);
      call.row[i] = dropped ? -1 : static_cast<std::int32_t>(first_row[e] + used[e]++);
    }
  }
}

template <typename T>
void add_up_zero_weights(const GateCall<T>& call) {
  for (Index t = 0; t < call.tokens; ++t) {
    call.zero_weight[t] = 0;
    for (Index i = t * call.choices; i < (t + 1) * call.choices; ++i) {
      if (call.expert[i] >= call.computing) call.zero_weight[t] += call.weight[i];
    }
  }
}

}  // namespace

template <typename T>
void choose_experts(const GateCall<T>& call, std::optional<Index> capacity) {
  if (call.rule.router == RouterKind::ExpertChoice) {
    ASSERT(capacity.has_value(), "experts that choose need a capacity");
    return let_experts_choose(call, *capacity);
  }
  call.rule.has_weights() ? choose_by_score(call) : choose_blindly(call);
  mark_kept(call);
  assign_rows(call, capacity);
  if (call.zero_weight != nullptr) add_up_zero_weights(call);
}

template void choose_experts(const GateCall<float>& call, std::optional<Index> capacity);
template void choose_experts(const GateCall<double>& call, std::optional<Index> capacity);

}  // namespace moecast::cpu
