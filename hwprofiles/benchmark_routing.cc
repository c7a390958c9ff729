#include "hwprofiles/benchmark_routing.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/math.h"
#include "base/random.h"

namespace moecast {
namespace {

constexpr std::uint64_t kDraws = 4;
constexpr std::string_view kPowerLaw = "power_law_";

ExpertRows without_idle(std::vector<std::int64_t>::const_iterator begin,
                        std::vector<std::int64_t>::const_iterator end) {
  ExpertRows rows;
  for (auto each = begin; each != end; ++each) {
    if (*each > 0) rows.push_back(static_cast<double>(*each));
  }
  return rows;
}

ExpertRows balanced_rows(const BenchmarkRouting& routing) {
  const std::int64_t stride = (routing.experts + routing.top_k - 1) / routing.top_k;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(routing.experts));
  for (std::int64_t token = 0; token < routing.tokens; ++token) {
    const std::int64_t first = routing.tokens >= stride ? token : token * stride / routing.tokens;
    for (std::int64_t choice = 0; choice < routing.top_k; ++choice) {
      ++counts[static_cast<std::size_t>((first + choice * stride) % routing.experts)];
    }
  }
  return without_idle(counts.begin(), counts.begin() + routing.experts / routing.ranks);
}

/// Whole numbers in proportion to `shares`, the sum made right at the most popular ones.
std::vector<std::int64_t> apportion(const std::vector<double>& shares, std::int64_t total) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<std::int64_t> counts;
  for (const double share : shares) counts.push_back(std::llround(share / sum * static_cast<double>(total)));
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return counts[a] > counts[b]; });
  std::int64_t missing = total - std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  for (std::size_t i = 0; missing > 0; i = (i + 1) % order.size(), --missing) ++counts[order[i]];
  for (std::size_t i = order.size(); missing < 0;) {
    i = i == 0 ? order.size() - 1 : i - 1;
    if (counts[order[i]] == 0) continue;
    --counts[order[i]];
    ++missing;
  }
  return counts;
}

ExpertRows power_law_rows(const BenchmarkRouting& routing, double exponent, std::uint64_t draw) {
  const bool many = routing.tokens * routing.top_k > routing.experts;
  const double low = many ? 1 : 0.01;
  const double high = many ? std::max(1.01, 0.8 * static_cast<double>(routing.tokens)) : 2;
  const double power = 1 - exponent;
  const double at_low = portable_pow(low, power), at_high = portable_pow(high, power);
  const CounterRandom random(stream_of(routing.distribution), draw);
  std::vector<double> shares;
  for (std::int64_t expert = 0; expert < routing.experts; ++expert) {
    const double u = random.uniform(static_cast<std::uint64_t>(routing.tokens), static_cast<std::uint64_t>(expert));
    shares.push_back(portable_pow(at_low + (at_high - at_low) * u, 1 / power));
  }
  const std::vector<std::int64_t> counts = apportion(shares, routing.tokens * routing.top_k);
  const std::int64_t local = routing.experts / routing.ranks;
  auto busiest = counts.begin();
  std::int64_t most = -1;
  for (auto rank = counts.begin(); rank != counts.end(); rank += local) {
    const std::int64_t rows = std::accumulate(rank, rank + local, std::int64_t{0});
    if (rows > most) busiest = rank;
    most = std::max(most, rows);
  }
  return without_idle(busiest, busiest + local);
}

}  // namespace

Result<std::vector<ExpertRows>> benchmark_rows(const BenchmarkRouting& routing) {
  const auto bad = [](std::string message) { return Error{ErrorKind::BadInput, "routing", std::move(message)}; };
  if (routing.experts % routing.ranks != 0) {
    return bad(fmt::format("{} experts do not divide over {} ranks", routing.experts, routing.ranks));
  }
  if (routing.distribution == "balanced") return std::vector<ExpertRows>{balanced_rows(routing)};
  double exponent = 0;
  const std::string& name = routing.distribution;
  const bool power_law = name.starts_with(kPowerLaw);
  const char* end = name.data() + name.size();
  if (!power_law || std::from_chars(name.data() + kPowerLaw.size(), end, exponent).ptr != end || exponent <= 0 ||
      exponent == 1) {
    return bad(fmt::format("expected the distribution \"balanced\" or \"power_law_1.2\", found \"{}\"", name));
  }
  std::vector<ExpertRows> draws;
  for (std::uint64_t draw = 0; draw < kDraws; ++draw) draws.push_back(power_law_rows(routing, exponent, draw));
  return draws;
}

}  // namespace moecast
