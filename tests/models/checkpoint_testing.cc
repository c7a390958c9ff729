#include "tests/models/checkpoint_testing.h"

#include <utility>

#include "base/assert.h"
#include "models/moe_model_json.h"

namespace moecast::testing_models {

MoeModel zoo_model(const std::string& name) {
  Result<MoeModel> model = load_moe_model(MOECAST_SOURCE_DIR "/models/zoo/" + name + ".json");
  ASSERT(model.ok(), "{}", model.ok() ? "" : model.error().text());
  return std::move(model).value();
}

Precision mixed_precision() { return {2, 4, 4, 4, 2}; }

CheckpointInventory inventory_of(const MoeModel& model, const ParallelLayout& layout, const Precision& precision) {
  Result<CheckpointInventory> made = CheckpointInventory::make(model, layout, precision);
  ASSERT(made.ok(), "{}", made.ok() ? "" : made.error().text());
  return std::move(made).value();
}

ExpertIndex experts_of(std::size_t layers, std::int64_t experts, std::int64_t top_k) {
  std::vector<ExpertIndex::Layer> all;
  for (std::size_t m = 0; m < layers; ++m) {
    all.push_back({LayerId(static_cast<std::int32_t>(2 * m + 1)), experts, top_k});
  }
  return ExpertIndex(all);
}

CheckpointPolicy sequential_policy(ExpertCounts counts) {
  CheckpointPolicy policy;
  policy.kind = counts.persist < counts.snapshot ? CheckpointKind::PartialTwoLevel : CheckpointKind::PartialOneLevel;
  policy.partial.experts = counts;
  policy.partial.first_full = false;
  return policy;
}

CheckpointRun::CheckpointRun(ExpertIndex experts, CheckpointPolicy policy)
    : policy_(std::move(policy)), state_(experts, policy_), tokens_(experts.size(), 0) {}

Selection CheckpointRun::next() const { return select_experts(policy_, policy_.partial.experts, state_, tokens_); }

Selection CheckpointRun::save() {
  Selection selection = next();
  step_ += policy_.interval;
  state_.commit(CheckpointLevel::Memory, selection, step_, tokens_);
  state_.commit(CheckpointLevel::Storage, selection, step_, tokens_);
  return selection;
}

std::vector<std::vector<int>> numbers(const std::vector<std::vector<ExpertId>>& chosen) {
  std::vector<std::vector<int>> all;
  for (const std::vector<ExpertId>& layer : chosen) {
    all.emplace_back();
    for (const ExpertId expert : layer) all.back().push_back(expert.value());
  }
  return all;
}

}  // namespace moecast::testing_models
