#pragma once

#include <cstdint>
#include <vector>

#include "models/checkpoint/policy.h"

namespace moecast {

/// The counts that follow: both doubled; a count becomes N where its double does not divide N.
[[nodiscard]] ExpertCounts next_counts(ExpertCounts counts, std::int64_t expert_count);

/// The counts that Dynamic-K goes through below N, `first` being the first: K_persist = K_0, 2 K_0, ... < N. Empty if
/// every expert is saved from the start.
[[nodiscard]] std::vector<ExpertCounts> dynamic_levels(ExpertCounts first, std::int64_t expert_count);

/// Dynamic-K (MoC-System, arXiv 2408.04307, section 5): K doubles when the losses attributed to it exceed its share of
/// the budget, until all experts are saved; it never falls. A value; it changes by `recovered` alone.
class DynamicKController {
 public:
  DynamicKController(DynamicK settings, ExpertCounts first, std::int64_t expert_count);

  [[nodiscard]] ExpertCounts counts() const { return counts_; }
  [[nodiscard]] double total_plt() const { return total_plt_; }
  [[nodiscard]] double plt_at_counts() const { return plt_at_counts_; }  // attributed to the present K
  /// Share of the budget that the present K may use up; infinite once every expert is saved.
  [[nodiscard]] double limit() const;
  [[nodiscard]] std::size_t level_count() const { return limits_.size(); }

  /// A fault has cost `plt`; one more at the present K would cost `next_plt` (one_level_plt, two_level_plt, or what was
  /// measured). Doubles K if together they exceed the limit. Returns true if K changed.
  bool recovered(double plt, double next_plt);

 private:
  std::int64_t expert_count_;
  ExpertCounts counts_;
  std::vector<double> limits_;  // by level
  std::size_t level_ = 0;
  double plt_at_counts_ = 0;
  double total_plt_ = 0;
};

}  // namespace moecast
