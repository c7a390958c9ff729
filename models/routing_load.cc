#include "models/routing_load.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "base/assert.h"
#include "base/math.h"
#include "base/random.h"

namespace moecast {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// Number of successes of n trials of probability p: by inversion where the mean is small, else the nearest integer of
/// a normal draw.
std::int64_t binomial(std::int64_t n, double p, const CounterRandom& random, std::uint64_t entity, std::uint64_t draw) {
  constexpr double kSmallMean = 16;
  if (p <= 0 || n <= 0) return 0;
  if (p > 0.5) return n - binomial(n, 1 - p, random, entity, draw);
  const double mean = static_cast<double>(n) * p;
  if (mean >= kSmallMean) {
    const double value = mean + std::sqrt(mean * (1 - p)) * random.normal(entity, draw);
    return std::clamp<std::int64_t>(std::llround(value), 0, n);
  }
  const double u = random.uniform(entity, draw);
  double probability = portable_exp(static_cast<double>(n) * portable_log(1 - p));  // of 0
  double sum = probability;
  std::int64_t k = 0;
  while (u > sum && k < n) {
    probability *= static_cast<double>(n - k) / static_cast<double>(k + 1) * (p / (1 - p));
    sum += probability;
    ++k;
  }
  return k;
}

/// Divides `total` draws over bins by weight, none above `most`, their sum exactly `total` (at most bins * most). Bins
/// are drawn from the heaviest on, each from what is left: what a full bin cannot take goes to the lighter ones.
class Divider {
 public:
  explicit Divider(std::vector<double> weights) : weights_(std::move(weights)), order_(weights_.size()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](auto a, auto b) { return weights_[a] > weights_[b]; });
    tail_.assign(order_.size() + 1, 0);
    for (std::size_t i = order_.size(); i-- > 0;) tail_[i] = tail_[i + 1] + weights_[order_[i]];
  }

  [[nodiscard]] std::size_t size() const { return order_.size(); }

  /// out[bin]; `entity` and `first_draw` tell the draws from others.
  void divide(std::int64_t total, std::int64_t most, const CounterRandom& random, std::uint64_t entity,
              std::uint64_t first_draw, std::int64_t* out) const {
    std::int64_t left = total;
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const auto bins_after = static_cast<std::int64_t>(order_.size() - i - 1);
      const double p = tail_[i] > 0 ? weights_[order_[i]] / tail_[i] : 0;
      const std::int64_t drawn = binomial(left, std::min(p, 1.0), random, entity, first_draw + order_[i]);
      const std::int64_t least = std::max<std::int64_t>(0, left - bins_after * most);
      out[order_[i]] = std::clamp(drawn, least, std::min(left, most));
      left -= out[order_[i]];
    }
    ASSERT(left == 0, "{} of {} draws fit into no bin of {}", left, total, most);
  }

 private:
  std::vector<double> weights_;
  std::vector<std::size_t> order_;  // heaviest first
  std::vector<double> tail_;        // weight from this place of the order on
};

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

/// Choices of every rank, [P, choice_count].
class Drawer {
 public:
  Drawer(const RoutingRequest& request, RoutedTokens& out)
      : request_(request), random_(request.seed, request.stream), out_(out) {
    const std::int64_t groups = request.moe.gate.groups, size = request.moe.choice_count() / groups;
    std::vector<double> group_shares;
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto begin = request.shares.begin() + g * size;
      std::vector<double> inside(begin, begin + size);
      group_shares.push_back(sum(inside));
      inside_.emplace_back(std::move(inside));
    }
    groups_ = std::make_unique<Divider>(std::move(group_shares));
  }

  void draw(std::int64_t rank, std::int64_t* choices) {
    const GateRule& gate = request_.moe.gate;
    const auto entity = static_cast<std::uint64_t>(rank);
    const std::int64_t tokens = request_.tokens, all = tokens * gate.top_k;
    if (gate.groups == 1) return inside_[0].divide(all, tokens, random_, entity, 0, choices);
    std::int64_t* visits = out_.group_tokens.data() + rank * gate.groups;
    const auto experts = static_cast<std::uint64_t>(request_.moe.choice_count());
    groups_->divide(tokens * gate.top_groups, tokens, random_, entity, experts, visits);
    std::int64_t before = 0, visited = 0;
    for (std::int64_t g = 0; g < gate.groups; ++g) {
      visited += visits[g];
      const std::int64_t until = visited * gate.top_k / gate.top_groups;  // even: the last is all
      const std::int64_t first = g * static_cast<std::int64_t>(inside_[at(g)].size());
      inside_[at(g)].divide(until - before, visits[g], random_, entity, static_cast<std::uint64_t>(first),
                            choices + first);
      before = until;
    }
  }

 private:
  const RoutingRequest& request_;
  CounterRandom random_;
  RoutedTokens& out_;
  std::vector<Divider> inside_;  // of each group (one group: all)
  std::unique_ptr<Divider> groups_;
};

}  // namespace

