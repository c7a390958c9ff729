#include "hwprofiles/time_distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "base/math.h"

namespace moecast {

TimeDistribution TimeDistribution::constant(double seconds) {
  ASSERT(seconds >= 0, "constant {}", seconds);
  TimeDistribution out;
  out.mean = seconds;
  return out;
}

TimeDistribution TimeDistribution::exponential(double mean_seconds) {
  TimeDistribution out = constant(mean_seconds);
  out.law = Law::Exponential;
  return out;
}

TimeDistribution TimeDistribution::weibull(double mean_seconds, double shape) {
  ASSERT(shape > 0, "shape {}", shape);
  TimeDistribution out = constant(mean_seconds);
  out.law = Law::Weibull;
  out.shape = shape;
  out.scale_ = mean_seconds / portable_exp(portable_log_gamma(1 + 1 / shape));
  return out;
}

TimeDistribution TimeDistribution::lognormal_median(double median_seconds, double sigma) {
  ASSERT(sigma >= 0, "sigma {}", sigma);
  TimeDistribution out = constant(median_seconds * portable_exp(sigma * sigma / 2));
  out.law = Law::Lognormal;
  out.shape = sigma;
  out.scale_ = median_seconds;
  return out;
}

TimeDistribution TimeDistribution::lognormal(double mean_seconds, double sigma) {
  return lognormal_median(mean_seconds * portable_exp(-sigma * sigma / 2), sigma);
}

TimeDistribution TimeDistribution::empirical(std::vector<double> seconds) {
  ASSERT(!seconds.empty(), "no values");
  std::sort(seconds.begin(), seconds.end());
  double sum = 0;
  for (const double value : seconds) sum += value;
  TimeDistribution out = constant(sum / static_cast<double>(seconds.size()));
  out.law = Law::Empirical;
  out.values = std::move(seconds);
  return out;
}

namespace {
/// 1 - e^-h without cancellation for small h.
double probability_of(double hazard) {
  if (hazard < 1e-4) return hazard * (1 - hazard / 2 * (1 - hazard / 3));
  return 1 - portable_exp(-hazard);
}
}  // namespace

double TimeDistribution::at_hazard(double hazard) const {
  switch (law) {
    case Law::Constant:
      return mean;
    case Law::Exponential:
      return mean * hazard;
    case Law::Weibull:
      return scale_ * portable_pow(hazard, 1 / shape);
    case Law::Lognormal: {
      const double p = std::clamp(probability_of(hazard), 1e-300, 1 - 0x1p-53);
      return scale_ * portable_exp(shape * normal_quantile(p));
    }
    case Law::Empirical:
      break;
  }
  const auto count = static_cast<double>(values.size());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(probability_of(hazard) * count))];
}

double TimeDistribution::survival(double seconds) const {
  if (seconds <= 0) return 1;
  switch (law) {
    case Law::Constant:
      return seconds < mean ? 1 : 0;
    case Law::Exponential:
      return portable_exp(-seconds / mean);
    case Law::Weibull:
      return portable_exp(-portable_pow(seconds / scale_, shape));
    case Law::Lognormal:
      if (shape == 0) return seconds < mean ? 1 : 0;
      return 0.5 * std::erfc(portable_log(seconds / scale_) / (shape * std::sqrt(2.0)));
    case Law::Empirical:
      break;
  }
  const auto above = std::upper_bound(values.begin(), values.end(), seconds);
  return static_cast<double>(values.end() - above) / static_cast<double>(values.size());
}

TimeDistribution TimeDistribution::scaled(double factor) const {
  ASSERT(factor > 0, "factor {}", factor);
  TimeDistribution out = *this;
  out.mean *= factor;
  out.scale_ *= factor;
  for (double& value : out.values) value *= factor;
  return out;
}

namespace {
std::string pretty_seconds(double value) {
  return value < 9e9 ? pretty(duration_from_seconds(value)) : fmt::format("{:.3g} s", value);
}
}  // namespace

