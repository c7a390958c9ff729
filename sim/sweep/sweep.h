#pragma once

#include <functional>

#include "sim/sweep/sweep_journal.h"
#include "sim/sweep/sweep_points.h"
#include "sim/sweep/sweep_rows.h"
#include "sim/sweep/sweep_spec.h"
#include "sim/sweep/sweep_workers.h"

namespace moecast {

/// How far a sweep is: `total` counts what is known to be needed, which grows while a search goes on.
struct SweepProgress {
  std::int64_t done = 0;
  std::int64_t total = 0;
};

struct SweepHooks {
  std::function<void(const SweepProgress&)> progress = {};  // called by one thread at a time; may be empty
  std::function<bool()> stop = {};                          // asked by any thread; may be empty
};

/// Runs the search from the rows that `journal` has kept to its end; every new row goes to the journal first. The rows
/// do not depend on the workers. Interrupted if `hooks.stop` said so; the journal then has all rows that were finished.
/// `journal` may be null.
[[nodiscard]] Result<SweepRows> run_sweep(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                          SweepWorkers& workers, SweepJournal* journal, const SweepHooks& hooks = {});

}  // namespace moecast
