#pragma once

#include <nlohmann/json_fwd.hpp>

#include "runtime/trainer/checkpoint_report.h"
#include "tools/table.h"

namespace moecast {

/// What a run saved and what it came back from, for metrics.json.
[[nodiscard]] nlohmann::ordered_json to_json(const CheckpointReport& report);

/// The lines that `train` prints about it. `step`: the time of a step, `interval`: steps between checkpoints.
void add_checkpoint_rows(const CheckpointReport& report, Duration step, std::int64_t interval, Table& table);

}  // namespace moecast
