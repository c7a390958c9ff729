#include "tests/models/step_plan_testing.h"

#include <algorithm>

namespace moecast::testing_models {

MoeModel paired_model(std::int64_t pairs, std::int64_t top_k, bool shared, Shortcut shortcut) {
  MoeModel model;
  model.name = "pair";
  model.d_model = 32;
  model.vocabulary = 64;
  model.max_sequence = 16;
  model.attention = {2, 2, 16};
  MoeFfn moe;
  moe.expert_count = 8;
  moe.expert_width = 48;
  moe.shared_expert_width = shared ? 48 : 0;
  moe.gate.top_k = top_k;
  moe.capacity_factor = 2.0;
  moe.shortcut = shortcut;
  for (std::int64_t i = 0; i < pairs; ++i) {
    model.blocks.push_back({64, std::nullopt});
    model.blocks.push_back({0, moe});
  }
  return model;
}

Duration forward_wall(const StepPlan& plan, const std::function<std::int64_t(const Operator&)>& ticks) {
  std::vector<Duration> durations;
  for (const Operator& op : plan.operators) {
    durations.emplace_back(op.phase == Phase::Forward ? ticks(op) : 0);
  }
  Instant end{};
  for (const Span& span : project(plan, durations).spans) end = std::max(end, span.end);
  return end - Instant{};
}

}  // namespace moecast::testing_models
