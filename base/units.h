#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace moecast {

/// A number with a unit. Only meaningful arithmetic compiles: sums of one unit, scaling by a bare number, ratios.
template <typename Tag, typename Rep>
class Quantity {
 public:
  constexpr Quantity() = default;
  explicit constexpr Quantity(Rep count) : count_(count) {}
  [[nodiscard]] constexpr Rep count() const { return count_; }
  [[nodiscard]] constexpr double value() const { return static_cast<double>(count_); }

  friend constexpr auto operator<=>(Quantity, Quantity) = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return Quantity(a.count_ + b.count_); }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return Quantity(a.count_ - b.count_); }
  friend constexpr Quantity operator*(Quantity a, Rep factor) { return Quantity(a.count_ * factor); }
  friend constexpr Quantity operator*(Rep factor, Quantity a) { return Quantity(a.count_ * factor); }
  friend constexpr double operator/(Quantity a, Quantity b) { return a.value() / b.value(); }
  constexpr Quantity& operator+=(Quantity other) {
    count_ += other.count_;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    count_ -= other.count_;
    return *this;
  }

 private:
  Rep count_{};
};

using Bytes = Quantity<struct BytesTag, std::int64_t>;
using Flops = Quantity<struct FlopsTag, double>;  // floating-point operations (not per second)
using BytesPerSecond = Quantity<struct BytesPerSecondTag, double>;
using FlopsPerSecond = Quantity<struct FlopsPerSecondTag, double>;

/// Time in integer nanoseconds, measured or simulated. An instant is not a duration.
using Duration = std::chrono::duration<std::int64_t, std::nano>;
struct TimelineClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<TimelineClock>;
  static constexpr bool is_steady = true;
};
using Instant = TimelineClock::time_point;  // nanoseconds since the start of the run

/// The one place where real seconds become ticks: rounds up. Negative, NaN or more than 292 years is our own bug.
[[nodiscard]] Duration duration_from_seconds(double seconds);
[[nodiscard]] constexpr double seconds(Duration duration) { return static_cast<double>(duration.count()) * 1e-9; }

[[nodiscard]] inline Duration operator/(Bytes bytes, BytesPerSecond rate) {
  return duration_from_seconds(bytes.value() / rate.value());
}
[[nodiscard]] inline Duration operator/(Flops flops, FlopsPerSecond rate) {
  return duration_from_seconds(flops.value() / rate.value());
}

/// Text units: "80 GiB", "400 Gb/s" (bits), "50 GB/s" (bytes), "12 us", "312 TFLOP/s". k, M, G, T, P are powers of
/// 1000; Ki, Mi, Gi, Ti powers of 1024; b is bit and B is byte. A bare number is an error (BadInput) whose message
/// shows the nearest correct form. Negative and non-finite values are errors.
[[nodiscard]] Result<Bytes> parse_bytes(std::string_view text);
[[nodiscard]] Result<Flops> parse_flops(std::string_view text);
[[nodiscard]] Result<BytesPerSecond> parse_bytes_per_second(std::string_view text);
[[nodiscard]] Result<FlopsPerSecond> parse_flops_per_second(std::string_view text);
[[nodiscard]] Result<Duration> parse_duration(std::string_view text);

/// Shortest text that parses back to the same value ("1.5 GB", "12 us"); for people use `pretty` (three digits).
[[nodiscard]] std::string to_text(Bytes value);
[[nodiscard]] std::string to_text(Flops value);
[[nodiscard]] std::string to_text(BytesPerSecond value);
[[nodiscard]] std::string to_text(FlopsPerSecond value);
[[nodiscard]] std::string to_text(Duration value);
[[nodiscard]] std::string pretty(Bytes value);
[[nodiscard]] std::string pretty(Flops value);
[[nodiscard]] std::string pretty(BytesPerSecond value);
[[nodiscard]] std::string pretty(FlopsPerSecond value);
[[nodiscard]] std::string pretty(Duration value);

}  // namespace moecast
