#pragma once

#include "models/metrics.h"
#include "tools/table.h"

namespace moecast {

/// Of the time of the all-to-alls, what no compute hides; 0 if there are none.
[[nodiscard]] double exposed_all_to_all_share(const StepMetrics& metrics);

/// Rows on the communication of a measured or simulated run: how much, how much of it is exposed, and how much the plan
/// must expose with these operator times (`bound`: bound_metrics()).
void add_communication_rows(const StepMetrics& metrics, const StepMetrics& bound, Table& table);

}  // namespace moecast
