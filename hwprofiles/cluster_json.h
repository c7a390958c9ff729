#pragma once

#include <cstdint>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "hwprofiles/cluster.h"

namespace moecast {

/// The object "cluster" of a profile (format: hwprofiles/README.md). All problems go to the reader.
[[nodiscard]] Cluster read_cluster(JsonReader reader, std::int64_t node_gpus);

/// Reads back to the same cluster.
[[nodiscard]] nlohmann::ordered_json to_json(const Cluster& cluster);

}  // namespace moecast
