#include "runtime/executor.h"

#include "runtime/lane_executor.h"

namespace moecast {

std::unique_ptr<Executor> make_executor(Backend& backend, const Clock& clock) {
  return std::make_unique<LaneExecutor>(backend, clock);
}

}  // namespace moecast
