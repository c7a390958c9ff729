#include "models/comparison.h"

#include <map>
#include <utility>

#include "base/assert.h"

namespace moecast {

Comparison compare(const Timeline& measured, const Timeline& predicted) {
  Comparison comparison;
  comparison.measured = step_metrics(measured);
  comparison.predicted = step_metrics(predicted);
  comparison.measured_quartiles = step_time_quartiles(measured);
  const Duration truth = comparison.measured.step_time;
  ASSERT(truth > Duration{}, "a measured timeline without time");
  comparison.step_time_error =
      static_cast<double>((comparison.predicted.step_time - truth).count()) / static_cast<double>(truth.count());

  std::map<std::pair<OpKind, Phase>, OperatorComparison> rows;
  const auto row = [&rows](const OperatorMetrics& from) -> OperatorComparison& {
    return rows.try_emplace({from.kind, from.phase}, OperatorComparison{from.kind, from.phase, {}, {}}).first->second;
  };
  for (const OperatorMetrics& metrics : operator_metrics(measured)) row(metrics).measured = metrics.total_per_step;
  for (const OperatorMetrics& metrics : operator_metrics(predicted)) row(metrics).predicted = metrics.total_per_step;
  for (const auto& [key, found] : rows) comparison.operators.push_back(found);
  return comparison;
}

}  // namespace moecast
