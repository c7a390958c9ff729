#include "hwprofiles/routed_experts.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast {
namespace {

double sum(const ExpertRows& rows) { return std::accumulate(rows.begin(), rows.end(), 0.0); }

std::vector<ExpertRows> draws_of(const BenchmarkRouting& routing) {
  const Result<std::vector<ExpertRows>> draws = benchmark_rows(routing);
  EXPECT_TRUE(draws.ok());
  return draws.ok() ? *draws : std::vector<ExpertRows>{};
}

TEST(BenchmarkRouting, BalancedGivesEveryExpertItsShare) {
  const auto draws = draws_of({64, 16, 2, 4, "balanced"});
  ASSERT_EQ(draws.size(), 1U);
  EXPECT_EQ(draws[0], (ExpertRows{8, 8, 8, 8}));
  EXPECT_EQ(draws_of({1, 16, 2, 4, "balanced"})[0], (ExpertRows{1}));  // experts 0 and 8
}

TEST(BenchmarkRouting, APowerLawGivesTheBusiestRank) {
  const auto one = draws_of({1024, 64, 8, 1, "power_law_1.2"});
  const auto eighth = draws_of({1024, 64, 8, 8, "power_law_1.2"});
  ASSERT_EQ(one.size(), eighth.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(sum(one[i]), 1024 * 8);
    EXPECT_GE(sum(eighth[i]), 1024);  // at least the mean rank's
    EXPECT_LT(sum(eighth[i]), 1024 * 8);
  }
  EXPECT_NE(one[0], one[1]);
  EXPECT_EQ(one, draws_of({1024, 64, 8, 1, "power_law_1.2"}));
}

TEST(BenchmarkRouting, SteeperIsMoreSkewed) {
  const auto largest = [](const std::vector<ExpertRows>& draws) {
    double total = 0;
    for (const ExpertRows& rows : draws) total += *std::max_element(rows.begin(), rows.end());
    return total;
  };
  EXPECT_GT(largest(draws_of({4096, 128, 8, 1, "power_law_1.2"})),
            4 * largest(draws_of({4096, 128, 8, 1, "balanced"})));
}

TEST(BenchmarkRouting, RefusesWhatItDoesNotKnow) {
  EXPECT_FALSE(benchmark_rows({8, 8, 2, 3, "balanced"}).ok());
  EXPECT_FALSE(benchmark_rows({8, 8, 2, 2, "uniform"}).ok());
  EXPECT_FALSE(benchmark_rows({8, 8, 2, 2, "power_law_"}).ok());
  EXPECT_FALSE(benchmark_rows({8, 8, 2, 2, "power_law_1"}).ok());
}

TEST(RoutedExperts, GroupsAddUp) {
  const GemmTable table{{1, 1024}, {1}, {1}, {1e12, 1e14}, Duration(1000)};
  const Duration one = table.time(64, 256, 512) - table.overhead;
  EXPECT_EQ(grouped_time(table, {64, 64, 64}, 256, 512), table.overhead + 3 * one);
  EXPECT_EQ(grouped_time(table, {}, 256, 512), table.overhead);
  EXPECT_GT(grouped_time(table, {126, 1, 1}, 256, 512), table.overhead);
}

/// Samples made by a table come back as that table, whatever the skew.
TEST(RoutedExperts, TheFitFindsTheTableThatMadeTheTimes) {
  DeviceProfile device = testing::sample_profile().device;
  device.gemm.flops_per_second.assign(device.gemm.flops_per_second.size(), 1e15);
  // Weights read at 3 TB/s until 500 TFLOP/s take longer: rate = 1 / (1 / (3e12 r) + 1 / 5e14) for two bytes an
  // element.
  GemmTable truth{{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}, {1}, {1}, {}, Duration(9000)};
  for (const std::int64_t rows : truth.m) {
    truth.flops_per_second.push_back(1 / (1 / (3e12 * static_cast<double>(rows)) + 1 / 5e14));
  }
  DeviceProfile real = device;
  real.grouped_gemm = truth;
  std::vector<ExpertSample> samples;
  int index = 0;
  for (const std::int64_t tokens : {1, 4, 16, 64, 256, 1024, 4096, 16384}) {
    for (const char* distribution : {"balanced", "power_law_1.01", "power_law_1.2"}) {
      for (const std::int64_t ranks : {1, 8}) {
        ExpertCall call{tokens, 2048, 768, true, 2, draws_of({tokens, 64, 4, ranks, distribution})};
        const Duration time = expert_time(real, call);
        samples.push_back({std::move(call), time, index++ % 3 == 2});
      }
    }
  }
  device.grouped_gemm = fit_routed_experts(samples, device);
  for (const ExpertSample& sample : samples) {
    const double ratio = seconds(expert_time(device, sample.call)) / seconds(sample.time);
    EXPECT_NEAR(ratio, 1, 0.05) << sample.call.tokens << (sample.held_out ? " held out" : "");
  }
  EXPECT_NEAR(static_cast<double>(device.grouped_gemm.overhead.count()), 9000, 900);
}

}  // namespace
}  // namespace moecast
