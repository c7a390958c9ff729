#include "tools/validation.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "base/statistics.h"

namespace moecast {
namespace {

std::vector<std::string> names_by(const std::vector<ValidatedPair>& pairs, const StepMetrics Comparison::*which) {
  std::vector<const ValidatedPair*> sorted;
  for (const ValidatedPair& pair : pairs) sorted.push_back(&pair);
  std::stable_sort(sorted.begin(), sorted.end(), [&](const ValidatedPair* a, const ValidatedPair* b) {
    return (a->comparison.*which).step_time < (b->comparison.*which).step_time;
  });
  std::vector<std::string> out;
  for (const ValidatedPair* pair : sorted) out.push_back(pair->name);
  return out;
}

}  // namespace

Verdict judge(const std::vector<ValidatedPair>& pairs, double tolerance) {
  ASSERT(!pairs.empty());
  std::vector<double> errors;
  for (const ValidatedPair& pair : pairs) errors.push_back(std::abs(pair.comparison.step_time_error));
  Verdict verdict;
  verdict.median_error = median(errors);
  verdict.tolerance = tolerance;
  verdict.measured_order = names_by(pairs, &Comparison::measured);
  verdict.predicted_order = names_by(pairs, &Comparison::predicted);
  for (const ValidatedPair& a : pairs) {
    for (const ValidatedPair& b : pairs) {
      if (a.comparison.measured_quartiles.high >= b.comparison.measured_quartiles.low) continue;
      ++verdict.told_apart;
      if (a.comparison.predicted.step_time > b.comparison.predicted.step_time) {
        verdict.swapped.emplace_back(a.name, b.name);
      }
    }
  }
  return verdict;
}

Status check_same_workload(const Workload& measured, const Workload& predicted) {
  const char* what = nullptr;
  if (!(measured.model == predicted.model)) what = "models";
  if (!(measured.layout == predicted.layout)) what = "parallel layouts";
  if (!(measured.batch == predicted.batch)) what = "batches";
  if (measured.bytes_per_element != predicted.bytes_per_element) what = "precisions";
  if (measured.schedule.kind != predicted.schedule.kind) what = "kinds of schedule";
  if (measured.schedule.chunk_count != predicted.schedule.chunk_count) what = "chunk counts";
  if (what == nullptr) return {};
  return Error{ErrorKind::BadInput, "", std::string("the measured and the predicted run have different ") + what};
}

}  // namespace moecast
