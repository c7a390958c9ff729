#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "models/moe_model.h"

namespace moecast {

/// The routed experts of a model as one flat index: MoE layers in block order (ordinal m = 0, 1, ...), experts
/// ascending. Tables of counters and versions are vectors over it, [size()].
class ExpertIndex {
 public:
  struct Layer {
    LayerId block;
    std::int64_t expert_count = 0;
    std::int64_t top_k = 1;

    friend bool operator==(const Layer&, const Layer&) = default;
  };
  struct Place {
    std::size_t layer = 0;  // ordinal m
    ExpertId expert;
  };

  ExpertIndex() = default;
  explicit ExpertIndex(const MoeModel& model);
  explicit ExpertIndex(std::vector<Layer> layers);

  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; }
  [[nodiscard]] std::size_t layer_count() const { return layers_.size(); }
  [[nodiscard]] std::size_t size() const { return begin_.back(); }
  /// First expert of layer m; begin(layer_count()) is size().
  [[nodiscard]] std::size_t begin(std::size_t layer) const { return begin_[layer]; }
  [[nodiscard]] std::size_t at(std::size_t layer, ExpertId expert) const;
  [[nodiscard]] Place place(std::size_t index) const;
  /// Ordinal of a block's MoE layer; none for a dense block.
  [[nodiscard]] std::optional<std::size_t> ordinal(LayerId block) const;

  friend bool operator==(const ExpertIndex&, const ExpertIndex&) = default;

 private:
  std::vector<Layer> layers_;
  std::vector<std::size_t> begin_ = {0};
};

}  // namespace moecast