std::vector<double> expert_shares(const LoadDistribution& distribution, std::int64_t count, std::uint64_t seed,
                                  std::uint64_t stream) {
  ASSERT(count >= 1, "{} experts", count);
  switch (distribution.kind) {
    case LoadKind::Uniform:
      return std::vector<double>(at(count), 1.0 / static_cast<double>(count));
    case LoadKind::Zipf: {
      std::vector<double> shares = zipf_weights(count, distribution.exponent);
      const CounterRandom random(seed, stream);
      for (std::int64_t i = count - 1; i > 0; --i) {  // Fisher and Yates
        std::swap(shares[at(i)], shares[at(random.below(i + 1, 0, static_cast<std::uint64_t>(i)))]);
      }
      return shares;
    }
    case LoadKind::Measured:
      break;
  }
  std::vector<double> shares = distribution.shares;
  const double total = sum(shares);
  ASSERT(std::ssize(shares) == count && total > 0, "{} shares of {} experts, sum {}", shares.size(), count, total);
  for (double& share : shares) share /= total;
  return shares;
}

RoutedTokens route_tokens(const RoutingRequest& request) {
  const MoeFfn& moe = request.moe;
  const std::int64_t ranks = request.rank_count, experts = moe.expert_count, choices = moe.choice_count();
  ASSERT(ranks >= 1 && request.tokens >= 1 && std::ssize(request.shares) == choices, "{} ranks, {} tokens, {} shares",
         ranks, request.tokens, request.shares.size());
  RoutedTokens out;
  out.sent.assign(at(ranks * experts), 0);
  out.dropped.assign(at(ranks * experts), 0);
  out.skipped.assign(at(ranks), 0);
  const std::optional<std::int64_t> capacity = moe.capacity(request.tokens);
  if (moe.gate.router == RouterKind::ExpertChoice) {
    out.sent.assign(at(ranks * experts), std::min(*capacity, request.tokens));
    return out;
  }
  if (moe.gate.groups > 1) out.group_tokens.assign(at(ranks * moe.gate.groups), 0);
  Drawer drawer(request, out);
  std::vector<std::int64_t> drawn(at(choices));
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    drawer.draw(rank, drawn.data());
    for (std::int64_t e = 0; e < experts; ++e) {
      const std::int64_t kept = std::min(drawn[at(e)], capacity.value_or(drawn[at(e)]));
      out.sent[at(rank * experts + e)] = kept;
      out.dropped[at(rank * experts + e)] = drawn[at(e)] - kept;
    }
    out.skipped[at(rank)] = std::accumulate(drawn.begin() + experts, drawn.end(), std::int64_t{0});
  }
  return out;
}

std::vector<std::int64_t> rows_between_ranks(const RoutedTokens& routed, std::int64_t rank_count) {
  const std::int64_t experts = std::ssize(routed.sent) / rank_count;
  ASSERT(experts % rank_count == 0, "{} experts on {} ranks", experts, rank_count);
  std::vector<std::int64_t> rows(at(rank_count * rank_count), 0);
  for (std::int64_t source = 0; source < rank_count; ++source) {
    for (std::int64_t e = 0; e < experts; ++e) {
      rows[at(source * rank_count + e / (experts / rank_count))] += routed.sent[at(source * experts + e)];
    }
  }
  return rows;
}

}  // namespace moecast
