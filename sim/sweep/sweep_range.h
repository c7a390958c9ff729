#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace moecast {

/// The number that a JSON value means: itself, or that of a text with a unit, in the unit's base.
struct Magnitude {
  double value = 0;
  std::string family;  // "ns", "bytes", "bytes_per_second", "flop", "flop_per_second"; empty: a plain number
};
[[nodiscard]] std::optional<Magnitude> magnitude_of(const nlohmann::ordered_json& value);

/// from, from + step, ... up to `to`: numbers, or texts in the unit of `from`. Integers stay integers. BadInput if the
/// units do not go together, the step leads away from `to`, or there are more than kMostAxisValues.
[[nodiscard]] Result<nlohmann::ordered_json> linear_values(const nlohmann::ordered_json& from,
                                                           const nlohmann::ordered_json& to,
                                                           const nlohmann::ordered_json& step);
/// `count` >= 2 values from `from` to `to`, each the same multiple of the one before, to six digits; between integers
/// they are rounded, and each integer comes once.
[[nodiscard]] Result<nlohmann::ordered_json> logarithmic_values(const nlohmann::ordered_json& from,
                                                                const nlohmann::ordered_json& to, std::int64_t count);

inline constexpr std::int64_t kMostAxisValues = 1'000'000;

}  // namespace moecast
