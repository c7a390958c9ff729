#include "runtime/trainer/exchange_plan.h"

#include "base/assert.h"

namespace moecast {
namespace {

/// The rows of one expert and source that belong to one chunk of `count`.
struct Chunk {
  std::int64_t index = 0, count = 1;
  [[nodiscard]] std::int64_t begin(std::int64_t rows) const { return index * rows / count; }
  [[nodiscard]] std::int64_t size(std::int64_t rows) const { return begin_of_next(rows) - begin(rows); }

 private:
  [[nodiscard]] std::int64_t begin_of_next(std::int64_t rows) const { return (index + 1) * rows / count; }
};

void fill_token_side(const RowCounts& counts, Chunk chunk, std::vector<Segment>& out) {
  const std::size_t local_experts = counts.sent.size() / static_cast<std::size_t>(counts.rank_count);
  out.clear();
  std::int64_t first_row = 0;
  for (std::size_t e = 0; e < counts.sent.size(); ++e) {
    const std::int64_t rows = counts.sent[e];
    out.push_back({static_cast<int>(e / local_experts), first_row + chunk.begin(rows), chunk.size(rows)});
    first_row += rows;
  }
}

/// Returns the first row after this chunk.
std::int64_t fill_expert_side(const RowCounts& counts, Chunk chunk, std::int64_t first_row, ChunkExchange& out) {
  const std::size_t ranks = static_cast<std::size_t>(counts.rank_count);
  const std::size_t local_experts = counts.received.size() / ranks;
  out.first_row = first_row;
  out.expert_side.clear();
  out.offsets.assign(1, 0);
  std::int64_t row = first_row;
  for (std::size_t e = 0; e < local_experts; ++e) {
    for (std::size_t source = 0; source < ranks; ++source) {
      const std::int64_t rows = chunk.size(counts.received[source * local_experts + e]);
      out.expert_side.push_back({static_cast<int>(source), row, rows});
      row += rows;
    }
    out.offsets.push_back(row - first_row);
  }
  out.row_count = row - first_row;
  return row;
}

}  // namespace

void plan_exchange(const RowCounts& counts, std::int64_t chunk_count, ExchangePlan& out) {
  ASSERT(counts.sent.size() == counts.received.size() && !counts.sent.empty(), "{} sent, {} received",
         counts.sent.size(), counts.received.size());
  ASSERT(counts.sent.size() % static_cast<std::size_t>(counts.rank_count) == 0, "{} experts over {} ranks",
         counts.sent.size(), counts.rank_count);
  ASSERT(chunk_count >= 1, "{} chunks", chunk_count);
  out.chunks.resize(static_cast<std::size_t>(chunk_count));
  std::int64_t first_row = 0;
  for (std::int64_t c = 0; c < chunk_count; ++c) {
    ChunkExchange& exchange = out.chunks[static_cast<std::size_t>(c)];
    fill_token_side(counts, {c, chunk_count}, exchange.token_side);
    first_row = fill_expert_side(counts, {c, chunk_count}, first_row, exchange);
  }
}

}  // namespace moecast
