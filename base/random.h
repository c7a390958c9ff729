#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace moecast {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): a block of four words from a
/// 128-bit counter and a 64-bit key. A pure function, so draws do not depend on threads or on order.
[[nodiscard]] std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key);

/// Independent streams of numbers: `seed` and `stream` choose the stream, (entity, draw) the number.
class CounterRandom {
 public:
  CounterRandom(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  [[nodiscard]] std::uint64_t bits(std::uint64_t entity, std::uint64_t draw) const;
  /// Uniform in the open interval (0, 1), 52 bits.
  [[nodiscard]] double uniform(std::uint64_t entity, std::uint64_t draw) const;
  [[nodiscard]] double exponential(std::uint64_t entity, std::uint64_t draw) const;  // mean 1
  [[nodiscard]] double normal(std::uint64_t entity, std::uint64_t draw) const;       // mean 0, deviation 1
  /// Weibull with this shape and scale 1; lognormal of a normal with this mean and deviation.
  [[nodiscard]] double weibull(double shape, std::uint64_t entity, std::uint64_t draw) const;
  [[nodiscard]] double lognormal(double mean, double deviation, std::uint64_t entity, std::uint64_t draw) const;
  /// Uniform in 0 .. bound-1 (bound > 0; bias below 2^-52 * bound).
  [[nodiscard]] std::int64_t below(std::int64_t bound, std::uint64_t entity, std::uint64_t draw) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// A stream chosen by name, for things that have one ("blocks.3.mlp.w1"): FNV-1a, the same on every machine.
[[nodiscard]] std::uint64_t stream_of(std::string_view name);

/// Draws an index with given weights in constant time (Walker's alias method, Vose's construction).
class Categorical {
 public:
  explicit Categorical(const std::vector<double>& weights);  // not all zero, none negative
  /// `u` uniform in (0, 1).
  [[nodiscard]] std::int64_t index(double u) const;

 private:
  std::vector<double> threshold_;
  std::vector<std::int32_t> alias_;
};

/// Weights 1 / (i + 1)^exponent, i = 0 .. count-1, normalised to sum 1.
[[nodiscard]] std::vector<double> zipf_weights(std::int64_t count, double exponent);

}  // namespace moecast
