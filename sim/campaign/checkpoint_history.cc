#include "sim/campaign/checkpoint_history.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

void CheckpointHistory::begin(const CheckpointRun& run) {
  forget_old_runs();
  runs_.push_back({run, Cadence::kForever});
}

void CheckpointHistory::close(std::int64_t last_step) {
  ASSERT(!runs_.empty() && last_step >= runs_.back().run.first_step, "no run to close at step {}", last_step);
  runs_.back().last_step = last_step;
}

void CheckpointHistory::roll_back(std::int64_t step) {
  while (!runs_.empty() && runs_.back().run.first_step >= step) runs_.pop_back();
  for (Entry& entry : runs_) entry.last_step = std::min(entry.last_step, step);
}

void CheckpointHistory::cut_writes(Instant at) {
  for (Entry& entry : runs_) entry.writes_until = std::min(entry.writes_until, at);
}

/// Half of the runs go when there are too many; what storage has of them by the end of the last one is kept as one
/// version (a version so old is restored only after silent corruption).
void CheckpointHistory::forget_old_runs() {
  if (runs_.size() < kMostRuns) return;
  const auto half = runs_.begin() + kMostRuns / 2;
  for (auto entry = runs_.begin(); entry != half; ++entry) {
    const Cadence& cadence = entry->run.cadence;
    if (!cadence.to_storage) continue;
    const std::int64_t period = cadence.interval * cadence.storage_every;
    const auto version = newest(*entry, period, *cadence.to_storage, entry->writes_until, Instant::max());
    if (version) oldest_ = *version;
  }
  runs_.erase(runs_.begin(), half);
}

std::optional<CheckpointHistory::Version> CheckpointHistory::newest(const Entry& entry, std::int64_t period,
                                                                    Duration latency, Instant at, Instant taint) {
  const CheckpointRun& run = entry.run;
  if (period == 0) return std::nullopt;
  const Instant begun_by = std::min(taint, at == Instant::max() ? at : at - latency);
  if (begun_by <= run.start) return std::nullopt;  // its first checkpoint begins after a step
  std::int64_t step = entry.last_step;
  if (begun_by != Instant::max()) step = std::min(step, run.first_step + run.steps_within(begun_by - run.start));
  step = step / period * period;
  if (step <= run.first_step) return std::nullopt;
  return Version{step, run.start + run.elapsed(step - run.first_step), Instant{}};
}

CheckpointHistory::Version CheckpointHistory::newest_on_storage(Instant at, Instant taint) const {
  for (auto entry = runs_.rbegin(); entry != runs_.rend(); ++entry) {
    const Cadence& cadence = entry->run.cadence;
    if (!cadence.to_storage) continue;
    const auto version = newest(*entry, cadence.interval * cadence.storage_every, *cadence.to_storage,
                                std::min(at, entry->writes_until), taint);
    if (version) return *version;
  }
  return oldest_;
}

std::optional<CheckpointHistory::Version> CheckpointHistory::newest_in_memory(Instant at, Instant taint) const {
  for (auto entry = runs_.rbegin(); entry != runs_.rend(); ++entry) {
    const Cadence& cadence = entry->run.cadence;
    if (!cadence.to_memory) continue;
    auto version = newest(*entry, cadence.interval, *cadence.to_memory, at, taint);
    if (!version) continue;
    version->safe_at = version->begun + cadence.to_storage.value_or(Duration::zero());
    return version;
  }
  return std::nullopt;
}

}  // namespace moecast
