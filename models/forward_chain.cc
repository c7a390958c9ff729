#include "models/forward_chain.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {
namespace {

/// Begin and end of one block in the chain.
struct BlockPlace {
  std::size_t attention = 0;
  std::size_t last = 0;
};

/// `blocks` are those of the part up to this one.
Result<std::size_t> source_of(const MoeModel& model, const std::vector<BlockPlace>& blocks, std::size_t layer) {
  const Shortcut shortcut = model.blocks[layer].moe->shortcut;
  const BlockPlace& own = blocks.back();
  if (shortcut == Shortcut::None) return own.attention;
  if (shortcut == Shortcut::Pos1) return own.attention - 1;
  if (layer == 0 || model.blocks[layer - 1].moe) {
    return Error{ErrorKind::BadInput, fmt::format("block {}", layer),
                 fmt::format("shortcut {} begins in the block before this one, which must be there and dense; {}",
                             shortcut == Shortcut::Pos2 ? "pos2" : "pos3",
                             layer == 0 ? "this is the first block" : "that one has a MoE of its own")};
  }
  ASSERT(blocks.size() >= 2, "the part cuts the shortcut of block {}", layer);
  const BlockPlace& before = blocks[blocks.size() - 2];
  return shortcut == Shortcut::Pos2 ? before.attention : before.attention - 1;
}

}  // namespace

Result<ForwardChain> forward_chain(const MoeModel& model, const ModelPart& part) {
  ForwardChain chain;
  std::vector<BlockPlace> blocks;
  const LayerId first(part.first_block), last(part.end_block - 1);
  chain.items.push_back(part.has_embedding ? ChainItem{OpKind::Embed, {}} : ChainItem{OpKind::Receive, first});
  for (auto i = static_cast<std::size_t>(part.first_block); i < static_cast<std::size_t>(part.end_block); ++i) {
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
  chain.items.push_back(part.has_head ? ChainItem{OpKind::Head, {}} : ChainItem{OpKind::Send, last});
  return chain;
}

std::vector<ChainUnit> chain_units(const ForwardChain& chain) {
  std::vector<ChainUnit> units;
  for (std::size_t item = 1; item + 1 < chain.items.size(); ++item) {
    const bool begins_block = chain.items[item].kind == OpKind::Attention;
    const bool inside_window = std::any_of(chain.sites.begin(), chain.sites.end(), [&](const MoeSite& site) {
      return site.source + 1 < item && item <= site.decode;
    });
    if (begins_block && !inside_window) units.push_back({item, item});
    units.back().end = item + 1;
  }
  return units;
}

}  // namespace moecast
