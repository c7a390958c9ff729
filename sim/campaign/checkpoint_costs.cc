#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

namespace {
Duration time_of(double bytes, BytesPerSecond rate) {
  if (bytes == 0) return Duration::zero();
  ASSERT(rate.value() > 0, "{} bytes at rate {}", bytes, rate.value());
  return duration_from_seconds(bytes / rate.value());
}

Duration shared_time(double bytes, const std::optional<BytesPerSecond>& rate) {
  return rate ? time_of(bytes, *rate) : Duration::zero();
}
}  // namespace

double CheckpointCosts::rank_bytes(CheckpointLevel level, double share) const {
  const auto stated = std::find_if(uneven.begin(), uneven.end(), [&](const RankShare& entry) {
    return entry.level == level && std::fabs(entry.share - share) < 1e-9;
  });
  return stated != uneven.end() ? stated->bytes.value() : rank_non_expert.value() + share * rank_expert.value();
}
double CheckpointCosts::total_bytes(double share) const {
  return total_non_expert.value() + share * total_expert.value();
}

Duration CheckpointCosts::snapshot_time(double share) const {
  return time_of(rank_bytes(CheckpointLevel::Memory, share), snapshot_rate);
}

Duration CheckpointCosts::persist_time(double share) const {
  return std::max(time_of(rank_bytes(CheckpointLevel::Storage, share), persist_rate),
                  shared_time(total_bytes(share), storage_write)) +
         commit;
}

Duration CheckpointCosts::peer_time(double copies) const {
  return time_of(copies * rank_bytes(CheckpointLevel::Memory, 1), peer_rate);
}
Duration CheckpointCosts::memory_load_time() const { return time_of(held_bytes(1), memory_load_rate); }
Duration CheckpointCosts::peer_load_time() const { return time_of(held_bytes(1), peer_rate); }

Duration CheckpointCosts::storage_load_time(double share) const {
  return std::max(time_of(held_bytes(share > 0 ? 1 : 0), load_rate), shared_time(total_bytes(share), storage_read));
}

double CheckpointCosts::held_bytes(double share) const {
  return held ? held->non_expert.value() + share * held->expert.value()
              : rank_non_expert.value() + share * rank_expert.value();
}

}  // namespace moecast
