#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_document.h"
#include "base/result.h"
#include "sim/campaign/workload_results.h"
#include "sim/sweep/sweep_axis.h"
#include "sim/sweep/sweep_metrics.h"

namespace moecast {

struct SweepObjective {
  std::size_t metric = 0;  // index into sweep_metrics
  bool maximize = true;
};

struct SweepConstraint {
  std::size_t metric = 0;
  bool at_most = true;
  double limit = 0;  // in the metric's unit
};

/// How the best point is looked for.
///   Grid                every point
///   GoldenSection       along one axis, for each combination of the others: few points where there is one optimum
///   CoordinateDescent   all values of one axis, then of the next from the best, until nothing gets better
///   SuccessiveHalving   all points with few replicas, the best of them with more ...
struct SweepSearch {
  enum class Kind { Grid, GoldenSection, CoordinateDescent, SuccessiveHalving };
  Kind kind = Kind::Grid;
  std::size_t axis = 0;             // GoldenSection: whose order is that of its values
  std::int64_t first_replicas = 1;  // SuccessiveHalving: of the first round
  std::int64_t factor = 3;  // SuccessiveHalving: one point in `factor` goes on, with that many times the replicas
};

/// A sweep file, read:
///
///   { "name": "...", "note": "...", "base": "scenario.json", "axes": [...], "where": [conditions],
///     "replicas": 20, "seed": 1, "failures": "common", "invalid": "error",
///     "objective": {"metric": "goodput", "goal": "max"},
///     "constraints": [{"metric": "plt", "at_most": "3.75 %"}, {"metric": "host_memory", "at_most": "512 GiB"}],
///     "search": {"kind": "golden_section", "axis": "interval"} }
///
/// "base" is a scenario or campaign file, or such a document itself, which may extend others. What an axis puts in is
/// read like the rest of the scenario: paths are relative to the sweep file, unknown names are errors at the axis. An
/// axis that goes into a profile or model which the base names ("/campaign/reliability/modes/nic/...") finds it there.
/// "where" drops points that do not meet its conditions. "invalid": "skip" keeps points that are no valid scenario as
/// rows without results. "failures": in "common" each replica meets the same failures at every point, so that points
/// differ by what they are and not by luck; in "own" every point has a seed of its own.
struct SweepSpec {
  std::string name;
  std::string note;
  SweepKind kind = SweepKind::Step;
  JsonDocument document;  // the sweep file, ranges expanded
  JsonDocument base;      // names that axes go into replaced by what they name
  std::vector<SweepAxis> axes;
  std::vector<SweepCondition> where;
  std::int64_t replicas = 1;  // of each point
  std::uint64_t seed = 1;
  bool common_failures = true;
  bool skip_invalid = false;
  SweepObjective objective;
  std::vector<SweepConstraint> constraints;
  SweepSearch search;
  /// Steps and sizes that points share; the cache is the only part of a sweep that changes. Any thread may use it.
  std::unique_ptr<WorkloadResults> shared = std::make_unique<WorkloadResults>();

  [[nodiscard]] const SweepMetric& metric(std::size_t index) const { return sweep_metrics(kind)[index]; }
  [[nodiscard]] const SweepMetric& objective_metric() const { return metric(objective.metric); }
};

/// For people: "plt at most 3.75 %".
[[nodiscard]] std::string limit_text(const SweepSpec& spec, const SweepConstraint& constraint);

/// Takes the sweep document over. BadInput with every problem.
[[nodiscard]] Result<SweepSpec> read_sweep(JsonDocument document);

}  // namespace moecast
