#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "hwprofiles/fit.h"
#include "hwprofiles/import_nccl.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// Time on a GPU that a profile has no place for, by kernel and reason.
struct Unplaced {
  std::string name;    // of the operator if it is known, else of the kernel
  std::string reason;  // "no operator that a profile knows", "a group of 4 ranks beside 8", ...
  std::int64_t count = 0;
  Duration time{};
};

/// What one rank's trace of PyTorch's profiler holds for a profile. Every third size of a kind is kept apart.
struct ImportedTrace {
  std::vector<KernelSample> kernels;  // one for each shape, the median of its occurrences
  ImportedCollectives collectives;    // of groups of one size: the one that took most of the time
  BytesPerSecond to_host{0};          // best rate of a copy to the host, or 0
  Duration kernel_time{};             // all kernels and copies on the device
  Duration placed_time{};             // those that became samples
  std::vector<Unplaced> unplaced;     // most time first
  std::string device;                 // "NVIDIA H100 80GB HBM3"; empty if the trace does not say
  std::string origin;                 // tool, device, ranks, share that was placed: for the profile's sources
};

/// Reads a trace (Chrome's JSON, gzip or not). A kernel's work comes from the operator that launched it; kernels of one
/// operator count together. A collective's time holds the wait for the ranks that came late, so of its occurrences the
/// lower quartile counts. BadInput if it is no trace, or nothing in it has a place.
[[nodiscard]] Result<ImportedTrace> import_trace(const std::filesystem::path& path);

/// The device of `base` with what the traces say. Products: rates on base's axes, fitted to the measured shapes, and
/// base's own, times the median of measured over base, where none is near. Attention and memory-bound kernels: base's
/// times, multiplied by that median, kernel by kernel. `fit` judges them. (with_collectives takes the links in.)
[[nodiscard]] HardwareProfile with_kernels(HardwareProfile base, const std::vector<ImportedTrace>& traces);

/// One screen of text for people: what was placed, and what was not and why.
[[nodiscard]] std::string describe(const ImportedTrace& trace);

}  // namespace moecast
