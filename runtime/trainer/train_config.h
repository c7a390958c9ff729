#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json_document.h"
#include "base/result.h"
#include "models/workload.h"
#include "runtime/communicator.h"
#include "runtime/tensor.h"
#include "runtime/trainer/checkpoint_config.h"
#include "runtime/trainer/fault_schedule.h"

namespace moecast {

enum class BackendKind { Cpu, Cuda };
enum class CommunicatorKind { Staged, Nccl };

struct OptimizerConfig {
  double learning_rate = 3e-4;  // the peak
  std::int64_t warmup_steps = 0;
  double min_learning_rate = 0;
  double weight_decay = 0.1;
  double gradient_clip = 1;  // largest global norm; 0: no clipping
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
};

struct RuntimeConfig {
  BackendKind backend = BackendKind::Cpu;
  /// Between GPUs; no value: NCCL if every rank is a process and the link is not paced, else through host memory.
  std::optional<CommunicatorKind> communicator = std::nullopt;
  std::optional<PacedLink> link = std::nullopt;  // between ranks; no value: as fast as memory allows
  Duration timeout = std::chrono::seconds(60);   // how long a rank waits for its peers
};

/// One training run.
struct TrainConfig {
  std::string name;
  Workload workload;
  std::filesystem::path text;
  std::int64_t steps = 0;
  std::uint64_t seed = 1;
  OptimizerConfig optimizer = {};
  RuntimeConfig runtime = {};
  std::optional<CheckpointConfig> checkpoint = std::nullopt;
  std::vector<Fault> faults = {};
};

/// Reads "name", "workload", "training", "runtime", "checkpoint" and "faults"; every problem in one Error (BadInput).
[[nodiscard]] Result<TrainConfig> read_train_config(const JsonDocument& document);

/// The compute type that a workload's precision names.
[[nodiscard]] DType compute_type(const Workload& workload);

}  // namespace moecast
