#include "models/checkpoint/expert_index.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace moecast {

namespace {

std::vector<ExpertIndex::Layer> moe_layers(const MoeModel& model) {
  std::vector<ExpertIndex::Layer> layers;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::optional<MoeFfn>& moe = model.blocks[i].moe;
    if (moe) layers.push_back({LayerId(static_cast<std::int32_t>(i)), moe->expert_count, moe->gate.top_k});
  }
  return layers;
}

}  // namespace

ExpertIndex::ExpertIndex(const MoeModel& model) : ExpertIndex(moe_layers(model)) {}

ExpertIndex::ExpertIndex(std::vector<Layer> layers) : layers_(std::move(layers)) {
  for (const Layer& layer : layers_) {
    ASSERT(layer.expert_count >= 1, "block {} has {} experts", layer.block.value(), layer.expert_count);
    begin_.push_back(begin_.back() + static_cast<std::size_t>(layer.expert_count));
  }
}

std::size_t ExpertIndex::at(std::size_t layer, ExpertId expert) const {
  ASSERT(layer < layers_.size() && expert.value() >= 0 && expert.value() < layers_[layer].expert_count,
         "expert {} of MoE layer {} of {}", expert.value(), layer, layers_.size());
  return begin_[layer] + expert.index();
}

ExpertIndex::Place ExpertIndex::place(std::size_t index) const {
  ASSERT(index < size(), "expert {} of {}", index, size());
  const auto above = std::upper_bound(begin_.begin(), begin_.end(), index);
  const auto layer = static_cast<std::size_t>(above - begin_.begin()) - 1;
  return {layer, ExpertId(static_cast<std::int32_t>(index - begin_[layer]))};
}

std::optional<std::size_t> ExpertIndex::ordinal(LayerId block) const {
  for (std::size_t m = 0; m < layers_.size(); ++m) {
    if (layers_[m].block == block) return m;
  }
  return std::nullopt;
}

}  // namespace moecast
