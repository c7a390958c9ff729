#include "base/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/assert.h"
#include "base/math.h"

namespace moecast {

void RunningMoments::add(double value) {
  ++count_;
  const double distance = value - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (value - mean_);
}

double RunningMoments::variance() const { return count_ < 2 ? 0 : squares_ / static_cast<double>(count_ - 1); }
double RunningMoments::deviation() const { return std::sqrt(variance()); }

double quantile(std::span<const double> values, double q) {
  ASSERT(!values.empty(), "quantile of nothing");
  ASSERT(q >= 0 && q <= 1, "quantile {}", q);
  std::vector<double> sorted(values.begin(), values.end());
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(position);
  std::nth_element(sorted.begin(), sorted.begin() + below, sorted.end());
  const double low = sorted[static_cast<std::size_t>(below)];
  const double part = position - static_cast<double>(below);
  if (part == 0) return low;
  const double high = *std::min_element(sorted.begin() + below + 1, sorted.end());
  return low + (high - low) * part;
}

double median(std::span<const double> values) { return quantile(values, 0.5); }

MeanInterval mean_interval(std::span<const double> values, double confidence) {
  ASSERT(!values.empty(), "mean of nothing");
  ASSERT(confidence > 0 && confidence < 1, "confidence {}", confidence);
  RunningMoments moments;
  for (const double value : values) moments.add(value);
  if (moments.count() < 2) return {moments.mean(), std::numeric_limits<double>::infinity()};
  const auto n = static_cast<double>(moments.count());
  return {moments.mean(), student_t_quantile(0.5 + confidence / 2, n - 1) * moments.deviation() / std::sqrt(n)};
}

namespace {

/// Continued fraction of the incomplete beta function I_x(a, b) (Lentz's method; Press et al., Numerical Recipes, 3rd
/// edition, section 6.4).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::fabs(value) < kTiny ? kTiny : value; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = d;
  for (int m = 1; m < 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    fraction *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    fraction *= c * d;
    if (std::fabs(c * d - 1) < 1e-15) break;
  }
  return fraction;
}

/// P(T > t) for t >= 0: I_x(n/2, 1/2) / 2 with x = n / (n + t^2).
double upper_tail(double t, double n) {
  const double x = n / (n + t * t);
  const double y = t * t / (n + t * t);  // 1 - x without cancellation
  if (y == 0) return 0.5;
  const double a = n / 2;
  const double b = 0.5;
  const double front = portable_exp(portable_log_gamma(a + b) - portable_log_gamma(a) - portable_log_gamma(b) +
                                    a * portable_log(x) + b * portable_log(y));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(x, a, b) / a / 2;
  return (1 - front * beta_fraction(y, b, a) / b) / 2;
}

/// Positions in ascending order; equal values share their mean.
std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return values[i] < values[j]; });
  std::vector<double> ranks(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (std::size_t i = begin; i < end; ++i) ranks[order[i]] = static_cast<double>(begin + end - 1) / 2;
    begin = end;
  }
  return ranks;
}

}  // namespace

double rank_correlation(std::span<const double> a, std::span<const double> b) {
  ASSERT(a.size() == b.size() && a.size() >= 2, "{} and {} values", a.size(), b.size());
  const std::vector<double> x = ranks_of(a), y = ranks_of(b);
  const double mean = static_cast<double>(a.size() - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

double student_t_quantile(double p, double degrees) {
  ASSERT(p > 0 && p < 1, "quantile at {}", p);
  ASSERT(degrees >= 1, "{} degrees of freedom", degrees);
  if (p < 0.5) return -student_t_quantile(1 - p, degrees);
  if (p == 0.5) return 0;
  // Bisection on t in [0, high]: the tail falls steadily, and 200 halvings end at neighbouring doubles.
  double low = 0;
  double high = 1;
  while (upper_tail(high, degrees) > 1 - p && high < 1e150) high *= 2;
  for (int step = 0; step < 200 && low < high; ++step) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (upper_tail(middle, degrees) > 1 - p ? low : high) = middle;
  }
  return high;
}

}  // namespace moecast
