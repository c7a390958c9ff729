#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "hwprofiles/fit.h"
#include "hwprofiles/profile.h"
#include "runtime/backend.h"
#include "runtime/calibration/step_bench.h"
#include "runtime/comm/nccl_functions.h"
#include "runtime/comm/process_world.h"
#include "runtime/communicator.h"

namespace moecast {

struct CalibrationOptions {
  std::string name = "this_machine";  // of the profile
  std::int64_t ranks = 2;
  std::optional<PacedLink> pacing = std::nullopt;  // measure through this slow link, as a paced training run will
  Duration budget = std::chrono::seconds(30);      // wall time, kept to within a second or so
  DType dtype = DType::F32;                        // of activations and compute weights
  bool accelerator = false;                        // shapes, transfers and reference step of a GPU's size, not a core's
  /// Operands of one kernel that are passed through before they are used again (see kernel_runner.h).
  Bytes working_set{std::int64_t{8} << 20};
  std::string date = {};  // goes into the sources; the caller's business, as there is no clock for it here
  std::optional<Bytes> device_memory = std::nullopt;  // of a rank; no value: its share of the machine's
  /// One backend for each rank; empty: the CPU. With memory of its own: collectives go through host memory.
  std::function<Result<std::unique_ptr<Backend>>(int rank)> make_backend = {};
  /// Processes with a GPU each: their links are NCCL's. Null: host memory.
  const NcclFunctions* nccl = nullptr;
};

/// Called on the calling thread or on rank 0's: how far (0..1) and with what. False stops the calibration.
using CalibrationProgress = std::function<bool(double done, std::string_view what)>;

struct CalibrationResult {
  HardwareProfile profile;  // with its fit error and held-out error; times as in a training step
  InStep in_step;           // what the profile's times are of the samples'
  std::vector<KernelSample> kernels;
  std::vector<LinkSample> links;
};

/// Measures this machine through the same Backend, Communicator and Executor that the trainer uses, threads as ranks,
/// and fits a profile: kernels with all ranks at once, collectives and interference through the executor; then scales
/// it by what the same kernels take inside a reference training step (step_bench.h). Most of the budget goes to the
/// kernels. BadInput for options that make no sense, Interrupted if `progress` says so, else
/// the first error of a rank.
[[nodiscard]] Result<CalibrationResult> calibrate_with_samples(const CalibrationOptions& options, Log& log,
                                                               const CalibrationProgress& progress = {});
[[nodiscard]] Result<HardwareProfile> calibrate(const CalibrationOptions& options, Log& log,
                                                const CalibrationProgress& progress = {});

/// The same with processes as ranks, `options.ranks` of them: every process of `world` calls it with the same options,
/// makes the backend of its own rank, and gets the result.
[[nodiscard]] Result<HardwareProfile> calibrate_as_process(ProcessWorld& world, const CalibrationOptions& options,
                                                           Log& log, const CalibrationProgress& progress = {});

/// One JSON object a line, as the result was measured: {"kernel": "gemm", "m": 512, ..., "time": "12 us", ...}.
[[nodiscard]] std::string to_json_lines(const CalibrationResult& result);

}  // namespace moecast
