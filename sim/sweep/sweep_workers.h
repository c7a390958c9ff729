#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "sim/sweep/sweep_points.h"
#include "sim/sweep/sweep_rows.h"

namespace moecast {

/// The results of one request: a pure function of the sweep. `threads` share the replicas of the point. BadInput if the
/// point is no valid scenario (with `skip_invalid`: a row that says so); Interrupted if stop() came true between
/// replicas.
[[nodiscard]] Result<SweepRow> evaluate_point(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                              const SweepRequest& request, unsigned threads,
                                              const std::function<bool()>& stop);

/// What takes a row as soon as it is there; never called by two threads at a time. An error ends the evaluation.
using TakeRow = std::function<Status(SweepRow)>;

/// Who evaluates requests: threads of this process, or processes on many machines.
class SweepWorkers {
 public:
  virtual ~SweepWorkers() = default;
  /// Evaluates all requests, in any order. Begins no more once stop() is true (any thread asks) or something failed,
  /// gives up those in flight, and returns the first error.
  [[nodiscard]] virtual Status evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                                        const std::function<bool()>& stop) = 0;
};

/// Threads of this process; whichever is free takes the next request. Spec and points outlive it.
class SweepThreads final : public SweepWorkers {
 public:
  SweepThreads(const SweepSpec& spec, const std::vector<SweepPoint>& points, unsigned threads)
      : spec_(spec), points_(points), threads_(threads) {}
  [[nodiscard]] Status evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                                const std::function<bool()>& stop) override;

 private:
  const SweepSpec& spec_;
  const std::vector<SweepPoint>& points_;
  unsigned threads_;
};

}  // namespace moecast
