#include "base/random.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "base/math.h"

namespace moecast {
namespace {

TEST(Philox, GivesThePublishedKnownAnswers) {
  // Random123's kat_vectors for philox4x32-10.
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  EXPECT_EQ(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}), (Block{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
}

TEST(CounterRandom, MomentsAreThoseOfTheDistributions) {
  const CounterRandom random(42, stream_of("test"));
  constexpr int kDraws = 200000;
  double uniform = 0, exponential = 0, normal = 0, square = 0, weibull = 0;
  for (int i = 0; i < kDraws; ++i) {
    const auto draw = static_cast<std::uint64_t>(i);
    const double u = random.uniform(1, draw);
    ASSERT_GT(u, 0);
    ASSERT_LT(u, 1);
    uniform += u;
    exponential += random.exponential(2, draw);
    const double z = random.normal(3, draw);
    normal += z;
    square += z * z;
    weibull += random.weibull(0.7, 4, draw);
  }
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.003);
  EXPECT_NEAR(exponential / kDraws, 1.0, 0.01);
  EXPECT_NEAR(normal / kDraws, 0.0, 0.01);
  EXPECT_NEAR(square / kDraws, 1.0, 0.015);
  EXPECT_NEAR(weibull / kDraws, std::tgamma(1 + 1 / 0.7), 0.03);
}

TEST(CounterRandom, StreamsAndEntitiesAreIndependent) {
  const CounterRandom a(1, 1), b(1, 2), c(2, 1);
  int equal = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    equal += a.bits(0, i) == b.bits(0, i) || a.bits(0, i) == c.bits(0, i) || a.bits(0, i) == a.bits(1, i) ? 1 : 0;
  }
  EXPECT_EQ(equal, 0);
}

TEST(CounterRandom, LognormalHasItsMedianAndMean) {
  const CounterRandom random(7, 0);
  double sum = 0;
  int below_median = 0;
  constexpr int kDraws = 100000;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double value = random.lognormal(1.0, 0.5, 0, i);
    sum += value;
    below_median += value < std::exp(1.0) ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, std::exp(1.0 + 0.5 * 0.5 / 2), 0.02);
  EXPECT_NEAR(below_median / static_cast<double>(kDraws), 0.5, 0.006);
}

TEST(CounterRandom, BelowReachesBothEndsEvenly) {
  const CounterRandom random(11, 0);
  std::vector<int> count(7, 0);
  for (std::uint64_t i = 0; i < 70000; ++i) ++count.at(static_cast<std::size_t>(random.below(7, 0, i)));
  for (const int c : count) EXPECT_NEAR(c, 10000, 400);
}

TEST(Categorical, FollowsItsWeights) {
  const std::vector<double> weights = {1, 0, 3, 6};
  const Categorical categorical(weights);
  const CounterRandom random(3, 0);
  std::vector<int> count(4, 0);
  for (std::uint64_t i = 0; i < 100000; ++i) ++count[static_cast<std::size_t>(categorical.index(random.uniform(0, i)))];
  EXPECT_EQ(count[1], 0);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(count[i] / 100000.0, weights[i] / 10, 0.006);
}

TEST(PortableMath, AgreesWithTheLibraryToAFewUlps) {
  const CounterRandom random(5, 0);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const double x = std::ldexp(random.uniform(0, i) + 0.5, static_cast<int>(random.below(200, 1, i)) - 100);
    EXPECT_NEAR(portable_log(x), std::log(x), 4e-16 * std::max(1.0, std::fabs(std::log(x)))) << x;
    const double y = (random.uniform(2, i) - 0.5) * 1400;
    EXPECT_NEAR(portable_exp(y) / std::exp(y), 1.0, 1e-15) << y;
  }
  EXPECT_EQ(portable_log(1.0), 0.0);
  EXPECT_EQ(portable_exp(0.0), 1.0);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const double x = std::ldexp(random.uniform(3, i) + 0.5, static_cast<int>(random.below(20, 4, i)) - 10);
    const double y = (random.uniform(5, i) - 0.5) * 20;
    EXPECT_NEAR(portable_pow(x, y) / std::pow(x, y), 1.0, 1e-15 * (1 + std::fabs(y * std::log(x)))) << x << " " << y;
  }
}

TEST(PortableMath, LimitsAreThoseOfDouble) {
  EXPECT_EQ(portable_exp(710), std::numeric_limits<double>::infinity());
  EXPECT_EQ(portable_exp(-746), 0.0);
  EXPECT_GT(portable_exp(-745), 0.0);
  EXPECT_NEAR(portable_log(5e-324), std::log(5e-324), 1e-12);
  EXPECT_NEAR(portable_log(1.7976931348623157e308), std::log(1.7976931348623157e308), 1e-12);
}

TEST(PortableMath, NormalQuantileInvertsTheDistributionFunction) {
  for (double p = 1e-300; p < 0.5; p *= 3) {
    const double z = normal_quantile(p);
    // d ln(p) / dz is about -z in the tail, so an error of 1e-15 in z shows as 1e-15 z^2 in p.
    EXPECT_NEAR(std::erfc(-z / std::sqrt(2.0)) / 2 / p, 1.0, 2e-15 * (3 + z * z)) << p;
  }
  for (double p = 0.01; p < 0.5; p += 0.01) {
    EXPECT_NEAR(std::erfc(-normal_quantile(p) / std::sqrt(2.0)) / 2, p, 1e-15) << p;
    EXPECT_NEAR(normal_quantile(1 - p), -normal_quantile(p), 1e-13) << p;
  }
  EXPECT_EQ(normal_quantile(0.5), 0.0);
  EXPECT_NEAR(normal_quantile(0.975), 1.9599639845400545, 1e-15);
}

TEST(Zipf, WeightsFallAsPowersAndSumToOne) {
  const std::vector<double> weights = zipf_weights(8, 1.0);
  double sum = 0;
  for (const double weight : weights) sum += weight;
  EXPECT_NEAR(sum, 1.0, 1e-14);
  EXPECT_NEAR(weights[0] / weights[3], 4.0, 1e-12);
}

}  // namespace
}  // namespace moecast
