#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "models/moe_model.h"
#include "models/stage_parts.h"
#include "models/step_plan.h"

namespace moecast {

/// One compute operator of the residual stream, in the order of the equations.
struct ChainItem {
  OpKind kind = OpKind::Embed;  // Embed or Receive; Attention, Mlp, SharedExpert, Decode; Head or Send
  std::optional<LayerId> layer = std::nullopt;
};

/// Where one MoE block sits in the chain: items source + 1 .. decode - 1 are the window, the compute that may hide its
/// communication (ScMoE, arXiv 2404.05019, sections 3.1 and 4.2.1).
struct MoeSite {
  LayerId layer;
  std::size_t source = 0;  // the item that makes the shortcut tensor S
  std::size_t decode = 0;
  [[nodiscard]] std::int64_t window() const { return static_cast<std::int64_t>(decode - source) - 1; }
};

/// The forward pass of a part of the model without routed experts, and where those hang on it. Windows never overlap:
/// Pos-2 and Pos-3 begin in a dense block.
struct ForwardChain {
  std::vector<ChainItem> items;  // Embed (or Receive from the part before) first, Head (or Send to the next) last
  std::vector<MoeSite> sites;    // layers ascending
};

/// BadInput for a shortcut without the block that it begins in. A part cuts no shortcut (models/stage_parts.h).
[[nodiscard]] Result<ForwardChain> forward_chain(const MoeModel& model, const ModelPart& part);

/// Items [begin, end) that recomputation runs again together: one block, or the blocks that a shortcut joins. Together
/// they are all items but the first and the last.
struct ChainUnit {
  std::size_t begin = 0, end = 0;
};
[[nodiscard]] std::vector<ChainUnit> chain_units(const ForwardChain& chain);

}  // namespace moecast
