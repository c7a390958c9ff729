#include "models/forward_chain.h"

#include <fmt/format.h>

namespace moecast {
namespace {

/// Begin and end of one block in the chain.
struct BlockPlace {
  std::size_t attention = 0;
  std::size_t last = 0;
};

Result<std::size_t> source_of(const MoeModel& model, const std::vector<BlockPlace>& blocks, std::size_t layer) {
  const Shortcut shortcut = model.blocks[layer].moe->shortcut;
  const BlockPlace& own = blocks[layer];
  if (shortcut == Shortcut::None) return own.attention;
  if (shortcut == Shortcut::Pos1) return own.attention - 1;
  if (layer == 0 || model.blocks[layer - 1].moe) {
    return Error{ErrorKind::BadInput, fmt::format("block {}", layer),
                 fmt::format("shortcut {} begins in the block before this one, which must be there and dense; {}",
                             shortcut == Shortcut::Pos2 ? "pos2" : "pos3",
                             layer == 0 ? "this is the first block" : "that one has a MoE of its own")};
  }
  return shortcut == Shortcut::Pos2 ? blocks[layer - 1].attention : blocks[layer - 1].attention - 1;
}

}  // namespace

Result<ForwardChain> forward_chain(const MoeModel& model) {
  ForwardChain chain;
  std::vector<BlockPlace> blocks;
  chain.items.push_back({OpKind::Embed, {}});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const LayerId layer(static_cast<std::int32_t>(i));
    const std::optional<MoeFfn>& moe = model.blocks[i].moe;
    const std::size_t attention = chain.items.size();
    chain.items.push_back({OpKind::Attention, layer});
    if (moe && moe->shared_expert_width > 0) chain.items.push_back({OpKind::SharedExpert, layer});
    chain.items.push_back({moe ? OpKind::Decode : OpKind::Mlp, layer});
    blocks.push_back({attention, chain.items.size() - 1});
    if (!moe) continue;
    const Result<std::size_t> source = source_of(model, blocks, i);
    RETURN_IF_ERROR(source);
    chain.sites.push_back({layer, *source, blocks.back().last});
  }
  chain.items.push_back({OpKind::Head, {}});
  return chain;
}

}  // namespace moecast
