#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_document.h"
#include "base/json_reader.h"
#include "base/result.h"
#include "hwprofiles/profile.h"
#include "models/timeline.h"
#include "models/workload.h"
#include "sim/collectives.h"
#include "sim/critical_path.h"
#include "sim/expectation.h"
#include "sim/expert_load.h"

namespace moecast {

/// What is left of the links between an instance of `part` and what it joins below, at the GPU `gpu`.
struct DegradedLink {
  std::string part;
  std::int64_t gpu = 0;
  double factor = 1;
};

/// One run in virtual time: what is trained, on what, and what is published about it.
struct Scenario {
  std::string name;
  std::string note;  // for people
  Workload workload = {};
  HardwareProfile hardware = {};
  std::int64_t steps = 1;
  std::uint64_t seed = 0;             // of what `routing` draws
  std::vector<double> slowdown = {};  // of each rank's compute, as in ExecutionOptions; empty: none
  std::vector<Expectation> expect = {};
  std::optional<RoutingLoad> routing = std::nullopt;  // none: every expert gets the mean
  AlgorithmChoice algorithms = {};                    // of collectives on a cluster; the others are chosen by time
  std::vector<DegradedLink> degraded = {};
  bool fold = true;  // as in ExecutionOptions; not part of the file: it does not change the answer
};

/// Reads a scenario file:
///
///   { "name": "...", "note": "...", "workload": {...}, "hardware": "a30_pcie_8", "steps": 1, "seed": 0,
///     "slowdown": [1, 1.2], "routing": {"load": "zipf", "exponent": 1}, "expect": [...],
///     "nodes": 64, "algorithms": {"all_to_all": "hierarchical"},
///     "degraded": [{"part": "leaf", "gpu": 17, "factor": 0.5}] }
///
/// "ranks", if it is there, is what the degrees of "parallel" must multiply to. "routing": sim/expert_load.h. "nodes"
/// (of the profile's cluster, instead of its own number), "algorithms" and "degraded" need a cluster. "hardware" names
/// a built-in profile or a file (relative to the file in which it stands), or is a profile itself. With `profile` that
/// one is used and "hardware" may be missing. BadInput with every problem in the file and in those that it names.
[[nodiscard]] Result<Scenario> read_scenario(const JsonDocument& document,
                                             std::optional<HardwareProfile> profile = std::nullopt);

/// The profile that "hardware" of `parent` names or is, as above. Problems go to the reader.
[[nodiscard]] HardwareProfile read_hardware(JsonReader& parent, const JsonDocument& document);

/// Fully resolved, model and hardware inline: reads back to the same scenario. `relative_to` of expectations as read.
[[nodiscard]] nlohmann::ordered_json to_json(const Scenario& scenario);

/// Builds the plans of all stages (open slots are resolved by the profile's operator times) and executes them. BadInput
/// if model, layout and schedule do not go together; RunFailed if an operator beats the hardware (sim/bounds.h).
/// `critical_path`, if not null, gets what the step waited for (sim/critical_path.h).
[[nodiscard]] Result<Timeline> simulate(const Scenario& scenario, std::vector<PathStep>* critical_path = nullptr);
/// The same without a look at bounds: for hardware that does not exist.
[[nodiscard]] Result<Timeline> simulate_unbounded(const Scenario& scenario);

}  // namespace moecast
