#include "tools/step_summary.h"

#include <fmt/format.h>

#include "models/metrics.h"

namespace moecast {
double exposed_all_to_all_share(const StepMetrics& metrics) {
  return metrics.all_to_all.count() == 0 ? 0 : seconds(metrics.exposed_all_to_all) / seconds(metrics.all_to_all);
}

void add_communication_rows(const StepMetrics& metrics, const StepMetrics& bound, Table& table) {
  table.row({"communication", fmt::format("{} a step, {} exposed, overlap {:.0f} %", pretty(metrics.communication),
                                          pretty(metrics.exposed), 100 * metrics.overlap)});
  if (metrics.all_to_all.count() == 0) return;
  table.row(
      {"all-to-all", fmt::format("{:.0f} % of the MoE time; {:.0f} % of it exposed, at least {:.0f} % by the plan",
                                 100 * metrics.communication_share, 100 * exposed_all_to_all_share(metrics),
                                 100 * exposed_all_to_all_share(bound))});
}

}  // namespace moecast
