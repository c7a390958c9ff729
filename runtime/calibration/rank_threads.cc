#include "runtime/calibration/rank_threads.h"

#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace moecast {
namespace {

Status run_one(int rank, const std::function<Status(int)>& body) {
  try {
    return body(rank);
  } catch (const std::exception& exception) {
    return Error{ErrorKind::RunFailed, "", exception.what()};
  }
}

}  // namespace

Status run_ranks(int count, const std::function<Status(int)>& body, const std::function<void(const Error&)>& on_error) {
  std::mutex mutex;
  std::optional<Error> first;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < count; ++rank) {
      threads.emplace_back([&, rank] {
        const Status status = run_one(rank, body);
        if (status.ok()) return;
        const std::lock_guard lock(mutex);
        if (first) return;
        first = status.error();
        on_error(*first);
      });
    }
  }
  if (first) return *first;
  return {};
}

}  // namespace moecast
