#pragma once

#include <atomic>

namespace moecast {

/// Turns the first Ctrl-C (or SIGTERM) into a flag that long work polls; the second one ends the process as usual.
/// Call once, from main; the flag lives as long as the process.
[[nodiscard]] const std::atomic<bool>& stop_on_interrupt();

}  // namespace moecast
