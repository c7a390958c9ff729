#pragma once

#include <cstdint>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "runtime/comm/call_kind.h"
#include "runtime/tensor.h"

namespace moecast {

// What ranks in different processes tell each other, as it travels.

/// What a rank tells every other one at the start of a call.
struct MessageHeader {
  CallKind kind = CallKind::Barrier;
  DType dtype = DType::F32;
  std::int32_t root = 0;
  std::int32_t unused = 0;
  std::int64_t call = 0;      // its number in the group
  std::int64_t elements = 0;  // of calls whose sizes must agree
  std::int64_t bytes = 0;     // that this rank sends to the receiver of the header (AllToAll)
  double port_bytes = 0;      // that leave or reach this rank, for pacing
  std::int64_t value = 0;     // Exchange
};

/// What a rank says when it gives up.
struct MessageFarewell {
  ErrorKind kind = ErrorKind::RunFailed;
  std::int64_t completed = 0;  // calls that this rank has ended well: they stand, for its peers too
  char message[1008] = {};
};

/// The same call with the same sizes. (The bytes of an all-to-all are for the receiver to judge.)
[[nodiscard]] bool agree(const MessageHeader& a, const MessageHeader& b);
/// "rank 3 calls all_reduce as number 7 of 12 elements of 4 bytes".
[[nodiscard]] std::string describe(const MessageHeader& header, Rank rank);

}  // namespace moecast
