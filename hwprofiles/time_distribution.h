#pragma once

#include <string>
#include <vector>

#include "base/json_reader.h"
#include "base/units.h"

namespace moecast {

/// A positive random time: gaps between failures, detection, repair. One function draws from all laws: the time at
/// which the cumulative hazard -ln S(t) reaches a standard exponential number.
struct TimeDistribution {
  enum class Law { Constant, Exponential, Weibull, Lognormal, Empirical };

  Law law = Law::Constant;
  double mean = 0;             // seconds; of Lognormal too
  double shape = 1;            // Weibull: k (decreasing hazard below 1); Lognormal: sigma of the logarithm
  std::vector<double> values;  // Empirical only: seconds, ascending, equally likely

  [[nodiscard]] static TimeDistribution constant(double seconds);
  [[nodiscard]] static TimeDistribution exponential(double mean_seconds);
  [[nodiscard]] static TimeDistribution weibull(double mean_seconds, double shape);
  [[nodiscard]] static TimeDistribution lognormal(double mean_seconds, double sigma);
  [[nodiscard]] static TimeDistribution lognormal_median(double median_seconds, double sigma);
  [[nodiscard]] static TimeDistribution empirical(std::vector<double> seconds);  // not empty

  /// Seconds. `hazard` > 0; a standard exponential number gives a draw.
  [[nodiscard]] double at_hazard(double hazard) const;
  /// P(T > seconds).
  [[nodiscard]] double survival(double seconds) const;
  /// The same law with every time multiplied by `factor` > 0.
  [[nodiscard]] TimeDistribution scaled(double factor) const;
  [[nodiscard]] std::string text() const;  // "5 min", "Weibull, mean 3.1 h, shape 0.7"

  friend bool operator==(const TimeDistribution&, const TimeDistribution&) = default;

 private:
  double scale_ = 0;  // of Weibull: mean / Gamma(1 + 1/k); median of Lognormal. Set by the makers.
};

/// Reads a distribution at `key`: "5 min" (constant) or an object such as {"law": "exponential", "mean": "5 min"},
/// {"law": "weibull", "mean": "3 h", "shape": 0.7}, {"law": "lognormal", "median": "53 min", "sigma": 1.2} ("mean"
/// instead of "median" too), {"law": "empirical", "values": ["1 min", "4 min"]}.
[[nodiscard]] TimeDistribution read_distribution(JsonReader& parent, std::string_view key,
                                                 std::optional<TimeDistribution> fallback = std::nullopt);
/// What read_distribution reads back.
[[nodiscard]] nlohmann::ordered_json to_json(const TimeDistribution& distribution);

}  // namespace moecast
