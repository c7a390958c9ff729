#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "hwprofiles/profile.h"
#include "models/routing_load.h"
#include "models/workload.h"
#include "sim/operator_cost.h"

namespace moecast {

/// How the choices of tokens fall to experts: the key "routing" of a scenario.
///
///   {"load": "uniform"}                     every expert alike; what is drawn differs by chance
///   {"load": "zipf", "exponent": 1.2}       1 / rank^exponent; which expert has which rank is drawn for each layer
///   {"load": "measured", "expert_load": [{"layer": 1, "share": [0.3, ...]}, ...]}   as in a training's summary.json;
///                                           an entry without "layer" is of all others
///
/// Without the key every expert gets the mean.
struct RoutingLoad {
  LoadKind kind = LoadKind::Uniform;
  double exponent = 1;                                                // Zipf
  std::map<std::optional<LayerId>, std::vector<double>> shares = {};  // Measured

  friend bool operator==(const RoutingLoad&, const RoutingLoad&) = default;
};

/// Which routing of a step: a layer, and of a double gate the second.
using RoutingId = std::pair<LayerId, bool>;

/// What one routing brings to each member of an expert group.
struct MemberLoad {
  std::vector<double> rows;  // of one micro-batch; empty with a capacity: slots travel and are computed, full or not
  double mean = 0;           // rows that a plan charges every member
  double dropped = 0;        // share of choices beyond the capacity
  [[nodiscard]] double heaviest() const;  // of the rows / mean; 1 with a capacity
  [[nodiscard]] double factor(std::int64_t member) const {
    return rows.empty() ? 1 : rows[static_cast<std::size_t>(member)] / mean;
  }
};
/// All expert groups are loaded alike: replicas hold the same router. A layer keeps its load through the step.
using ExpertLoads = std::map<RoutingId, MemberLoad>;

/// Reads "routing" of a scenario; none if there is no such key. Problems go to the reader.
[[nodiscard]] std::optional<RoutingLoad> read_routing(JsonReader& scenario, const Workload& workload);
[[nodiscard]] nlohmann::ordered_json to_json(const RoutingLoad& routing);

[[nodiscard]] ExpertLoads draw_loads(const RoutingLoad& routing, const Workload& workload, std::uint64_t seed);

/// Charges the exchanges and the experts of the plans what the loads bring to each member instead of the mean.
void charge_loads(const ExpertLoads& loads, std::span<const StepPlan> stages, const Workload& workload,
                  const HardwareProfile& hardware, PlanCosts& costs);

/// "zipf 1.2: the busiest rank gets 2.3 times the mean (layer 5), 3 % of choices dropped".
[[nodiscard]] std::string describe(const RoutingLoad& routing, const ExpertLoads& loads);

}  // namespace moecast
