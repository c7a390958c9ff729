#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sim/scenario.h"

namespace moecast {

/// A change of a scenario and the step that it gives.
struct WhatIf {
  std::string change;  // "links \"nic\" twice as fast"
  Duration step_time{};
};

/// Simulates the scenario once more for each change that could help, one at a time: each class of links twice as fast,
/// compute twice as fast, no interference, no straggler, no degraded link, even load of experts; those that change
/// nothing are left out. `now` is the step time of the scenario as it is. The shortest step first. BadInput as
/// simulate().
[[nodiscard]] Result<std::vector<WhatIf>> what_helps(const Scenario& scenario, Duration now);

}  // namespace moecast
