#pragma once

#include <functional>
#include <vector>

#include "base/clock.h"
#include "models/step_plan.h"
#include "runtime/backend.h"
#include "runtime/communicator.h"

namespace moecast {

/// Benches that run small plans on the executor itself, as training does: they see its queues, its waking of lanes and
/// the meeting of the ranks, which a loop around a communicator would not. Every rank calls them at the same points
/// with the same arguments. All return one rank's view.
struct LaneRank {
  Backend& backend;
  Communicator& data;  // the link that is measured (paced, if it is)
  const Clock& clock;
  DType compute = DType::F32;
};

/// Time of an operator that does nothing, from one to the next on the compute lane.
[[nodiscard]] Result<Duration> bench_operator_overhead(const LaneRank& rank);

/// Time of one collective between two operators of the compute lane, each of which waits for the one before: the way
/// to the communication lane, the meeting, the transfer and the way back. `repeats` in a row; the lower quartile,
/// because a thread that sleeps on the link is what other programs delay most, and they only ever add.
[[nodiscard]] Result<Duration> bench_collective(const LaneRank& rank, const Communication& communication,
                                                std::int64_t repeats);

/// Compute beside an all-to-all, and each alone.
struct SideBySide {
  double compute = 1;        // time of compute beside communication / alone
  double communication = 1;  // and the reverse
};
/// Runs short products on the compute lane while an all-to-all of `buffer` is under way, and products and all-to-all
/// by themselves, `step_count` times each. A ratio below one (noise) is given as it is.
[[nodiscard]] Result<SideBySide> bench_interference(const LaneRank& rank, Bytes buffer, int step_count);

/// The same with a copy of `buffer` from the device to (pinned) host memory instead of the all-to-all.
struct BesideCopy {
  double compute = 1;      // time of compute beside the copy / alone
  BytesPerSecond rate{0};  // of the copy alone
};
[[nodiscard]] Result<BesideCopy> bench_beside_copy(const LaneRank& rank, Bytes buffer, int step_count);

}  // namespace moecast
