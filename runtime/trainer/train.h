#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "models/timeline.h"
#include "runtime/backend.h"
#include "runtime/comm/nccl_functions.h"
#include "runtime/comm/process_world.h"
#include "runtime/trainer/checkpoint_report.h"
#include "runtime/trainer/train_config.h"

namespace moecast {

struct TrainProgress {
  std::int64_t step = 0;  // finished, counts from 1
  std::int64_t steps = 0;
  double loss = 0;
  Duration step_time{};
};

/// Where one MoE layer sent its tokens, over all ranks and steps of a run.
struct ExpertLoad {
  LayerId layer;
  std::vector<double> share;  // of each expert in all choices; sums to 1
  double dropped = 0;         // share of choices beyond the capacity
};

/// One value a step: means over all tokens (losses) of all ranks.
struct StepRecord {
  double loss = 0;           // cross-entropy, nats per token
  double balance_loss = 0;   // sum over MoE layers of E sum f P; 1 per layer is perfect balance
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  Duration time{};  // wall time of the slowest rank, with what lies between steps
};

struct TrainResult {
  std::vector<double> loss;  // nats per token, one a step
  std::vector<StepRecord> steps;
  double unigram_entropy = 0;    // of the text, nats
  double validation_loss = 0;    // of the held-out text after the last step
  double tokens_per_second = 0;  // all ranks, steps after warm-up
  Schedule schedule = {};        // slots resolved
  std::vector<ExpertLoad> expert_load;
  std::string backend;          // "cpu", "cuda"
  std::string device;           // "Intel(R) Xeon(R) ..."
  bool paced = false;           // links were slowed on purpose
  Timeline timeline;            // steps after warm-up, at most kTimelineSteps
  std::int64_t first_step = 0;  // updates that this run began with (--resume); `loss` and `steps` are of those after it
  std::optional<CheckpointReport> checkpoints = std::nullopt;
};

inline constexpr std::int64_t kTimelineSteps = 64;

/// Makes the backend of a rank.
using BackendMaker = std::function<Result<std::unique_ptr<Backend>>(Rank)>;

/// What a process works with, instead of what its configuration names: for tests.
struct ProcessDevices {
  BackendMaker make_backend = {};
  const NcclFunctions* nccl = nullptr;
};

/// Trains. Ranks are threads of this process, with one backend each (GPUs in turn on CUDA; `backend_maker` instead of
/// the config's, if given) and in-process communicators, paced if the config says so, staged for backends with memory
/// of their own. An open slot is chosen from the operator times of the first steps, for all ranks at once.
///
/// `on_step` is called after every step, from one rank's thread at a time. When `stop` becomes true, training ends
/// after the current step with Interrupted. BadInput for a text or a workload that cannot be trained; RunFailed, with
/// rank and operator, when a rank fails: then every other rank has stopped too.
[[nodiscard]] Result<TrainResult> train(const TrainConfig& config, Log& log,
                                        const std::function<void(const TrainProgress&)>& on_step,
                                        const std::atomic<bool>& stop, const BackendMaker& backend_maker = {});

/// The same with ranks as processes: every process of `world` calls it with the same configuration and gets the same
/// result; `on_step` need not be given on all of them. BadInput if there are not as many processes as ranks. A rank
/// that dies or cannot be reached within the timeout ends all processes. On CUDA a process takes the GPU of its
/// number on its machine.
[[nodiscard]] Result<TrainResult> train_as_process(ProcessWorld& world, const TrainConfig& config, Log& log,
                                                   const std::function<void(const TrainProgress&)>& on_step,
                                                   const std::atomic<bool>& stop, const ProcessDevices& devices = {});

}  // namespace moecast
