#pragma once

#include "base/result.h"
#include "hwprofiles/profile.h"
#include "models/parallel_layout.h"
#include "models/timeline.h"
#include "sim/expert_load.h"

namespace moecast {

/// Holds every span of a simulated timeline against what the hardware can do at all, whatever tables and curves say:
/// the device's peak for its products, its memory rate for kernels that no cache holds (512 MiB and more), and for
/// communication the raw bandwidth of the links by which a rank is attached, and on a cluster what must leave a block
/// of its GPUs over all links that lead out of it (sim/cut_bounds.h). RunFailed names the operator, its time and the
/// bound. What a calibration took for the peak, the best that it saw, is no bound. Nothing is allowed beyond a bound
/// but rounding (a millionth), and to a measured table of a collective what nominal bandwidths understate (a quarter).
/// `loads`: what routing brings to each member of an expert group, if not the mean.
[[nodiscard]] Status check_bounds(const Timeline& timeline, const ParallelLayout& layout,
                                  const HardwareProfile& hardware, const ExpertLoads& loads = {});

}  // namespace moecast
