#include "sim/sharing.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace moecast {

// The problem. Rows i with weights w_i > 0 and bounds b_i, resources r with capacities C_r, coefficients a_ri > 0 where
// row i uses resource r. Find rates x_i >= 0 with
//
//     sum_i a_ri x_i <= C_r   for every r,        x_i <= b_i   for every i,
//
// such that no normalised rate x_i / w_i can grow without another one, equal or smaller, having to shrink (weighted
// max-min fairness; Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2). The solution exists and is unique.
// Equivalently: every row is at its bound, or has a bottleneck, a full resource on which its x_i / w_i is a largest
// one.
//
// The method: progressive filling. All rows rise together, x_i = w_i L with one level L. The first constraint that
// tightens is a resource, at L_r = (C_r - use of frozen rows) / (sum of a_ri w_i over rising rows), or a bound, at
// b_i / w_i. Its rows freeze, the others go on rising. Freezing a row at L <= L_r never lowers L_r: a row that rose to
// L took a_ri w_i L <= a_ri w_i L_r. So limits wait in a heap under levels that may be out of date only downwards: the
// least one is recomputed when it surfaces and goes back if it has grown. Every use is touched a constant number of
// times, every limit goes back at most once for each row that froze beside it.
//
// Levels that agree to a relative 1e-12 are one level: rounding must not tell rows apart that are alike.

namespace {

constexpr double kSameLevel = 1 + 1e-12;
constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

void MaxMinSolver::ExactSum::add(double term) {
  const double next = sum + term;
  lost += std::abs(sum) >= std::abs(term) ? (sum - next) + term : (term - next) + sum;
  sum = next;
}

double MaxMinSolver::ResourceState::level() const {
  if (rising_count == 0) return kNever;
  return std::max(0.0, free.value()) / claim.value();
}

bool MaxMinSolver::later(const Limit& a, const Limit& b) {
  return a.level != b.level ? a.level > b.level : a.index > b.index;
}

std::span<const double> MaxMinSolver::solve(const SharingProblem& problem) {
  load(problem);
  const auto row_count = static_cast<std::int32_t>(problem.rows.size());
  double level = 0;
  while (!limits_.empty()) {
    const Limit limit = pop();
    if (limit.index < row_count) {  // the row's own bound
      if (frozen_[static_cast<std::size_t>(limit.index)]) continue;
      level = std::max(level, limit.level);
      freeze(problem, limit.index, problem.rows[static_cast<std::size_t>(limit.index)].bound);
      continue;
    }
    const ResourceState& resource = resources_[static_cast<std::size_t>(limit.index - row_count)];
    if (resource.rising_count == 0) continue;
    const double current = resource.level();
    if (current > limit.level * kSameLevel) {
      push({current, limit.index});
      continue;
    }
    if (current > level * kSameLevel) level = current;  // else: the level that the rows have reached already
    const auto first = static_cast<std::size_t>(resource.first_user);
    for (std::size_t i = first; resource.rising_count > 0; ++i) {
      const std::int32_t user = users_[i];
      if (frozen_[static_cast<std::size_t>(user)]) continue;
      const SharingRow& row = problem.rows[static_cast<std::size_t>(user)];
      freeze(problem, user, std::min(row.bound, row.weight * level));
    }
  }
  return rates_;
}

void MaxMinSolver::load(const SharingProblem& problem) {
  const std::size_t row_count = problem.rows.size();
  rates_.assign(row_count, 0);
  frozen_.assign(row_count, false);
  resources_.assign(problem.capacities.size(), {});
  limits_.clear();
  for (std::size_t r = 0; r < resources_.size(); ++r) {
    ASSERT(problem.capacities[r] >= 0, "capacity {} of resource {}", problem.capacities[r], r);
    resources_[r].free.sum = problem.capacities[r];
  }
  for (const SharingRow& row : problem.rows) {
    ASSERT(row.weight > 0 && row.bound >= 0, "weight {}, bound {}", row.weight, row.bound);
    ASSERT(row.use_count > 0 || row.bound < kNever, "a row that nothing limits");
    for (const ResourceUse& use :
         problem.uses.subspan(static_cast<std::size_t>(row.first_use), static_cast<std::size_t>(row.use_count))) {
      ASSERT(use.coefficient > 0, "coefficient {}", use.coefficient);
      ResourceState& resource = resources_[use.resource.index()];
      resource.claim.add(use.coefficient * row.weight);
      ++resource.rising_count;
    }
  }
  place_users(problem);
  place_limits(problem);
}

/// Which rows use a resource, for all resources in one array (counting sort).
void MaxMinSolver::place_users(const SharingProblem& problem) {
  std::int32_t user_count = 0;
  for (ResourceState& resource : resources_) {
    user_count += resource.rising_count;
    resource.first_user = user_count;  // counted down to its place below
  }
  users_.resize(static_cast<std::size_t>(user_count));
  for (std::size_t i = problem.rows.size(); i-- > 0;) {
    const SharingRow& row = problem.rows[i];
    for (std::int32_t u = row.first_use; u < row.first_use + row.use_count; ++u) {
      ResourceState& resource = resources_[problem.uses[static_cast<std::size_t>(u)].resource.index()];
      users_[static_cast<std::size_t>(--resource.first_user)] = static_cast<std::int32_t>(i);
    }
  }
}

void MaxMinSolver::place_limits(const SharingProblem& problem) {
  const std::size_t row_count = problem.rows.size();
  for (std::size_t i = 0; i < row_count; ++i) {
    const SharingRow& row = problem.rows[i];
    if (row.bound < kNever) limits_.push_back({row.bound / row.weight, static_cast<std::int32_t>(i)});
  }
  for (std::size_t r = 0; r < resources_.size(); ++r) {
    if (resources_[r].rising_count == 0) continue;
    limits_.push_back({resources_[r].level(), static_cast<std::int32_t>(row_count + r)});
  }
  std::make_heap(limits_.begin(), limits_.end(), later);
}

void MaxMinSolver::push(Limit limit) {
  limits_.push_back(limit);
  std::push_heap(limits_.begin(), limits_.end(), later);
}

MaxMinSolver::Limit MaxMinSolver::pop() {
  std::pop_heap(limits_.begin(), limits_.end(), later);
  const Limit limit = limits_.back();
  limits_.pop_back();
  return limit;
}

void MaxMinSolver::freeze(const SharingProblem& problem, std::int32_t index, double rate) {
  const SharingRow& row = problem.rows[static_cast<std::size_t>(index)];
  rates_[static_cast<std::size_t>(index)] = rate;
  frozen_[static_cast<std::size_t>(index)] = true;
  for (std::int32_t u = row.first_use; u < row.first_use + row.use_count; ++u) {
    const ResourceUse& use = problem.uses[static_cast<std::size_t>(u)];
    ResourceState& resource = resources_[use.resource.index()];
    resource.free.add(-use.coefficient * rate);
    resource.claim.add(-use.coefficient * row.weight);
    --resource.rising_count;
  }
}

std::vector<double> max_min_rates(const SharingProblem& problem) {
  MaxMinSolver solver;
  const std::span<const double> rates = solver.solve(problem);
  return {rates.begin(), rates.end()};
}

}  // namespace moecast