std::string TimeDistribution::text() const {
  switch (law) {
    case Law::Constant:
      return pretty_seconds(mean);
    case Law::Exponential:
      return fmt::format("exponential, mean {}", pretty_seconds(mean));
    case Law::Weibull:
      return fmt::format("Weibull, mean {}, shape {}", pretty_seconds(mean), shape);
    case Law::Lognormal:
      return fmt::format("lognormal, median {}, sigma {}", pretty_seconds(scale_), shape);
    case Law::Empirical:
      break;
  }
  return fmt::format("{} recorded values, mean {}", values.size(), pretty_seconds(mean));
}

namespace {

const EnumNames<TimeDistribution::Law>& law_names() {
  using Law = TimeDistribution::Law;
  static const EnumNames<Law> names = {{"constant", Law::Constant},
                                       {"exponential", Law::Exponential},
                                       {"weibull", Law::Weibull},
                                       {"lognormal", Law::Lognormal},
                                       {"empirical", Law::Empirical}};
  return names;
}

double positive_seconds(JsonReader& reader, std::string_view key) {
  const bool there = reader.has(key);
  const Duration value = reader.duration(key);
  if (there && reader.good() && value <= Duration::zero())
    reader.problem(key, "out-of-range", "a time above zero", to_text(value));
  return value > Duration::zero() ? seconds(value) : 1.0;
}

TimeDistribution read_empirical(JsonReader& reader) {
  std::vector<double> values;
  for (const std::string& text : reader.texts("values")) {
    const Result<Duration> value = parse_duration(text);
    if (!value.ok()) {
      reader.problem("values", "bad-unit", value.error().message, text);
      continue;
    }
    values.push_back(seconds(*value));
  }
  if (values.empty()) {
    if (reader.good()) reader.problem("values", "out-of-range", "at least one time", "an empty list");
    values = {1.0};
  }
  return TimeDistribution::empirical(std::move(values));
}

TimeDistribution read_lognormal(JsonReader& reader) {
  const double sigma = reader.number("sigma", 0, 10);
  if (reader.has("mean")) return TimeDistribution::lognormal(positive_seconds(reader, "mean"), sigma);
  return TimeDistribution::lognormal_median(positive_seconds(reader, "median"), sigma);
}

}  // namespace

TimeDistribution read_distribution(JsonReader& parent, std::string_view key, std::optional<TimeDistribution> fallback) {
  using Law = TimeDistribution::Law;
  if (!parent.has(key) && fallback) return *fallback;
  if (parent.kind(key) != "object") return TimeDistribution::constant(seconds(parent.duration(key)));
  JsonReader reader = parent.object(key);
  switch (reader.choice("law", law_names())) {
    case Law::Constant:
      return TimeDistribution::constant(seconds(reader.duration("time")));
    case Law::Exponential:
      return TimeDistribution::exponential(positive_seconds(reader, "mean"));
    case Law::Weibull:
      return TimeDistribution::weibull(positive_seconds(reader, "mean"),
                                       std::max(0.01, reader.number("shape", 0.05, 20)));
    case Law::Lognormal:
      return read_lognormal(reader);
    case Law::Empirical:
      break;
  }
  return read_empirical(reader);
}

namespace {
std::string exact_seconds(double value) { return fmt::format("{} s", value); }
}  // namespace

nlohmann::ordered_json to_json(const TimeDistribution& distribution) {
  using Law = TimeDistribution::Law;
  if (distribution.law == Law::Constant) return exact_seconds(distribution.mean);
  nlohmann::ordered_json out;
  for (const auto& [name, law] : law_names()) {
    if (law == distribution.law) out["law"] = name;
  }
  if (distribution.law == Law::Empirical) {
    for (const double value : distribution.values) out["values"].push_back(exact_seconds(value));
    return out;
  }
  out["mean"] = exact_seconds(distribution.mean);
  if (distribution.law == Law::Weibull) out["shape"] = distribution.shape;
  if (distribution.law == Law::Lognormal) out["sigma"] = distribution.shape;
  return out;
}

}  // namespace moecast
