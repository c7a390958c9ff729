#include "models/checkpoint/plt.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

LossAccount::LossAccount(const ExpertIndex& experts)
    : experts_(experts), counted_(experts.size()), lost_(experts.layer_count(), 0) {}

std::vector<std::int64_t> LossAccount::add_fault(std::span<const LostTokens> lost) {
  std::vector<std::int64_t> added(experts_.layer_count(), 0);
  for (const LostTokens& of_expert : lost) {
    if (of_expert.from >= of_expert.to) continue;
    added[experts_.place(of_expert.expert).layer] += count(counted_[of_expert.expert], {of_expert.from, of_expert.to});
  }
  for (std::size_t m = 0; m < added.size(); ++m) lost_[m] += added[m];
  return added;
}

std::int64_t LossAccount::count(std::vector<Span>& counted, Span fresh) {
  // Spans that touch (from, to] are merged with it; what they held was counted before.
  const auto first = std::lower_bound(counted.begin(), counted.end(), fresh.from,
                                      [](const Span& span, std::int64_t from) { return span.to < from; });
  Span merged = fresh;
  std::int64_t before = 0;
  auto last = first;
  for (; last != counted.end() && last->from <= fresh.to; ++last) {
    before += last->to - last->from;
    merged = {std::min(merged.from, last->from), std::max(merged.to, last->to)};
  }
  counted.insert(counted.erase(first, last), merged);
  return merged.to - merged.from - before;
}

double proportion_of_lost_tokens(const ExpertIndex& experts, std::span<const std::int64_t> lost, double tokens) {
  ASSERT(lost.size() == experts.layer_count() && tokens > 0, "{} layers of {}, {} tokens", lost.size(),
         experts.layer_count(), tokens);
  if (lost.empty()) return 0;
  double sum = 0;
  for (std::size_t m = 0; m < lost.size(); ++m) {
    sum += static_cast<double>(lost[m]) / (tokens * static_cast<double>(experts.layers()[m].top_k));
  }
  return sum / static_cast<double>(lost.size());
}

namespace {

/// Mean age of an expert in checkpoints, when N / K of them pass from turn to turn.
double mean_age(std::int64_t expert_count, std::int64_t selected_count) {
  return (static_cast<double>(expert_count) / static_cast<double>(selected_count) - 1) / 2;
}

}  // namespace

double one_level_plt(std::int64_t expert_count, std::int64_t selected_count, double interval_share) {
  return mean_age(expert_count, selected_count) * interval_share;
}

double two_level_plt(std::int64_t expert_count, ExpertCounts counts, double lost_share, double interval_share) {
  return ((1 - lost_share) * mean_age(expert_count, counts.snapshot) +
          lost_share * mean_age(expert_count, counts.persist)) *
         interval_share;
}

}  // namespace moecast
