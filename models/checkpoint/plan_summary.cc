#include "models/checkpoint/plan_summary.h"

#include <algorithm>

#include "models/checkpoint/sharding.h"

namespace moecast {
namespace {

constexpr std::int64_t kTokens = 1'000;  // of every expert from one checkpoint to the next

std::int64_t period_of(const CheckpointInventory& inventory, const CheckpointPolicy& policy) {
  std::int64_t period = 1;
  if (!policy.is_partial()) return period;
  for (const ExpertIndex::Layer& layer : inventory.experts().layers()) {
    const std::int64_t persist = policy.partial.experts.persist;
    period = std::max(period, (layer.expert_count + persist - 1) / persist);
  }
  return period;
}

void raise(std::vector<Bytes>& most, const std::vector<Bytes>& bytes) {
  most.resize(bytes.size());
  for (std::size_t rank = 0; rank < bytes.size(); ++rank) most[rank] = std::max(most[rank], bytes[rank]);
}

}  // namespace

PlanSummary summarise_plan(const CheckpointInventory& inventory, const CheckpointPolicy& policy) {
  PlanSummary summary;
  summary.checkpoint_count = period_of(inventory, policy);
  summary.full = inventory.full_bytes();
  SelectionState state(inventory.experts(), policy);
  state.accept_initial_state();
  std::vector<std::int64_t> tokens(inventory.experts().size(), 0);
  for (std::int64_t step = 1; step <= summary.checkpoint_count; ++step) {
    for (std::int64_t& count : tokens) count += kTokens;
    const Selection selection = select_experts(policy, policy.partial.experts, state, tokens);
    const RankBytes bytes = checkpoint_bytes(inventory, policy, selection);
    summary.memory += bytes.total(CheckpointLevel::Memory);
    summary.storage += bytes.total(CheckpointLevel::Storage);
    raise(summary.most.memory, bytes.memory);
    raise(summary.most.storage, bytes.storage);
    state.commit(CheckpointLevel::Memory, selection, step, tokens);
    state.commit(CheckpointLevel::Storage, selection, step, tokens);
  }
  summary.memory = Bytes(summary.memory.count() / summary.checkpoint_count);
  summary.storage = Bytes(summary.storage.count() / summary.checkpoint_count);
  if (policy.is_partial()) {
    summary.balanced =
        expert_part_balanced(policy.partial.experts.persist,
                             static_cast<std::int64_t>(inventory.experts().layer_count()), inventory.layout());
  }
  return summary;
}

}  // namespace moecast
