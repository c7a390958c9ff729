#include "base/statistics.h"

#include <cmath>
#include <limits>
#include <numbers>

#include <gtest/gtest.h>

namespace moecast {
namespace {

TEST(RunningMoments, AgreeWithTheTwoPassFormulaFarFromZero) {
  RunningMoments moments;
  for (const double value : {1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16}) moments.add(value);
  EXPECT_EQ(moments.count(), 4);
  EXPECT_DOUBLE_EQ(moments.mean(), 1e9 + 10);
  EXPECT_DOUBLE_EQ(moments.variance(), 30);
}

TEST(RunningMoments, OneValueHasNoVariance) {
  RunningMoments moments;
  moments.add(3);
  EXPECT_EQ(moments.variance(), 0);
}

TEST(Quantile, IsLinearBetweenNeighboursAsInNumpy) {
  const std::vector<double> values = {7, 1, 3, 10};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 10);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.25), 2.5);  // numpy.quantile([7, 1, 3, 10], 0.25)
  EXPECT_DOUBLE_EQ(median(std::vector<double>{4}), 4);
}

TEST(StudentT, AgreesWithClosedForms) {
  for (const double p : {0.6, 0.9, 0.975, 0.9995}) {
    const double cauchy = std::tan(std::numbers::pi * (p - 0.5));  // one degree of freedom
    EXPECT_NEAR(student_t_quantile(p, 1) / cauchy, 1, 1e-10) << p;
    const double two = (2 * p - 1) * std::sqrt(2 / (4 * p * (1 - p)));
    EXPECT_NEAR(student_t_quantile(p, 2) / two, 1, 1e-10) << p;
    EXPECT_DOUBLE_EQ(student_t_quantile(1 - p, 5), -student_t_quantile(1 - (1 - p), 5));
  }
  EXPECT_NEAR(student_t_quantile(0.975, 10), 2.2281388519649385, 1e-10);
  EXPECT_NEAR(student_t_quantile(0.975, 1e7), 1.959964, 1e-5);  // towards the normal distribution
}

TEST(RankCorrelation, LooksAtOrderAlone) {
  const std::vector<double> values = {3, 1, 2, 5};
  EXPECT_DOUBLE_EQ(rank_correlation(values, std::vector<double>{9, 1, 4, 25}), 1);
  EXPECT_DOUBLE_EQ(rank_correlation(values, std::vector<double>{-3, -1, -2, -5}), -1);
  EXPECT_DOUBLE_EQ(rank_correlation(values, std::vector<double>{7, 7, 7, 7}), 0);
  // Ranks 1 2 3 4 against 1 2.5 2.5 4: cov 4.5, variances 5 and 4.5.
  EXPECT_DOUBLE_EQ(rank_correlation(std::vector<double>{1, 2, 3, 4}, std::vector<double>{1, 2, 2, 4}),
                   4.5 / std::sqrt(5 * 4.5));
}

TEST(MeanInterval, UsesStudentT) {
  const MeanInterval interval = mean_interval(std::vector<double>{1, 2, 3, 4, 5});
  EXPECT_DOUBLE_EQ(interval.mean, 3);
  // t(0.975, 4) = 2.7764451051977987, deviation sqrt(2.5), n = 5
  EXPECT_NEAR(interval.half_width, 2.7764451051977987 * std::sqrt(2.5 / 5), 1e-9);
  EXPECT_EQ(mean_interval(std::vector<double>{1}).half_width, std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace moecast
