#pragma once

#include <filesystem>

#include <nlohmann/json_fwd.hpp>

#include "runtime/trainer/train_config.h"

namespace moecast {

/// Every field, defaults included, the workload inline. Reads back to the same config from a file in `folder`: the
/// path of the text is written relative to it.
[[nodiscard]] nlohmann::ordered_json to_json(const TrainConfig& config, const std::filesystem::path& folder);

}  // namespace moecast
