#pragma once

#include <memory>

#include "runtime/backend.h"

namespace moecast::testing {

/// The CPU backend as an asynchronous one: every lane is a queue with a thread that works it off, events order lanes as
/// a device's do, and device memory is of no use before `synchronize`. What runs on it right runs on streams.
[[nodiscard]] std::unique_ptr<Backend> make_queued_backend();

}  // namespace moecast::testing
