#include "runtime/trainer/step_context.h"

namespace moecast {
namespace {

using Rows = std::vector<std::int64_t>;

Rows read_counts(Backend& backend, const Tensor& counts) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(counts.element_count()));
  backend.download(Lane::Comm, values.data(), counts);
  backend.synchronize(Lane::Comm);
  return Rows(values.begin(), values.end());
}

/// One segment of E/P counts for each rank of the expert group.
std::vector<Segment> count_segments(std::int64_t ranks) {
  std::vector<Segment> segments;
  for (int peer = 0; peer < ranks; ++peer) segments.push_back({peer, peer, 1});
  return segments;
}

Communicator& expert_group(StepContext& context) { return context.groups.at(Group::Expert); }

Status from_tokens_to_experts(StepContext& context, std::size_t block, std::size_t chunk, const Tensor& send,
                              const Tensor& receive) {
  const ChunkExchange& exchange = context.exchanges[block].chunks[chunk];
  return expert_group(context).all_to_all(send, exchange.token_side, receive, exchange.expert_side);
}

Status from_experts_to_tokens(StepContext& context, std::size_t block, std::size_t chunk, const Tensor& send,
                              const Tensor& receive) {
  const ChunkExchange& exchange = context.exchanges[block].chunks[chunk];
  return expert_group(context).all_to_all(send, exchange.expert_side, receive, exchange.token_side);
}

}  // namespace

void plan_fixed_exchange(StepContext& context, std::size_t block) {
  const MoeFfn& moe = context.moe(block);
  const Rows rows(static_cast<std::size_t>(moe.expert_count), *moe.capacity(context.tokens()));
  plan_exchange({rows, rows, context.layout.expert}, context.chunk_count, context.exchanges[block]);
}

Status exchange_counts(StepContext& context, std::size_t block, std::int64_t micro_batch) {
  const RoutedState& state = context.states.blocks[block].routed;
  const std::int64_t ranks = context.layout.expert;
  const std::int64_t experts = context.moe(block).expert_count;
  const Tensor sent = gate_tensors(state, micro_batch).count.reshaped({ranks, experts / ranks});
  const std::vector<Segment> segments = count_segments(ranks);
  RETURN_IF_ERROR(expert_group(context).all_to_all(sent, segments, state.received_count, segments));
  const Rows sent_rows = read_counts(context.backend, sent);
  const Rows received_rows = read_counts(context.backend, state.received_count);
  plan_exchange({sent_rows, received_rows, ranks}, context.chunk_count, context.exchanges[block]);
  return {};
}

Status dispatch_forward(StepContext& context, std::size_t block, std::size_t chunk) {
  return from_tokens_to_experts(context, block, chunk, context.states.temporary.send,
                                context.states.blocks[block].routed.received);
}

Status combine_forward(StepContext& context, std::size_t block, std::size_t chunk) {
  return from_experts_to_tokens(context, block, chunk, context.states.temporary.expert_out,
                                context.states.blocks[block].routed.rows);
}

Status combine_backward(StepContext& context, std::size_t block, std::size_t chunk) {
  return from_tokens_to_experts(context, block, chunk, context.states.temporary.drows,
                                context.states.temporary.dexpert_out);
}

Status dispatch_backward(StepContext& context, std::size_t block, std::size_t chunk) {
  return from_experts_to_tokens(context, block, chunk, context.states.temporary.dreceived,
                                context.states.temporary.dsend);
}

}  // namespace moecast
