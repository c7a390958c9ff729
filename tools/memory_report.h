#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/memory_advice.h"
#include "models/workload.h"

namespace moecast {

/// Whether a workload fits into the memory of a device, and what would if it does not.
struct MemoryReport {
  StageMemory largest;                // of the pipeline stage that needs most
  Bytes device{0};                    // 0: not known
  bool fits = true;                   // true if the device's memory is not known
  std::vector<MemoryOption> options;  // only if it does not fit; the first few that do
};

/// The workload can be planned.
[[nodiscard]] MemoryReport report_memory(const Workload& workload, Bytes device);

/// "12.3 GiB of 80 GiB: weights 2 GiB, ..."; a second line if it does not fit.
[[nodiscard]] std::string to_text(const MemoryReport& report);
[[nodiscard]] nlohmann::ordered_json to_json(const MemoryReport& report);

}  // namespace moecast
