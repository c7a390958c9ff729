#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace moecast {

namespace {

struct Unit {
  std::string_view name;
  double factor;
};

// In the order of preference for printing: within one family ascending, decimal before binary.
constexpr std::array kByteUnits = {
    Unit{"B", 1},     Unit{"kB", 1e3},   Unit{"MB", 1e6},      Unit{"GB", 1e9},         Unit{"TB", 1e12},
    Unit{"PB", 1e15}, Unit{"KiB", 1024}, Unit{"MiB", 1048576}, Unit{"GiB", 1073741824}, Unit{"TiB", 1099511627776}};
constexpr std::array kFlopUnits = {Unit{"FLOP", 1},     Unit{"kFLOP", 1e3},  Unit{"MFLOP", 1e6}, Unit{"GFLOP", 1e9},
                                   Unit{"TFLOP", 1e12}, Unit{"PFLOP", 1e15}, Unit{"EFLOP", 1e18}};
constexpr std::array kByteRateUnits = {Unit{"B/s", 1},
                                       Unit{"kB/s", 1e3},
                                       Unit{"MB/s", 1e6},
                                       Unit{"GB/s", 1e9},
                                       Unit{"TB/s", 1e12},
                                       Unit{"PB/s", 1e15},
                                       Unit{"KiB/s", 1024},
                                       Unit{"MiB/s", 1048576},
                                       Unit{"GiB/s", 1073741824},
                                       Unit{"TiB/s", 1099511627776},
                                       Unit{"b/s", 0.125},
                                       Unit{"kb/s", 0.125e3},
                                       Unit{"Mb/s", 0.125e6},
                                       Unit{"Gb/s", 0.125e9},
                                       Unit{"Tb/s", 0.125e12}};
constexpr std::array kFlopRateUnits = {Unit{"FLOP/s", 1},    Unit{"kFLOP/s", 1e3},  Unit{"MFLOP/s", 1e6},
                                       Unit{"GFLOP/s", 1e9}, Unit{"TFLOP/s", 1e12}, Unit{"PFLOP/s", 1e15},
                                       Unit{"EFLOP/s", 1e18}};
constexpr std::array kTimeUnits = {Unit{"ns", 1},     Unit{"us", 1e3},   Unit{"ms", 1e6},   Unit{"s", 1e9},
                                   Unit{"min", 60e9}, Unit{"h", 3600e9}, Unit{"d", 86400e9}};

template <std::size_t N>
std::string unit_list(const std::array<Unit, N>& units) {
  std::string out;
  for (const Unit& unit : units) out += (out.empty() ? "" : ", ") + std::string(unit.name);
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// Parses "<number> <unit>" into the base unit.
template <std::size_t N>
Result<double> parse_quantity(std::string_view text, const std::array<Unit, N>& units, std::string_view example) {
  const auto bad = [&](std::string message) {
    return Error{ErrorKind::BadInput, fmt::format("\"{}\"", text), message};
  };
  const std::string_view body = trimmed(text);
  double number = 0;
  const auto [rest, code] = std::from_chars(body.data(), body.data() + body.size(), number);
  if (code != std::errc() || !std::isfinite(number))
    return bad(fmt::format("expected a number with a unit such as \"{}\"", example));
  const std::string_view name = trimmed(body.substr(static_cast<std::size_t>(rest - body.data())));
  if (name.empty())
    return bad(fmt::format("a number needs a unit: write \"{} {}\" or another of {}", body,
                           example.substr(example.find(' ') + 1), unit_list(units)));
  if (number < 0) return bad("must not be negative");
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    const double value = number * unit.factor;
    if (!std::isfinite(value)) return bad("is too large");
    return value;
  }
  return bad(fmt::format("unknown unit \"{}\", expected one of {}", name, unit_list(units)));
}

/// The shortest text whose unit is one of the first `decimal_count` and that parses back to exactly `value`.
template <std::size_t N>
std::string exact_text(double value, const std::array<Unit, N>& units, std::size_t decimal_count) {
  std::string best;
  for (std::size_t i = 0; i < decimal_count; ++i) {
    const double scaled = value / units[i].factor;
    if (scaled < 1 && i > 0) break;
    std::string text = fmt::format("{} {}", scaled, units[i].name);
    double back = 0;
    std::from_chars(text.data(), text.data() + text.size(), back);
    if (back * units[i].factor != value) continue;
    if (best.empty() || text.size() <= best.size() || (best.find('e') != std::string::npos)) best = std::move(text);
  }
  return best;
}

/// Three digits in the largest unit that leaves a number of 1 or more; whole numbers of the smallest unit as they are.
template <std::size_t N>
std::string pretty_text(double value, const std::array<Unit, N>& units, std::size_t unit_count) {
  if (value < 0) return "-" + pretty_text(-value, units, unit_count);
  std::size_t i = 0;
  while (i + 1 < unit_count && value >= units[i + 1].factor * 0.9995) ++i;
  const double scaled = value / units[i].factor;
  const bool plain = scaled >= 99.95 || (i == 0 && scaled == std::floor(scaled));
  const int digits = plain ? 0 : scaled >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", scaled, digits, units[i].name);
}

constexpr std::int64_t kExactInDouble = std::int64_t{1} << 53;

/// Whole numbers of whole units beyond 2^53, which a double cannot hold ("9007199254740993 B").
template <std::size_t N>
std::optional<std::int64_t> large_whole(std::string_view text, const std::array<Unit, N>& units) {
  const std::string_view body = trimmed(text);
  std::int64_t number = 0;
  const auto [rest, code] = std::from_chars(body.data(), body.data() + body.size(), number);
  if (code != std::errc() || number <= kExactInDouble) return std::nullopt;
  const std::string_view name = trimmed(body.substr(static_cast<std::size_t>(rest - body.data())));
  return name == units[0].name ? std::optional(number) : std::nullopt;
}

/// A quantity counted in whole base units (bytes, nanoseconds): fractions round to the nearest.
template <std::size_t N>
Result<std::int64_t> parse_whole(std::string_view text, const std::array<Unit, N>& units, std::string_view example) {
  if (const std::optional<std::int64_t> exact = large_whole(text, units)) return *exact;
  const Result<double> value = parse_quantity(text, units, example);
  if (!value.ok()) return value.error();
  if (*value >= 0x1p63) {
    return Error{ErrorKind::BadInput, fmt::format("\"{}\"", text), fmt::format("is more than 2^63 {}", units[0].name)};
  }
  return static_cast<std::int64_t>(std::llround(*value));
}

template <std::size_t N>
std::string exact_whole_text(std::int64_t count, const std::array<Unit, N>& units, std::size_t decimal_count) {
  if (count > kExactInDouble) return fmt::format("{} {}", count, units[0].name);
  return exact_text(static_cast<double>(count), units, decimal_count);
}

}  // namespace

