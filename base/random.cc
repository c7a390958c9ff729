#include "base/random.h"

#include <algorithm>

#include "base/assert.h"
#include "base/math.h"

namespace moecast {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

std::uint64_t CounterRandom::bits(std::uint64_t entity, std::uint64_t draw) const {
  // The stream is spread over key and counter so that close seeds and streams share nothing.
  const std::uint64_t key = seed_ ^ (stream_ * 0x9E3779B97F4A7C15ULL);
  const auto block = philox({static_cast<std::uint32_t>(entity), static_cast<std::uint32_t>(entity >> 32),
                             static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32)},
                            {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
  return (static_cast<std::uint64_t>(block[1]) << 32) | block[0];
}

double CounterRandom::uniform(std::uint64_t entity, std::uint64_t draw) const {
  return (static_cast<double>(bits(entity, draw) >> 12) + 0.5) * 0x1p-52;
}
double CounterRandom::exponential(std::uint64_t entity, std::uint64_t draw) const {
  return -portable_log(uniform(entity, draw));
}
double CounterRandom::normal(std::uint64_t entity, std::uint64_t draw) const {
  return normal_quantile(uniform(entity, draw));
}
double CounterRandom::weibull(double shape, std::uint64_t entity, std::uint64_t draw) const {
  return portable_pow(exponential(entity, draw), 1.0 / shape);
}
double CounterRandom::lognormal(double mean, double deviation, std::uint64_t entity, std::uint64_t draw) const {
  return portable_exp(mean + deviation * normal(entity, draw));
}
std::int64_t CounterRandom::below(std::int64_t bound, std::uint64_t entity, std::uint64_t draw) const {
  ASSERT(bound > 0);
  return std::min(bound - 1, static_cast<std::int64_t>(uniform(entity, draw) * static_cast<double>(bound)));
}

std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}

Categorical::Categorical(const std::vector<double>& weights) : threshold_(weights.size()), alias_(weights.size()) {
  double sum = 0;
  for (const double weight : weights) {
    ASSERT(weight >= 0, "weight {}", weight);
    sum += weight;
  }
  ASSERT(sum > 0, "no weight is positive");
  const auto n = static_cast<std::int32_t>(weights.size());
  std::vector<std::int32_t> small, large;
  for (std::int32_t i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    threshold_[at] = weights[at] * n / sum;
    alias_[at] = i;
    (threshold_[at] < 1 ? small : large).push_back(i);
  }
  while (!small.empty() && !large.empty()) {
    const std::int32_t below = small.back();
    const std::int32_t above = large.back();
    small.pop_back();
    alias_[static_cast<std::size_t>(below)] = above;
    double& rest = threshold_[static_cast<std::size_t>(above)];
    rest -= 1.0 - threshold_[static_cast<std::size_t>(below)];
    if (rest < 1) {
      large.pop_back();
      small.push_back(above);
    }
  }
  for (const std::int32_t i : small) threshold_[static_cast<std::size_t>(i)] = 1;  // rounding left it just below 1
  for (const std::int32_t i : large) threshold_[static_cast<std::size_t>(i)] = 1;
}

std::int64_t Categorical::index(double u) const {
  const double scaled = u * static_cast<double>(threshold_.size());
  const std::size_t cell = std::min(threshold_.size() - 1, static_cast<std::size_t>(scaled));
  return scaled - static_cast<double>(cell) < threshold_[cell] ? static_cast<std::int64_t>(cell) : alias_[cell];
}

std::vector<double> zipf_weights(std::int64_t count, double exponent) {
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    weights.push_back(portable_pow(static_cast<double>(i + 1), -exponent));
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

}  // namespace moecast
