#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/csv_table.h"
#include "base/result.h"
#include "base/units.h"
#include "hwprofiles/profile.h"
#include "models/workload.h"

namespace moecast {

/// One training run of a published table, and what an iteration took.
struct MeasuredStep {
  Workload workload;
  Duration time{};
  bool held_out = false;  // every second row
};

/// Tables of GPT training with Megatron-LM, as VIA-Research/vTrain (MIT) publishes them, told by the columns "# GPUs",
/// "global batch", "micro batch", "hidden size", "attention heads", "# layers", "sequence length", "tensor
/// parallelism", "data parallelism", "pipeline parallelism", "iteration time (ms)". What they do not say: GPT-2's 50257
/// words padded to 51200, 2-byte activations, 1F1B, and every block computed again in the backward (full recomputation;
/// without it no profile fits the times).
[[nodiscard]] bool is_step_table(const CsvTable& table);

/// BadInput with all bad fields.
[[nodiscard]] Result<std::vector<MeasuredStep>> read_steps(const CsvTable& table);

/// Simulated times, one for each step, on so many nodes of the profile's cluster as each needs; no value where a layout
/// does not divide the model. On `thread_count` threads; the result does not depend on it.
[[nodiscard]] std::vector<std::optional<Duration>> simulate_steps(const std::vector<MeasuredStep>& steps,
                                                                  const HardwareProfile& hardware,
                                                                  std::int64_t thread_count);

}  // namespace moecast
