#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "hwprofiles/profile.h"
#include "tools/run_result.h"
#include "tools/sweep_result.h"
#include "tools/validation.h"

namespace moecast {

/// A measured run, its prediction, or both.
struct ReportVariant {
  std::string name;
  std::optional<RunResult> measured = std::nullopt;
  std::optional<RunResult> predicted = std::nullopt;
};

struct ReportContent {
  std::string title;
  std::vector<ReportVariant> variants;  // at least one, or a sweep
  std::optional<SweepResult> sweep = std::nullopt;
  std::optional<HardwareProfile> profile = std::nullopt;
  std::optional<double> tolerance = std::nullopt;  // of the median step-time error
};

/// What the page draws (schema moecast.report/1): for each variant metrics, operators by kind, and one step, the one of
/// median duration, of the first ranks. Columns are arrays; times are whole nanoseconds from the step's start.
[[nodiscard]] nlohmann::ordered_json report_data(const ReportContent& content);

/// The page: one file, no network. `data` is safe in it whatever text it holds.
[[nodiscard]] std::string report_page(const nlohmann::ordered_json& data);

}  // namespace moecast
