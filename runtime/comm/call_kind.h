#pragma once

#include <cstdint>

namespace moecast {

/// The calls of a Communicator, as ranks tell each other which one they are in.
enum class CallKind : std::int32_t { AllToAll, AllReduce, ReduceScatter, AllGather, Broadcast, Exchange, Barrier };

[[nodiscard]] const char* to_text(CallKind kind);

/// Must all ranks bring the same number of elements?
[[nodiscard]] inline bool sizes_must_agree(CallKind kind) {
  return kind != CallKind::AllToAll && kind != CallKind::Exchange && kind != CallKind::Barrier;
}

}  // namespace moecast
