#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "models/step_plan.h"
#include "runtime/backend.h"
#include "runtime/calibration/kernel_timer.h"
#include "runtime/communicator.h"

namespace moecast {

/// What one rank needs for its share of a bench.
struct BenchRank {
  Backend& backend;
  Communicator& control;  // of all ranks, not paced: meets before each kernel, carries rank 0's decisions
  const Clock& clock;
  DType compute = DType::F32;
  Bytes working_set{0};
};

struct KernelTimes {
  Work work;
  FormTimes times;  // of all rounds
};

/// Measures all works again and again in rounds, the cheapest first, until `deadline`; the first round is always
/// completed (unless `progress` returns false). Rounds spread every kernel's repeats over the whole time: a machine
/// that drifts (clock, neighbours) shifts all kernels alike. All ranks measure the same kernel at the same time,
/// because in training they share caches and memory too. Rank 0 decides how often and when to stop. `progress` (0..1)
/// is called on rank 0. Every rank calls this with the same works; the result has the order of `works`.
[[nodiscard]] Result<std::vector<KernelTimes>> bench_kernels(const BenchRank& rank, const std::vector<Work>& works,
                                                             Instant deadline,
                                                             const std::function<bool(double)>& progress);

/// Arithmetic and traffic in comparable units, for ordering and for leaving out what would take too long.
[[nodiscard]] double estimated_cost(const Work& work);

}  // namespace moecast
