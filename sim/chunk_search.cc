#include "sim/chunk_search.h"

#include <algorithm>

#include "base/assert.h"
#include "models/metrics.h"

namespace moecast {

constexpr std::int64_t kMostChunks = 16;

Result<std::vector<ChunkTrial>> search_chunks(Scenario scenario) {
  std::vector<ChunkTrial> trials;
  for (std::int64_t chunks = 1; chunks <= kMostChunks; chunks *= 2) {
    scenario.workload.schedule.chunk_count = chunks;
    const Result<Timeline> timeline = simulate(scenario);
    if (!timeline.ok() && (trials.empty() || timeline.error().kind != ErrorKind::BadInput)) return timeline.error();
    if (!timeline.ok()) break;
    trials.push_back({chunks, step_metrics(*timeline).step_time});
  }
  return trials;
}

std::int64_t best_chunk_count(const std::vector<ChunkTrial>& trials) {
  ASSERT(!trials.empty(), "no trials");
  const auto best = std::min_element(
      trials.begin(), trials.end(), [](const ChunkTrial& a, const ChunkTrial& b) { return a.step_time < b.step_time; });
  return best->chunk_count;
}

}  // namespace moecast
