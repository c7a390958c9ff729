#include "tools/processes.h"

namespace moecast {

Result<std::unique_ptr<ProcessWorld>> meet_others(const CommandContext& context, Duration timeout) {
  const Launch& launch = context.launch;
  if (launch.by == Launch::By::Nobody) return std::unique_ptr<ProcessWorld>();
  Result<std::unique_ptr<ProcessWorld>> world = meet_processes(launch, timeout);
  // Rank 0 cannot speak for those whom it has not met.
  if (!world.ok() && launch.rank > 0) context.log.error("rank {}: {}", launch.rank, world.error().text());
  return world;
}

}  // namespace moecast
