#include "models/model_costs.h"

#include <algorithm>

#include "base/assert.h"
#include "models/step_plan.h"

namespace moecast {

Flops forward_flops_per_token(const MoeModel& model, std::int64_t sequence) {
  MoeModel unpadded = model;
  for (Block& block : unpadded.blocks) {
    if (block.moe) block.moe->capacity_factor.reset();
  }
  const ParallelLayout alone;
  const Result<StepPlan> plan = build_step_plan({unpadded, alone, Batch{1, 1, sequence}, {}, 4, {}});
  ASSERT(plan.ok(), "a model on one rank has a plan: {}", plan.error().text());
  double sum = 0;
  for (const Operator& op : plan->operators) {
    if (op.phase != Phase::Forward) continue;
    for (const Work& work : op.work) sum += flops(work).value();
  }
  return Flops(sum / static_cast<double>(sequence));
}

Flops training_flops_per_token(const MoeModel& model, std::int64_t sequence) {
  return Flops(3 * forward_flops_per_token(model, sequence).value());
}

Bytes weight_bytes(const MoeModel& model, const Precision& precision) {
  return Bytes(count_parameters(model).total * precision.weight);
}

Bytes state_bytes(const MoeModel& model, const Precision& precision) {
  const std::int64_t each = precision.weight + precision.master + precision.first_moment + precision.second_moment;
  return Bytes(count_parameters(model).total * each);
}

Bytes cache_bytes(const MoeModel& model, std::int64_t tokens, std::int64_t bytes_per_element) {
  std::int64_t kept = 0;  // tokens, summed over blocks
  for (std::int64_t block = 0; block < model.layer_count(); ++block) {
    kept += std::min(tokens, model.attention.window_of(block).value_or(tokens));
  }
  return Bytes(kept * model.attention.cache_width() * bytes_per_element);
}

}  // namespace moecast
