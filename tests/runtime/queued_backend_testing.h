#pragma once

#include <functional>
#include <memory>

#include "runtime/backend.h"

namespace moecast::testing {

/// The CPU backend as an asynchronous one: every lane is a queue with a thread that works it off, events order lanes as
/// a device's do, and device memory is of no use before `synchronize`. What runs on it right runs on streams.
[[nodiscard]] std::unique_ptr<Backend> make_queued_backend();
/// One more kernel, behind those that the lane has been given already.
void queue_task(Backend& backend, Lane lane, std::function<void()> task);

}  // namespace moecast::testing
