#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "sim/sweep/sweep_effects.h"

namespace moecast {

/// A sweep with its rows, as `moecast sweep -o` leaves it in a folder: sweep.json (the sweep with its base, ranges
/// expanded), results.csv and results.jsonl (one row a point, units in the names of the columns), summary.json, and
/// scenario.json (the best point, resolved).
struct SweepResult {
  SweepSpec spec;
  std::vector<SweepPoint> points;
  SweepRows rows;

  [[nodiscard]] const SweepPoint& point(const SweepRow& row) const {
    return points[static_cast<std::size_t>(row.request.point)];
  }
  [[nodiscard]] std::string axis_label(std::size_t axis, const SweepRow& row) const {
    return spec.axes[axis].label(point(row)[axis]);
  }
};

[[nodiscard]] std::string results_csv(const SweepResult& result);
[[nodiscard]] std::string results_jsonl(const SweepResult& result);
[[nodiscard]] nlohmann::ordered_json sweep_json(const SweepSpec& spec);
[[nodiscard]] nlohmann::ordered_json summary_json(const SweepResult& result);
/// The values of a point's axes by column: numbers where an axis has them, labels otherwise, null where it does not
/// apply.
[[nodiscard]] nlohmann::ordered_json axes_json(const SweepSpec& spec, const SweepPoint& point);

/// Is this a folder that a finished sweep has written?
[[nodiscard]] bool is_sweep_result(const std::filesystem::path& folder);
/// A sweep file and its points, without rows.
[[nodiscard]] Result<SweepResult> sweep_of(JsonDocument document);
/// Reads sweep.json and results.jsonl back. BadInput if they do not go together.
[[nodiscard]] Result<SweepResult> load_sweep_result(const std::filesystem::path& folder);

}  // namespace moecast
