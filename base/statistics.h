#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moecast {

/// Count, mean and variance in one pass without cancellation (Welford, "Note on a method for calculating corrected sums
/// of squares and products", Technometrics 4(3), 1962). Feed it in a fixed order: the last bits depend on the order.
class RunningMoments {
 public:
  void add(double value);
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] double mean() const { return mean_; }
  [[nodiscard]] double variance() const;  // of a sample (n - 1 in the denominator); 0 below two values
  [[nodiscard]] double deviation() const;

 private:
  std::int64_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;  // sum of squared distances from the mean
};

/// Quantile 0 <= q <= 1 of stored values, not empty: linear between the neighbours of position q (n - 1), as numpy's
/// default (Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996, type
/// 7).
[[nodiscard]] double quantile(std::span<const double> values, double q);
[[nodiscard]] double median(std::span<const double> values);

/// Spearman's coefficient: the correlation of ranks, ties with their mean rank. As many values on both sides, two or
/// more; 0 where one side is constant.
[[nodiscard]] double rank_correlation(std::span<const double> a, std::span<const double> b);

/// Where the mean of the population lies with this confidence, if the values are independent and close to normal.
struct MeanInterval {
  double mean = 0;
  double half_width = 0;  // infinite for a single value: nothing is known about the spread
};
[[nodiscard]] MeanInterval mean_interval(std::span<const double> values, double confidence = 0.95);

/// Inverse of Student's t distribution with `degrees` >= 1 degrees of freedom, 0 < p < 1. Relative error below 1e-10.
[[nodiscard]] double student_t_quantile(double p, double degrees);

}  // namespace moecast
