#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tools/sweep_result.h"

namespace moecast {

/// What the report's page draws of a sweep: axes with the labels of their values, metrics with their units, the rows as
/// columns (six digits), the explanation in words. A page holds at most kMostReportRows rows: the best ones, and it
/// says so.
[[nodiscard]] nlohmann::ordered_json sweep_report_json(const SweepResult& result);

inline constexpr std::size_t kMostReportRows = 40'000;

}  // namespace moecast
