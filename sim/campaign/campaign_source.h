#pragma once

#include <optional>
#include <string>

#include "base/json_document.h"
#include "base/json_reader.h"
#include "hwprofiles/profile.h"
#include "models/workload.h"
#include "sim/campaign/workload_costs.h"
#include "sim/campaign/workload_results.h"

namespace moecast {

/// The workload, and the hardware that runs a step of it, which a campaign may name instead of stating times and bytes.
/// What they give are defaults: a value that stands in the file wins.
struct CampaignSource {
  WorkloadResults& results;
  std::optional<Workload> workload = std::nullopt;
  std::optional<HardwareProfile> hardware = std::nullopt;
  std::optional<StepTimes> step = std::nullopt;  // with both of them, and if the file does not state the times
  bool broken = false;                           // what is wrong was reported; that nothing follows from it need not be
};

/// "workload" and "hardware" of `campaign`, as in scenarios of a step. Problems go to the reader: of the simulation of
/// the step, too. `results` are asked for what follows from them, and stay with the source.
[[nodiscard]] CampaignSource read_source(JsonReader& campaign, const JsonDocument& document, WorkloadResults& results);

/// "gpt-350m-16e (data 8, expert 8, ZeRO 2)".
[[nodiscard]] std::string describe(const Workload& workload);

}  // namespace moecast
