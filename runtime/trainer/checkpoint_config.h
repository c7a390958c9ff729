#pragma once

#include <filesystem>
#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "base/units.h"
#include "models/checkpoint/policy.h"
#include "models/moe_model.h"
#include "runtime/checkpoint/collect.h"

namespace moecast {

/// What a training run saves, and where.
struct CheckpointConfig {
  CheckpointPolicy policy;
  std::filesystem::path folder;  // empty: whoever starts the run chooses
  std::optional<Retention> retention = Retention{};
  /// Copies take at least bytes / rate: a slow link on purpose, for studies.
  std::optional<BytesPerSecond> copy_rate = std::nullopt;
  /// Training waits until a checkpoint is durable, one step after its copy began. Which versions a fault finds then
  /// does not depend on how fast the disk is: for studies of what is lost.
  bool settle = false;
  bool resume = false;  // go on from what the folder holds; no field of the file
};

/// Reads "checkpoint" of `root`; none if there is no such key, or if its policy is of kind none:
///
///   {"policy": {"kind": "pec", "interval": 50, "experts": 1}, "folder": "checkpoints",
///    "retention": {"versions": 2, "unit_copies": 2}, "copy_rate": "1 GB/s", "settle": false}
///
/// Only the policy is needed (models/checkpoint/policy.h). "retention": "all" keeps everything.
[[nodiscard]] std::optional<CheckpointConfig> read_checkpoint_config(JsonReader& root, const MoeModel& model);
[[nodiscard]] nlohmann::ordered_json to_json(const CheckpointConfig& config);

}  // namespace moecast
