#pragma once

#include <cstdint>
#include <vector>

#include "sim/sweep/sweep_points.h"
#include "sim/sweep/sweep_rows.h"

namespace moecast {

/// What an axis does around the best point: the two or more rows that differ from it in this axis alone (itself among
/// them), in the order of the axis's values. Points that the search left out are missing.
struct AxisEffect {
  std::size_t axis = 0;
  std::vector<const SweepRow*> rows;
  double spread = 0;  // largest minus smallest objective of the valid ones
};

/// What a constraint costs: the best row if this one alone were not there.
struct ConstraintEffect {
  std::size_t constraint = 0;
  const SweepRow* without = nullptr;  // null if the others already leave nothing
  double gain = 0;                    // by how much its objective is better than the best row's
  [[nodiscard]] bool binds() const { return gain > 0; }
};

/// What `explain` and the report have to say. Pointers are into the rows that were given.
struct SweepEffects {
  const SweepRow* best = nullptr;     // null: no row meets all constraints
  const SweepRow* second = nullptr;   // null: no other does
  const SweepRow* nearest = nullptr;  // without a best: the row that misses the constraints by least
  std::vector<AxisEffect> axes;       // largest spread first
  std::vector<ConstraintEffect> constraints;
  std::int64_t feasible_count = 0;
  std::int64_t invalid_count = 0;
};
[[nodiscard]] SweepEffects sweep_effects(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                         const std::vector<const SweepRow*>& rows);

/// The rows with all replicas that meet every constraint, best first, at most `most`.
[[nodiscard]] std::vector<const SweepRow*> best_rows(const SweepSpec& spec, const std::vector<const SweepRow*>& rows,
                                                     std::size_t most);

}  // namespace moecast
