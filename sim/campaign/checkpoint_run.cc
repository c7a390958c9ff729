#include "sim/campaign/checkpoint_run.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

std::int64_t CheckpointRun::checkpoints(std::int64_t n) const {
  if (cadence.interval == 0) return 0;
  return (first_step + n) / cadence.interval - first_step / cadence.interval;
}

std::int64_t CheckpointRun::storage_checkpoints(std::int64_t n) const {
  const std::int64_t period = cadence.interval * cadence.storage_every;
  return period == 0 ? 0 : (first_step + n) / period - first_step / period;
}

Duration CheckpointRun::elapsed(std::int64_t n) const {
  if (n == 0) return Duration::zero();
  Duration out = n * step + checkpoints(n - 1) * cadence.stall;
  if (cadence.storage_stall != Duration::zero()) out += storage_checkpoints(n - 1) * cadence.storage_stall;
  return out;
}

Duration CheckpointRun::stall_after(std::int64_t n) const {
  const std::int64_t at = first_step + n;
  if (n == 0 || cadence.interval == 0 || at % cadence.interval != 0) return Duration::zero();
  const bool stored = cadence.storage_every > 0 && (at / cadence.interval) % cadence.storage_every == 0;
  return cadence.stall + (stored ? cadence.storage_stall : Duration::zero());
}

std::int64_t CheckpointRun::steps_within(Duration budget) const {
  ASSERT(budget >= Duration::zero() && step > Duration::zero(), "{} ns, step of {} ns", budget.count(), step.count());
  const std::int64_t most = budget / step;
  if (cadence.interval == 0 || (cadence.stall + cadence.storage_stall) == Duration::zero()) return most;
  // One turn of the cadence is `period` steps. Whole turns before the n-th step's end give a guess that is off by less
  // than one turn; the search between them is exact, for elapsed() rises with n.
  const std::int64_t period = cadence.interval * std::max<std::int64_t>(1, cadence.storage_every);
  Duration turn = period * step + (period / cadence.interval) * cadence.stall;
  if (cadence.storage_every > 0) turn += cadence.storage_stall;
  const std::int64_t turns = budget / turn;
  std::int64_t low = std::min(most, turns * period);         // elapsed(low) <= budget
  std::int64_t high = std::min(most, (turns + 1) * period);  // elapsed(high + 1) > budget
  while (low < high) {
    const std::int64_t middle = low + (high - low + 1) / 2;
    if (elapsed(middle) <= budget) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace moecast
