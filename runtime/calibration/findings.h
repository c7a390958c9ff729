#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/calibration/calibrate.h"
#include "runtime/calibration/kernel_bench.h"
#include "runtime/calibration/step_bench.h"
#include "runtime/calibration/work_grid.h"

namespace moecast {

/// A collective that is measured.
struct LinkPlan {
  Communication communication;
  bool held_out = false;
};

/// What one rank has seen.
struct RankFindings {
  std::vector<KernelTimes> kernels;        // the grid's fitted works, then its held-out ones
  std::vector<std::vector<double>> links;  // seconds, by LinkPlan
  std::vector<double> overheads;           // seconds
  std::vector<double> compute_beside, communication_beside;
  std::vector<double> copy_rates,
      compute_beside_copy;   // to the host, bytes per second; none where memory is the host's
  std::vector<double> step;  // seconds, by operator of the reference step
};

/// Everything that was measured; all ranks have the same works and links.
struct Findings {
  WorkGrid grid;
  std::vector<LinkPlan> links;  // none for a single rank
  StepPlan reference;           // the reference step
  std::vector<RankFindings> ranks;
  std::string backend, device, link;
  bool processes = false;  // ranks are processes, not threads
};

/// What a rank has seen, as bytes; read back by a process of the same program. The works are those of the grid.
[[nodiscard]] std::vector<std::byte> to_bytes(const RankFindings& findings);
/// Nothing if the bytes are no findings about `works`.
[[nodiscard]] std::optional<RankFindings> findings_of(std::span<const std::byte> bytes, const std::vector<Work>& works);

/// Samples from what all ranks saw together, and the profile that fits them. A pure function, but for the size of the
/// machine's memory.
[[nodiscard]] CalibrationResult summarize(const Findings& findings, const CalibrationOptions& options);

}  // namespace moecast
