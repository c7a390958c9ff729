#pragma once

#include <cstdint>

#include "base/result.h"
#include "runtime/comm/inproc_meeting.h"

namespace moecast {

/// The data movement of one rank between join and leave. Pure functions of the calls: they read peers' memory and write
/// only what the meeting gives to this rank. Errors are disagreements between the ranks' calls.

/// Every rank brought the same kind of call with the same sizes. All ranks find the same answer.
[[nodiscard]] Status check_agreement(const InprocMeeting& meeting);

/// Copies what the peers send to `rank` into its receive segments.
[[nodiscard]] Status copy_segments(const InprocMeeting& meeting, int rank);
/// The most bytes that leave or reach `rank` in an all-to-all; rows to itself do not count.
[[nodiscard]] double segment_port_bytes(const InprocMeeting& meeting, int rank);

/// Adds the rank-th part of all buffers in rank order and writes it to every rank's buffer. Ranks touch disjoint parts.
void sum_part_to_all(const InprocMeeting& meeting, int rank);
/// Adds the rank-th of size() equal parts of all buffers into this rank's shard.
void sum_part_to_shard(const InprocMeeting& meeting, int rank);
void gather_shards(const InprocMeeting& meeting, int rank);
void copy_from_root(const InprocMeeting& meeting, int rank);

}  // namespace moecast
