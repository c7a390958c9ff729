#include "runtime/communicator.h"

#include <fmt/format.h>

namespace moecast {

Status share_failure(Communicator& group, const Status& own) {
  const std::vector<std::int64_t> failed(static_cast<std::size_t>(group.size()), own.ok() ? 0 : 1);
  const Result<std::vector<std::int64_t>> all = group.exchange(failed);
  if (!own.ok()) return own;
  if (!all.ok()) return all.error();
  for (std::size_t rank = 0; rank < all->size(); ++rank) {
    if ((*all)[rank] != 0) return Error{ErrorKind::RunFailed, fmt::format("rank {}", rank), "could not begin"};
  }
  return {};
}

}  // namespace moecast
