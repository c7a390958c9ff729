#pragma once

#include <cstdint>
#include <vector>

#include "hwprofiles/fit.h"
#include "models/step_plan.h"

namespace moecast {

/// What calibration measures. Products and attention over grids; memory kernels as they stand in the plans of a family
/// of small models, so that rows, widths and bytes are those that plans charge.
struct WorkGrid {
  std::vector<Work> fitted;
  std::vector<Work> held_out;  // shapes between and beside the grid's, for the error that users will see
  GemmAxes gemm_axes;
  GemmAxes grouped_axes;
};

/// Shapes that a core or an accelerator meets. Works above `max_cost` (see estimated_cost) are left out. Fails only if
/// the family's plans cannot be built.
[[nodiscard]] Result<WorkGrid> calibration_grid(std::int64_t bytes_per_element, double max_cost,
                                                bool accelerator = false);

}  // namespace moecast
