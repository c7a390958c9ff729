#include "sim/sweep/sweep.h"

#include "sim/sweep/sweep_search.h"

namespace moecast {

Result<SweepRows> run_sweep(const SweepSpec& spec, const std::vector<SweepPoint>& points, SweepWorkers& workers,
                            SweepJournal* journal, const SweepHooks& hooks) {
  SweepRows rows;
  if (journal != nullptr) {
    for (SweepRow& row : journal->take_recovered()) rows.add(std::move(row));
  }
  const std::function<bool()> stop = hooks.stop ? hooks.stop : [] { return false; };
  for (;;) {
    const std::vector<SweepRequest> requests = next_requests(spec, points, rows);
    if (requests.empty()) break;
    if (stop()) return Error{ErrorKind::Interrupted, "sweep", "interrupted"};
    const auto total = static_cast<std::int64_t>(rows.size() + requests.size());
    const TakeRow take = [&](SweepRow row) -> Status {
      if (journal != nullptr) RETURN_IF_ERROR(journal->append(row));
      rows.add(std::move(row));
      if (hooks.progress) hooks.progress({static_cast<std::int64_t>(rows.size()), total});
      return {};
    };
    if (hooks.progress) hooks.progress({static_cast<std::int64_t>(rows.size()), total});
    const Status status = workers.evaluate(requests, take, stop);
    if (journal != nullptr) RETURN_IF_ERROR(journal->sync());
    RETURN_IF_ERROR(status);
  }
  return rows;
}

}  // namespace moecast
