#pragma once

#include <functional>

#include "base/result.h"

namespace moecast {

/// Runs `body(rank)` on a thread for each of `count` ranks and waits for all. The first error (in time) is returned
/// after `on_error` has been called with it, once, so that it can release the others. Exceptions become errors.
[[nodiscard]] Status run_ranks(int count, const std::function<Status(int)>& body,
                               const std::function<void(const Error&)>& on_error);

}  // namespace moecast
