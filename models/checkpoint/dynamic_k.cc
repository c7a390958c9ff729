#include "models/checkpoint/dynamic_k.h"

#include <limits>
#include <utility>

#include "base/assert.h"

namespace moecast {

ExpertCounts next_counts(ExpertCounts counts, std::int64_t expert_count) {
  const auto doubled = [expert_count](std::int64_t count) {
    return 2 * count < expert_count && expert_count % (2 * count) == 0 ? 2 * count : expert_count;
  };
  return {doubled(counts.snapshot), doubled(counts.persist)};
}

std::vector<ExpertCounts> dynamic_levels(ExpertCounts first, std::int64_t expert_count) {
  ASSERT(first.persist >= 1 && first.persist <= first.snapshot && first.snapshot <= expert_count,
         "K_snapshot {}, K_persist {} of {} experts", first.snapshot, first.persist, expert_count);
  std::vector<ExpertCounts> levels;
  for (ExpertCounts counts = first; counts.persist < expert_count; counts = next_counts(counts, expert_count)) {
    levels.push_back(counts);
  }
  return levels;
}

DynamicKController::DynamicKController(DynamicK settings, ExpertCounts first, std::int64_t expert_count)
    : expert_count_(expert_count), counts_(first) {
  const std::size_t levels = dynamic_levels(first, expert_count).size();
  ASSERT(settings.split.empty() || settings.split.size() == levels, "{} shares of the budget for {} levels",
         settings.split.size(), levels);
  for (std::size_t i = 0; i < levels; ++i) {
    const double share = settings.split.empty() ? 1 / static_cast<double>(levels) : settings.split[i];
    limits_.push_back(settings.plt_budget * share);
  }
}

double DynamicKController::limit() const {
  return level_ < limits_.size() ? limits_[level_] : std::numeric_limits<double>::infinity();
}

bool DynamicKController::recovered(double plt, double next_plt) {
  ASSERT(plt >= 0 && next_plt >= 0, "lost {}, next {}", plt, next_plt);
  total_plt_ += plt;
  plt_at_counts_ += plt;
  if (plt_at_counts_ + next_plt <= limit()) return false;
  counts_ = next_counts(counts_, expert_count_);
  plt_at_counts_ = 0;
  ++level_;
  return true;
}

}  // namespace moecast
