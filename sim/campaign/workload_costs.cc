#include "sim/campaign/workload_costs.h"

#include <algorithm>
#include <vector>

#include "models/checkpoint/checkpoint_plan.h"
#include "models/checkpoint/dynamic_k.h"
#include "models/metrics.h"
#include "sim/scenario.h"

namespace moecast {

namespace {

/// From the beginning of the step to the first optimizer operator; the whole step if it has none.
Duration time_before_update(const Timeline& timeline) {
  Instant begun = Instant::max();
  Instant changes = Instant::max();
  Instant ended{};
  for (const Span& span : timeline.spans) {
    begun = std::min(begun, span.start);
    ended = std::max(ended, span.end);
    if (timeline.plan.operators[span.op.index()].kind == OpKind::Optimizer) changes = std::min(changes, span.start);
  }
  return std::min(changes, ended) - begun;
}

/// What is saved, split in parts: of the full kinds, too.
CheckpointPolicy in_parts(const PolicySettings& settings) {
  const auto* given = std::get_if<CheckpointPolicy>(&settings);
  CheckpointPolicy policy = given != nullptr ? *given : CheckpointPolicy{};
  if (policy.is_partial()) return policy;
  policy.kind = CheckpointKind::PartialOneLevel;
  policy.partial = {};
  return policy;
}

std::vector<ExpertCounts> counts_of(const CheckpointPolicy& policy, std::int64_t expert_count) {
  if (policy.partial.dynamic) return dynamic_levels(policy.partial.experts, expert_count);
  if (policy.partial.experts.persist >= expert_count) return {};
  return {policy.partial.experts};
}

void commit(SelectionState& state, const Selection& selection, std::int64_t step,
            const std::vector<std::int64_t>& tokens) {
  state.commit(CheckpointLevel::Memory, selection, step, tokens);
  state.commit(CheckpointLevel::Storage, selection, step, tokens);
}

/// The most that any rank has at each level during one turn of the rotation that follows a full checkpoint.
void add_turn(std::vector<RankShare>& out, const CheckpointInventory& inventory, const CheckpointPolicy& policy,
              ExpertCounts counts, std::int64_t expert_count) {
  SelectionState state(inventory.experts(), policy);
  std::vector<std::int64_t> tokens(inventory.experts().size(), 0);
  commit(state, select_all(inventory.experts()), 0, tokens);
  Bytes memory(0);
  Bytes storage(0);
  const std::int64_t turn = (expert_count + counts.persist - 1) / counts.persist;
  for (std::int64_t step = 1; step <= turn; ++step) {
    std::fill(tokens.begin(), tokens.end(), step);
    const Selection selection = select_experts(policy, counts, state, tokens);
    const RankBytes bytes = checkpoint_bytes(inventory, policy, selection);
    memory = std::max(memory, bytes.bottleneck(CheckpointLevel::Memory));
    storage = std::max(storage, bytes.bottleneck(CheckpointLevel::Storage));
    commit(state, selection, step, tokens);
  }
  const auto share = [&](std::int64_t count) { return static_cast<double>(count) / static_cast<double>(expert_count); };
  out.push_back({CheckpointLevel::Memory, share(counts.snapshot), memory});
  out.push_back({CheckpointLevel::Storage, share(counts.persist), storage});
}

CheckpointCosts::Held held_by_rank_zero(const CheckpointInventory& inventory) {
  CheckpointCosts::Held held;
  for (std::size_t p = 0; p < inventory.parameters().size(); ++p) {
    const std::optional<std::size_t> expert = inventory.expert_of(p);
    if (expert && inventory.expert_owner(*expert) != 0) continue;
    const std::int64_t replicas = inventory.layout().group_size(expert ? Group::ExpertData : Group::Data);
    for (const Component component : kSavedComponents) {
      const std::int64_t parts = inventory.zero_sharded(component) ? replicas : 1;
      const std::int64_t count = even_share(inventory.parameters()[p].element_count(), parts, 0).count();
      (expert ? held.expert : held.non_expert) += Bytes(count * inventory.bytes_per_element(component));
    }
  }
  return held;
}

}  // namespace

Result<StepTimes> simulated_step(const Workload& workload, const HardwareProfile& hardware) {
  Scenario scenario;
  scenario.workload = workload;
  scenario.hardware = hardware;
  const Result<Timeline> timeline = simulate(scenario);
  if (!timeline.ok()) return timeline.error();
  const StepMetrics metrics = step_metrics(*timeline);
  return StepTimes{metrics.step_time, time_before_update(*timeline),
                   seconds(metrics.communication) / seconds(metrics.step_time)};
}

double snapshot_interference(double communicating, const HardwareProfile& hardware, BytesPerSecond rate) {
  double sent = 1;    // of what ranks would send alone, while the copy runs beside it
  double copied = 1;  // of what would be copied alone
  if (const std::optional<HostLink>& link = hardware.node.host_link; link && link->shared) {
    const double whole = link->bandwidth.value();
    const double wanted = std::min(whole, hardware.node.all_to_all.bandwidth.value());
    const double copy = std::min(whole, rate.value());
    sent = std::min(wanted, std::max(whole / 2, whole - copy)) / wanted;
    copied = std::min(copy, std::max(whole / 2, whole - wanted)) / rate.value();
  }
  const double stretch = hardware.interference.compute_beside_copy;
  const double computing = 1 - communicating;
  const double longer = (stretch - 1) * computing + (1 / sent - 1) * communicating;
  return longer / (stretch * computing + copied / sent * communicating);
}

std::optional<ExpertPlacement> expert_placement(const Workload& workload) {
  const ExpertIndex experts(workload.model);
  if (experts.layer_count() == 0) return std::nullopt;
  const std::int64_t count = experts.layers().front().expert_count;
  for (const ExpertIndex::Layer& layer : experts.layers()) {
    if (layer.expert_count != count) return std::nullopt;
  }
  const ParallelLayout& layout = workload.layout;
  return ExpertPlacement{count, static_cast<std::int64_t>(experts.layer_count()), layout.expert, layout.pipeline, 0};
}

Result<CheckpointCosts> planned_sizes(const Workload& workload, const PolicySettings& settings) {
  const Result<CheckpointInventory> inventory =
      CheckpointInventory::make(workload.model, workload.layout, precision_of(workload.bytes_per_element));
  RETURN_IF_ERROR(inventory);
  const CheckpointPolicy policy = in_parts(settings);
  const std::vector<std::vector<ExpertId>> nobody(inventory->experts().layer_count());
  const RankBytes none = checkpoint_bytes(*inventory, policy, {nobody, nobody});
  const RankBytes all = checkpoint_bytes(*inventory, policy, select_all(inventory->experts()));
  constexpr CheckpointLevel kStorage = CheckpointLevel::Storage;
  CheckpointCosts costs;
  costs.rank_non_expert = none.bottleneck(kStorage);
  costs.rank_expert = all.bottleneck(kStorage) - none.bottleneck(kStorage);
  costs.total_non_expert = none.total(kStorage);
  costs.total_expert = all.total(kStorage) - none.total(kStorage);
  costs.held = held_by_rank_zero(*inventory);
  const std::optional<ExpertPlacement> place = expert_placement(workload);
  const auto* given = std::get_if<CheckpointPolicy>(&settings);
  if (!place || given == nullptr || !given->is_partial()) return costs;
  for (const ExpertCounts counts : counts_of(policy, place->experts_per_layer)) {
    if (counts.snapshot > place->experts_per_layer) continue;  // the reader refuses it
    add_turn(costs.uneven, *inventory, policy, counts, place->experts_per_layer);
  }
  return costs;
}

}  // namespace moecast
