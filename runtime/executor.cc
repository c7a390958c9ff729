#include "runtime/executor.h"

#include "runtime/executor_stream.h"
#include "runtime/executor_threaded.h"

namespace moecast {

std::unique_ptr<Executor> make_executor(Backend& backend, const Clock& clock) {
  if (backend.asynchronous()) return std::make_unique<StreamExecutor>(backend, clock);
  return std::make_unique<ThreadedExecutor>(clock);
}

}  // namespace moecast
