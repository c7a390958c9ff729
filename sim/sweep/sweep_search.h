#pragma once

#include <vector>

#include "sim/sweep/sweep_points.h"
#include "sim/sweep/sweep_rows.h"

namespace moecast {

/// What the search needs next, given the rows so far; nothing when it is over. A pure function: the search is followed
/// from its start through the rows that are there, so that a sweep goes on from whatever rows a journal kept, and ends
/// with the same ones. The requests of one call do not depend on one another.
[[nodiscard]] std::vector<SweepRequest> next_requests(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                                      const SweepRows& rows);

}  // namespace moecast