Duration duration_from_seconds(double value) {
  ASSERT(value >= 0 && value < 9.2e9, "duration of {} s", value);
  return Duration(static_cast<std::int64_t>(std::ceil(value * 1e9)));
}

Result<Bytes> parse_bytes(std::string_view text) {
  const Result<std::int64_t> count = parse_whole(text, kByteUnits, "80 GiB");
  if (!count.ok()) return count.error();
  return Bytes(*count);
}
Result<Flops> parse_flops(std::string_view text) {
  const Result<double> value = parse_quantity(text, kFlopUnits, "12 GFLOP");
  if (!value.ok()) return value.error();
  return Flops(*value);
}
Result<BytesPerSecond> parse_bytes_per_second(std::string_view text) {
  const Result<double> value = parse_quantity(text, kByteRateUnits, "50 GB/s");
  if (!value.ok()) return value.error();
  return BytesPerSecond(*value);
}
Result<FlopsPerSecond> parse_flops_per_second(std::string_view text) {
  const Result<double> value = parse_quantity(text, kFlopRateUnits, "312 TFLOP/s");
  if (!value.ok()) return value.error();
  return FlopsPerSecond(*value);
}
Result<Duration> parse_duration(std::string_view text) {
  const Result<std::int64_t> count = parse_whole(text, kTimeUnits, "12 us");
  if (!count.ok()) return count.error();
  return Duration(*count);
}

std::string to_text(Bytes value) { return exact_whole_text(value.count(), kByteUnits, 6); }
std::string to_text(Flops value) { return exact_text(value.value(), kFlopUnits, kFlopUnits.size()); }
std::string to_text(BytesPerSecond value) { return exact_text(value.value(), kByteRateUnits, 6); }
std::string to_text(FlopsPerSecond value) { return exact_text(value.value(), kFlopRateUnits, kFlopRateUnits.size()); }
std::string to_text(Duration value) { return exact_whole_text(value.count(), kTimeUnits, 4); }

std::string pretty(Bytes value) { return pretty_text(value.value(), kByteUnits, 6); }
std::string pretty(Flops value) { return pretty_text(value.value(), kFlopUnits, kFlopUnits.size()); }
std::string pretty(BytesPerSecond value) { return pretty_text(value.value(), kByteRateUnits, 6); }
std::string pretty(FlopsPerSecond value) { return pretty_text(value.value(), kFlopRateUnits, kFlopRateUnits.size()); }
std::string pretty(Duration value) {
  return pretty_text(static_cast<double>(value.count()), kTimeUnits, kTimeUnits.size());
}

}  // namespace moecast
