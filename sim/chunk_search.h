#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "sim/scenario.h"

namespace moecast {

struct ChunkTrial {
  std::int64_t chunk_count = 1;
  Duration step_time{};
};

/// Simulates the scenario with its exchanges in 1, 2, 4, 8 and 16 chunks, as far as slots can be divided; ascending in
/// chunks. BadInput as simulate() with one chunk; what fits no more chunks ends the search.
[[nodiscard]] Result<std::vector<ChunkTrial>> search_chunks(Scenario scenario);

/// The shortest step's, of several the fewest chunks.
[[nodiscard]] std::int64_t best_chunk_count(const std::vector<ChunkTrial>& trials);

}  // namespace moecast
