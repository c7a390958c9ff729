#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/comparison.h"
#include "models/metrics.h"

namespace moecast {

/// How metrics stand in every result file: times in whole nanoseconds, the unit in the key; ratios as fractions.
[[nodiscard]] nlohmann::ordered_json to_json(const StepMetrics& metrics);
[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<OperatorMetrics>& operators);
[[nodiscard]] nlohmann::ordered_json to_json(const Comparison& comparison);

}  // namespace moecast
