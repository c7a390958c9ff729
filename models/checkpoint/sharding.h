#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/units.h"
#include "models/parallel_layout.h"

namespace moecast {

/// Elements [begin, end) of a flat tensor.
struct ElementRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::int64_t count() const { return end - begin; }
  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

/// Piece `position` of `count` elements in `parts` pieces of ceil(count / parts), the last ones shorter or empty. ZeRO
/// shards of a tensor and the pieces of an expert written by its replicas are cut this way.
[[nodiscard]] ElementRange even_share(std::int64_t count, std::int64_t parts, std::int64_t position);

/// What is written by one rank as a whole: an embedding, the attention, FFN or gate of a block.
struct ModuleUnit {
  std::string name;  // "blocks.3.attention"
  Bytes bytes{0};    // of the components that all replicas have
};

/// Rank of each unit, greedy: largest unit first (ties by name), to the rank with the least load so far (ties: the
/// lower rank), beginning with `load`, [ranks]. (MoC-System, arXiv 2408.04307, section 4.3.)
[[nodiscard]] std::vector<Rank> spread_units(std::span<const ModuleUnit> units, std::vector<Bytes> load);

/// Can K experts of each of `moe_layer_count` layers be written in equal numbers by all ranks? False iff
/// K N_moe mod D_ep != 0, or K N_moe / D_ep mod (D_dp / D_ep) != 0 (eq 9).
[[nodiscard]] bool expert_part_balanced(std::int64_t selected_count, std::int64_t moe_layer_count,
                                        const ParallelLayout& layout);

}  // namespace moecast
