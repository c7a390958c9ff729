#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "base/units.h"
#include "models/timeline.h"

namespace moecast {

/// Where the time of a step goes, from its first start to its last end over all ranks; every instant of a rank counts
/// once, in the first of these that applies. Means over all ranks (those that others stand for, too) and steps: the
/// parts add up to the whole.
struct StepAttribution {
  Duration step{};
  Duration compute{};
  Duration all_to_all{};  // dispatch, combine and counts while nothing is computed
  Duration tensor{};      // collectives of tensor and context parallelism, the same
  Duration replicas{};    // gradients, weights and norms, the same
  Duration pipeline{};    // messages under way to another stage, the same
  Duration stall{};       // waiting in a collective for ranks that come later
  Duration bubble{};      // waiting for a message of another stage
  Duration idle{};        // nothing to do, or nothing left to do
};

/// Pure: judges measured and simulated timelines alike. All ranks leave a collective together, so what it takes beyond
/// its shortest span of a step is taken as waiting.
[[nodiscard]] StepAttribution attribute(const Timeline& timeline);

/// The parts by name, in the order above without the step itself.
[[nodiscard]] std::vector<std::pair<std::string_view, Duration>> parts(const StepAttribution& attribution);

}  // namespace moecast
