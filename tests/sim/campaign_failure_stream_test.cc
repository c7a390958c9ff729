#include "sim/campaign/failure_stream.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "base/statistics.h"
#include "tests/sim/campaign_testing.h"

namespace moecast {
namespace {

CampaignScenario cluster_with(FailureMode mode) {
  CampaignScenario scenario = plain_campaign();
  scenario.cluster.gpus = 64;
  scenario.cluster.nodes_per_rack = 2;
  scenario.reliability.modes = {std::move(mode)};
  return scenario;
}

FailureMode gpu_mode(double mean) {
  FailureMode mode = crash_mode(mean, 1);
  mode.per = mode.reach = FailureUnit::Gpu;
  return mode;
}

TEST(FailureStream, SameSeedSameFailuresAndTheyAreInOrder) {
  const CampaignScenario scenario = cluster_with(gpu_mode(6400));
  const auto failures = draw_failures(scenario, 5, Instant(seconds_of(1e5)));
  EXPECT_EQ(draw_failures(scenario, 5, Instant(seconds_of(1e5))), failures);
  EXPECT_NE(draw_failures(scenario, 6, Instant(seconds_of(1e5))), failures);
  EXPECT_TRUE(
      std::is_sorted(failures.begin(), failures.end(), [](const Failure& a, const Failure& b) { return a.at < b.at; }));
  EXPECT_NEAR(static_cast<double>(failures.size()), 1000, 150);
  for (const Failure& failure : failures) {
    EXPECT_GE(failure.unit, 0);
    EXPECT_LT(failure.unit, 64);
    EXPECT_EQ(failure.nodes, (NodeRange{failure.unit / 8, 1}));
  }
}

TEST(FailureStream, OfALongerTimeBeginsWithThatOfAShorterOne) {
  const CampaignScenario scenario = cluster_with(gpu_mode(6400));
  auto longer = draw_failures(scenario, 0, Instant(seconds_of(2e5)));
  const auto shorter = draw_failures(scenario, 0, Instant(seconds_of(1e5)));
  ASSERT_LT(shorter.size(), longer.size());
  longer.resize(shorter.size());
  EXPECT_EQ(longer, shorter);
}

TEST(FailureStream, UnitsOneByOneFailAsOftenAsEachOfThemShould) {
  // Weibull with shape 2 and mean 100: counts of 64 units over 60 from the beginning, all fresh: the renewal function
  // of one unit, here by drawing every unit on its own.
  FailureMode mode = gpu_mode(100);
  mode.gap_law = TimeDistribution::weibull(1, 2);
  mode.each = true;
  const CampaignScenario scenario = cluster_with(mode);
  std::vector<double> counts, expected;
  const CounterRandom random(99, 1);
  for (std::int64_t replica = 0; replica < 600; ++replica) {
    counts.push_back(static_cast<double>(draw_failures(scenario, replica, Instant(seconds_of(60))).size()));
    double sum = 0;
    for (std::uint64_t unit = 0; unit < 64; ++unit) {
      double at = 0;
      for (std::uint64_t draw = 0; at < 60; ++draw) {
        at += mode.gap_law.at_hazard(random.exponential(static_cast<std::uint64_t>(replica) * 64 + unit, draw)) * 100;
        if (at < 60) ++sum;
      }
    }
    expected.push_back(sum);
  }
  const MeanInterval a = mean_interval(counts, 0.99);
  const MeanInterval b = mean_interval(expected, 0.99);
  EXPECT_LE(std::fabs(a.mean - b.mean), a.half_width + b.half_width) << a.mean << " and " << b.mean;
}

TEST(FailureStream, RacksAndCompanionsGoTogether) {
  FailureMode mode = gpu_mode(6400);
  mode.spreads_to_rack = 0.5;
  mode.companion = 0.25;
  const auto failures = draw_failures(cluster_with(mode), 0, Instant(seconds_of(2e5)));
  double racks = 0;
  double companions = 0;
  for (const Failure& failure : failures) {
    racks += failure.nodes.count == 2 ? 1 : 0;
    companions += failure.companion_count > 0 ? 1 : 0;
    if (failure.nodes.count == 2) {
      EXPECT_EQ(failure.nodes.first % 2, 0);
    }
  }
  EXPECT_NEAR(racks / static_cast<double>(failures.size()), 0.5, 0.05);
  EXPECT_NEAR(companions / static_cast<double>(failures.size()), 0.25, 0.05);
}

TEST(FailureStream, ARecordedLogIsReplayed) {
  CampaignScenario scenario = cluster_with(gpu_mode(0));
  scenario.reliability.recorded = {{10, 0, 63}, {20.5, 0, 0}};
  const auto failures = draw_failures(scenario, 7, Instant(seconds_of(100)));
  ASSERT_EQ(failures.size(), 2U);
  EXPECT_EQ(failures[0].at, Instant(seconds_of(10)));
  EXPECT_EQ(failures[0].nodes, (NodeRange{7, 1}));
  EXPECT_EQ(failures[1].at, Instant(seconds_of(20.5)));
  const std::string table = failure_table(scenario, failures);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
}

}  // namespace
}  // namespace moecast
