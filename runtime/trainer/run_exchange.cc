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

Status from_tokens_to_experts(StepContext& context, Routing routing, std::size_t chunk, const Tensor& send,
                              const Tensor& receive) {
  const ChunkExchange& exchange = exchange_of(context, routing).chunks[chunk];
  return expert_group(context).all_to_all(send, exchange.token_side, receive, exchange.expert_side);
}

Status from_experts_to_tokens(StepContext& context, Routing routing, std::size_t chunk, const Tensor& send,
                              const Tensor& receive) {
  const ChunkExchange& exchange = exchange_of(context, routing).chunks[chunk];
  return expert_group(context).all_to_all(send, exchange.expert_side, receive, exchange.token_side);
}

}  // namespace

void plan_fixed_exchange(StepContext& context, std::size_t block) {
  const MoeFfn& moe = context.moe(block);
  const Rows rows(static_cast<std::size_t>(moe.expert_count), *moe.capacity(context.tokens()));
  for (ExchangePlan& exchange : context.exchanges[block]) {
    plan_exchange({rows, rows, context.layout.expert}, context.chunk_count, exchange);
  }
}

Status exchange_counts(StepContext& context, Routing routing, std::int64_t micro_batch) {
  const RoutedState& state = routed_state(context, routing);
  const std::int64_t ranks = context.layout.expert;
  const std::int64_t experts = context.moe(routing.block).expert_count;  // what zero experts are chosen by stays here
  const Tensor sent = gate_tensors(state, micro_batch).count.slice(0, experts).reshaped({ranks, experts / ranks});
  const std::vector<Segment> segments = count_segments(ranks);
  RETURN_IF_ERROR(expert_group(context).all_to_all(sent, segments, state.received_count, segments));
  const Rows sent_rows = read_counts(context.backend, sent);
  const Rows received_rows = read_counts(context.backend, state.received_count);
  plan_exchange({sent_rows, received_rows, ranks}, context.chunk_count,
                context.exchanges[routing.block][routing.index()]);
  return {};
}

Status dispatch_forward(StepContext& context, Routing routing, std::size_t chunk) {
  return from_tokens_to_experts(context, routing, chunk, routed_temporaries(context, routing).send,
                                routed_state(context, routing).received);
}

Status combine_forward(StepContext& context, Routing routing, std::size_t chunk) {
  return from_experts_to_tokens(context, routing, chunk, routed_temporaries(context, routing).expert_out,
                                routed_state(context, routing).rows);
}

Status combine_backward(StepContext& context, Routing routing, std::size_t chunk) {
  return from_tokens_to_experts(context, routing, chunk, routed_temporaries(context, routing).drows,
                                routed_temporaries(context, routing).dexpert_out);
}

Status dispatch_backward(StepContext& context, Routing routing, std::size_t chunk) {
  return from_experts_to_tokens(context, routing, chunk, routed_temporaries(context, routing).dreceived,
                                routed_temporaries(context, routing).dsend);
}

}  // namespace moecast
