#include "sim/sweep/sweep_range.h"

#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/math.h"
#include "base/units.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
std::optional<double> parsed(const Result<T>& result) {
  if (!result.ok()) return std::nullopt;
  if constexpr (std::is_same_v<T, Duration>) {
    return static_cast<double>(result->count());
  } else {
    return result->value();
  }
}

std::optional<Magnitude> magnitude_of_text(const std::string& text) {
  struct Family {
    std::string_view name;
    std::optional<double> (*parse)(std::string_view);
  };
  static constexpr std::array kFamilies = {
      Family{"ns", [](std::string_view t) { return parsed(parse_duration(t)); }},
      Family{"bytes", [](std::string_view t) { return parsed(parse_bytes(t)); }},
      Family{"bytes_per_second", [](std::string_view t) { return parsed(parse_bytes_per_second(t)); }},
      Family{"flop", [](std::string_view t) { return parsed(parse_flops(t)); }},
      Family{"flop_per_second", [](std::string_view t) { return parsed(parse_flops_per_second(t)); }}};
  for (const Family& family : kFamilies) {
    if (const std::optional<double> value = family.parse(text)) return Magnitude{*value, std::string(family.name)};
  }
  return std::nullopt;
}

Error bad(std::string message) { return Error{ErrorKind::BadInput, "", std::move(message)}; }

/// How a range is written: plain numbers, or numbers of one unit.
struct Scale {
  std::string unit;   // as the user spelled it, with the blank before it; empty: plain
  double factor = 1;  // base units in one of it
  bool integers = false;

  [[nodiscard]] Json value(double number) const {
    if (!unit.empty()) return fmt::format("{}{}", number, unit);
    if (integers) return static_cast<std::int64_t>(std::llround(number));
    return number;
  }
};

struct Range {
  Scale scale;
  double from = 0, to = 0, step = 0;  // in the scale's unit
};

/// Takes away what rounding left in the last digits.
double rounded(double value, int digits) {
  const std::string text = fmt::format("{:.{}g}", value, digits);
  double out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

Scale scale_of(const Json& from, const Json& to) {
  Scale scale;
  scale.integers = from.is_number_integer() && to.is_number_integer();
  if (!from.is_string()) return scale;
  const auto text = from.get<std::string>();
  double number = 0;
  const char* rest = std::from_chars(text.data(), text.data() + text.size(), number).ptr;
  scale.unit = std::string(rest, text.data() + text.size());
  scale.factor = magnitude_of_text("1" + scale.unit).value_or(Magnitude{1, ""}).value;
  return scale;
}

Result<Range> read_range(const Json& from, const Json& to, const Json& step) {
  const std::optional<Magnitude> first = magnitude_of(from), last = magnitude_of(to), width = magnitude_of(step);
  if (!first || !last || !width) return bad("expected numbers, or texts with a number and a unit");
  if (first->family != last->family || first->family != width->family) {
    return bad(fmt::format("expected one kind of unit, found {}, {} and {}", from.dump(), to.dump(), step.dump()));
  }
  Scale scale = scale_of(from, to);
  scale.integers = scale.integers && step.is_number_integer();
  const auto in_unit = [&](const Magnitude& each) { return rounded(each.value / scale.factor, 15); };
  return Range{scale, in_unit(*first), in_unit(*last), in_unit(*width)};
}

}  // namespace

std::optional<Magnitude> magnitude_of(const Json& value) {
  if (value.is_number()) return Magnitude{value.get<double>(), ""};
  return value.is_string() ? magnitude_of_text(value.get<std::string>()) : std::nullopt;
}

Result<Json> linear_values(const Json& from, const Json& to, const Json& step) {
  const Result<Range> range = read_range(from, to, step);
  if (!range.ok()) return range.error();
  const double count = std::floor((range->to - range->from) / range->step * (1 + 1e-12) + 1e-9) + 1;
  if (!(range->step != 0) || !(count >= 1)) return bad("expected a step that leads from \"from\" to \"to\"");
  if (count > static_cast<double>(kMostAxisValues)) return bad(fmt::format("more than {} values", kMostAxisValues));
  Json out = Json::array();
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(count); ++i) {
    out.push_back(range->scale.value(rounded(range->from + static_cast<double>(i) * range->step, 12)));
  }
  return out;
}

Result<Json> logarithmic_values(const Json& from, const Json& to, std::int64_t count) {
  const Result<Range> range = read_range(from, to, from);
  if (!range.ok()) return range.error();
  if (range->from <= 0 || range->to <= 0) return bad("expected values above zero");
  const double ratio = portable_log(range->to / range->from) / static_cast<double>(count - 1);
  Json out = Json::array();
  for (std::int64_t i = 0; i < count; ++i) {
    double number = rounded(range->from * portable_exp(ratio * static_cast<double>(i)), 6);
    if (i == 0) number = range->from;
    if (i == count - 1) number = range->to;
    const Json value = range->scale.value(number);
    if (out.empty() || out.back() != value) out.push_back(value);
  }
  return out;
}

}  // namespace moecast
