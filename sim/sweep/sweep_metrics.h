#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sim/campaign/campaign_outcome.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/scenario.h"

namespace moecast {

/// What the points of a sweep are: training steps, or weeks of training.
enum class SweepKind { Step, Campaign };

enum class MetricUnit { Share, Count, Nanoseconds, Seconds, Hours, ByteCount, ByteRate, Rate, GpuHours, Money };
/// "ns", "bytes_per_second"; "share", "count" and "money" for what has no unit in a column's name.
[[nodiscard]] std::string_view name_of(MetricUnit unit);

/// One column of the results.
struct SweepMetric {
  std::string_view name;  // in objectives and constraints
  MetricUnit unit = MetricUnit::Count;
  std::string_view help;

  /// Name and unit: "step_time_ns".
  [[nodiscard]] std::string column() const;
};

/// Those of a kind, in the order of the columns. The times by cause of campaigns stand together.
[[nodiscard]] std::span<const SweepMetric> sweep_metrics(SweepKind kind);
[[nodiscard]] std::optional<std::size_t> find_sweep_metric(SweepKind kind, std::string_view name);
/// Index of the first of kTimeCauseCount columns, the wall time's shares in the order of TimeCause.
[[nodiscard]] std::size_t first_time_share();

/// One value for each metric of the kind.
[[nodiscard]] std::vector<double> step_row(const Scenario& scenario, const Timeline& timeline);
[[nodiscard]] std::vector<double> campaign_row(const CampaignScenario& scenario,
                                               const std::vector<CampaignOutcome>& outcomes);

/// A limit as people write it ("3.75 %", "512 GiB", "2 h", "80") in the metric's unit.
[[nodiscard]] Result<double> parse_limit(std::string_view text, MetricUnit unit);
/// For people: "3.75 %", "512 GiB".
[[nodiscard]] std::string pretty_metric(double value, MetricUnit unit);

}  // namespace moecast
