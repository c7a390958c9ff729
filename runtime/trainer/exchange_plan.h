#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/communicator.h"

namespace moecast {

/// How rows travel between the rank that holds the tokens and the ranks that hold the experts, for one chunk of one MoE
/// layer. Dispatch sends `token_side` and receives `expert_side`; combine is the same the other way round.
struct ChunkExchange {
  std::vector<Segment> token_side;    // rows of the send buffer [rows, d], expert-major; peer = owner of the expert
  std::vector<Segment> expert_side;   // rows of the receive buffer; peer = source of the tokens
  std::int64_t first_row = 0;         // of this chunk in the receive buffer
  std::int64_t row_count = 0;         // of this chunk in the receive buffer
  std::vector<std::int64_t> offsets;  // [E/P + 1] rows of each local expert, relative to first_row
};

/// The receive buffer is chunk-major, then local expert, then source: a local expert's rows of a chunk are one piece.
struct ExchangePlan {
  std::vector<ChunkExchange> chunks;
};

/// Rows of a layer's experts: the capacity, or as many as were routed (dropless).
struct RowCounts {
  std::span<const std::int64_t> sent;      // [E] in this rank's send buffer
  std::span<const std::int64_t> received;  // [P, E/P] that each source sends to each of this rank's experts
  std::int64_t rank_count = 1;             // P
};

/// Of s rows, chunk c of n takes those from c s / n to (c + 1) s / n. Reuses the memory of `out`.
void plan_exchange(const RowCounts& counts, std::int64_t chunk_count, ExchangePlan& out);

}  // namespace moecast
