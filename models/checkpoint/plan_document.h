#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_document.h"
#include "base/result.h"
#include "models/checkpoint/plan_summary.h"
#include "models/workload.h"

namespace moecast {

/// A published value about checkpoint sizes. Metrics: "storage_share" and "storage_cut" (1 - share) of one checkpoint
/// in the whole state; "bottleneck", the bytes of the rank that writes most; "bottleneck_cut" of it against the
/// baseline's.
struct PlanExpectation {
  std::string metric;
  double value = 0;      // bytes or a share
  double tolerance = 0;  // relative
  std::string source, note;
};

/// A policy for a workload, to be asked for its sizes:
///
///   {"name": "...", "workload": {...}, "checkpoint_plan": {"policy": {...}, "baseline": {...}, "expect": [
///       {"metric": "storage_cut", "value": 0.577, "tolerance": "1 %", "source": "..."}]}}
struct PlanDocument {
  std::string name;
  Workload workload;
  CheckpointPolicy policy;
  std::optional<CheckpointPolicy> baseline;
  std::vector<PlanExpectation> expect;
};
[[nodiscard]] Result<PlanDocument> read_plan_document(const JsonDocument& document);

struct JudgedPlan {
  PlanExpectation expectation;
  double ours = 0;
  bool pass = false;
};
struct PlanResult {
  PlanSummary plan;
  std::optional<PlanSummary> baseline;
  std::vector<JudgedPlan> judged;
};
/// BadInput for a layout that checkpoints do not cover.
[[nodiscard]] Result<PlanResult> evaluate(const PlanDocument& document);
[[nodiscard]] nlohmann::ordered_json to_json(const PlanExpectation& expectation);
/// "2.04 GB" or "57.7 %".
[[nodiscard]] std::string pretty_metric(const std::string& metric, double value);

}  // namespace moecast
