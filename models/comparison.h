#pragma once

#include <vector>

#include "base/units.h"
#include "models/metrics.h"
#include "models/timeline.h"

namespace moecast {

/// Time of one kind of operator in one phase: per step, mean over ranks and steps; zero where it never ran.
struct OperatorComparison {
  OpKind kind = OpKind::Embed;
  Phase phase = Phase::Forward;
  Duration measured{}, predicted{};
};

/// A measured run and its prediction, judged by the same ruler.
struct Comparison {
  StepMetrics measured, predicted;
  std::vector<OperatorComparison> operators;  // every kind and phase that occurs in either, by kind, then phase
  double step_time_error = 0;                 // (predicted - measured) / measured
  DurationRange measured_quartiles;           // of the measured step time
};

/// Neither timeline is empty.
[[nodiscard]] Comparison compare(const Timeline& measured, const Timeline& predicted);

}  // namespace moecast
