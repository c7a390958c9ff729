#include "models/stage_parts.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace moecast {
namespace {

Error bad(std::string message) { return {ErrorKind::BadInput, "parallel", std::move(message)}; }

/// A shortcut that begins in the block before its own needs both in one part.
bool reaches_back(const Block& block) {
  return block.moe && (block.moe->shortcut == Shortcut::Pos2 || block.moe->shortcut == Shortcut::Pos3);
}

/// First block of each of `count` parts, and the end of the last: sizes differ by at most one, larger ones first.
std::vector<std::int64_t> part_bounds(std::int64_t blocks, std::int64_t count) {
  std::vector<std::int64_t> bounds = {0};
  for (std::int64_t i = 0; i < count; ++i) {
    bounds.push_back(bounds.back() + blocks / count + (i < blocks % count ? 1 : 0));
  }
  return bounds;
}

/// The first block of a part whose shortcut begins in the part before.
std::optional<std::int64_t> cut_shortcut(const MoeModel& model, std::int64_t count) {
  const std::vector<std::int64_t> bounds = part_bounds(model.layer_count(), count);
  for (std::size_t i = 1; i + 1 < bounds.size(); ++i) {
    if (reaches_back(model.blocks[static_cast<std::size_t>(bounds[i])])) return bounds[i];
  }
  return std::nullopt;
}

/// Numbers of parts that divide the blocks and cut no shortcut, ascending.
std::vector<std::int64_t> fitting_part_counts(const MoeModel& model) {
  std::vector<std::int64_t> counts;
  for (std::int64_t count = 1; count <= model.layer_count(); ++count) {
    if (model.layer_count() % count == 0 && !cut_shortcut(model, count)) counts.push_back(count);
  }
  return counts;
}

/// Every width once that tensor parallelism divides, with a name for it.
std::vector<std::pair<std::string, std::int64_t>> divided_widths(const MoeModel& model) {
  std::vector<std::pair<std::string, std::int64_t>> widths = {{"attention heads", model.attention.heads},
                                                              {"key/value heads", model.attention.kv_heads}};
  const auto add = [&](const char* name, std::int64_t width) {
    if (width > 0 && std::find(widths.begin(), widths.end(), std::pair(std::string(name), width)) == widths.end()) {
      widths.emplace_back(name, width);
    }
  };
  for (const Block& block : model.blocks) {
    add("columns of a dense FFN", block.dense_width);
    if (block.moe) add("columns of a shared expert", block.moe->shared_expert_width);
  }
  return widths;
}

void add_tensor_problems(const MoeModel& model, const ParallelLayout& layout, std::vector<std::string>& problems) {
  std::int64_t common = 0;
  for (const auto& [name, width] : divided_widths(model)) common = std::gcd(common, width);
  for (const auto& [name, width] : divided_widths(model)) {
    if (width % layout.tensor == 0) continue;
    problems.push_back(fmt::format("{} {} cannot be divided evenly over {} tensor ranks; use a divisor of {}", width,
                                   name, layout.tensor, common));
  }
  const auto has_moe = [](const Block& block) { return block.moe.has_value(); };
  if (!layout.sequence_parallel && std::any_of(model.blocks.begin(), model.blocks.end(), has_moe)) {
    problems.push_back(
        "a MoE beside tensor parallelism needs sequence_parallel: every tensor rank routes its own tokens");
  }
}

}  // namespace

Result<std::vector<ModelPart>> divide_blocks(const MoeModel& model, const ParallelLayout& layout) {
  const std::int64_t blocks = model.layer_count(), count = layout.pipeline * layout.virtual_stages;
  const auto fitting = [&] {
    return fmt::format("pipeline x virtual_stages may be {}", fmt::join(fitting_part_counts(model), ", "));
  };
  if (blocks < count || (blocks % count != 0 && !layout.uneven_stages)) {
    const bool uneven_fits = blocks > count && !cut_shortcut(model, count);
    return bad(fmt::format("{} blocks do not divide evenly over pipeline {} x virtual_stages {}: {}{}", blocks,
                           layout.pipeline, layout.virtual_stages, fitting(),
                           uneven_fits ? "; or uneven_stages may be true" : ""));
  }
  if (const std::optional<std::int64_t> cut = cut_shortcut(model, count)) {
    return bad(
        fmt::format("the shortcut of block {} begins in block {}, which pipeline {} x virtual_stages {} puts on "
                    "another stage: {}",
                    *cut, *cut - 1, layout.pipeline, layout.virtual_stages, fitting()));
  }
  const std::vector<std::int64_t> bounds = part_bounds(blocks, count);
  std::vector<ModelPart> parts;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    parts.push_back({static_cast<std::int32_t>(bounds[i]), static_cast<std::int32_t>(bounds[i + 1]), i == 0,
                     i + 2 == bounds.size()});
  }
  return parts;
}

std::vector<ModelPart> parts_of_stage(const MoeModel& model, const ParallelLayout& layout, std::int64_t stage) {
  const Result<std::vector<ModelPart>> all = divide_blocks(model, layout);
  ASSERT(all.ok(), "{}", all.error().text());
  std::vector<ModelPart> own;
  for (std::size_t i = static_cast<std::size_t>(stage); i < all->size();
       i += static_cast<std::size_t>(layout.pipeline)) {
    own.push_back((*all)[i]);
  }
  return own;
}

Status check_division(const MoeModel& model, const ParallelLayout& layout) {
  RETURN_IF_ERROR(layout.check());
  std::vector<std::string> problems;
  if (layout.tensor > 1) add_tensor_problems(model, layout, problems);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const std::optional<MoeFfn>& moe = model.blocks[i].moe;
    if (!moe || moe->expert_count % layout.expert == 0) continue;
    problems.push_back(
        fmt::format("{} experts of block {} cannot be divided evenly over {} expert-parallel ranks; use a "
                    "divisor of {}",
                    moe->expert_count, i, layout.expert, moe->expert_count));
    break;
  }
  if (const Result<std::vector<ModelPart>> parts = divide_blocks(model, layout); !parts.ok()) {
    problems.push_back(parts.error().message);
  }
  if (problems.empty()) return {};
  return bad(fmt::format("{}", fmt::join(problems, "; ")));
}

}  // namespace moecast
