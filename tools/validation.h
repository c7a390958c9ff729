#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "models/comparison.h"
#include "models/workload.h"

namespace moecast {

/// A measured run and its prediction, by name.
struct ValidatedPair {
  std::string name;
  Comparison comparison;
};

/// Is the prediction good enough? Two variants are told apart if the middle halves of their measured steps do not
/// overlap: of others the measurement does not say which is faster.
struct Verdict {
  double median_error = 0;                   // of |predicted - measured| / measured step time, over the pairs
  double tolerance = 0;                      // allowed median error
  std::vector<std::string> measured_order;   // names from fast to slow
  std::vector<std::string> predicted_order;  // the same by predicted step time
  std::int64_t told_apart = 0;               // pairs of variants
  std::vector<std::pair<std::string, std::string>> swapped;  // of those: first is faster, the prediction says second
  [[nodiscard]] bool order_right() const { return swapped.empty(); }
  [[nodiscard]] bool pass() const { return median_error <= tolerance && order_right(); }
};

/// At least one pair. Names that tie keep the order in which the pairs were given.
[[nodiscard]] Verdict judge(const std::vector<ValidatedPair>& pairs, double tolerance);

/// Do both runs do the same work: model, layout, batch, precision and kind of schedule? BadInput says what differs.
[[nodiscard]] Status check_same_workload(const Workload& measured, const Workload& predicted);

}  // namespace moecast
