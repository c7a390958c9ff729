#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "models/moe_model.h"
#include "models/parallel_layout.h"

namespace moecast {

/// Consecutive blocks of a model that one pipeline stage runs one after another.
struct ModelPart {
  std::int32_t first_block = 0;
  std::int32_t end_block = 0;  // one past the last
  bool has_embedding = true;
  bool has_head = true;

  friend bool operator==(const ModelPart&, const ModelPart&) = default;
};

[[nodiscard]] inline ModelPart whole_model(const MoeModel& model) {
  return {0, static_cast<std::int32_t>(model.blocks.size()), true, true};
}

/// The model in pipeline * virtual_stages parts of equally many blocks (with uneven_stages, up to one), in the order of
/// the forward pass. Part i runs on stage i % pipeline (Narayanan et al. 2021, arXiv 2104.04473, section 2.2). BadInput
/// where blocks do not divide, or a shortcut would begin on another part than it ends; the message says what would fit.
[[nodiscard]] Result<std::vector<ModelPart>> divide_blocks(const MoeModel& model, const ParallelLayout& layout);

/// The parts of one stage, in the order of the forward pass. The layout divides the model.
[[nodiscard]] std::vector<ModelPart> parts_of_stage(const MoeModel& model, const ParallelLayout& layout,
                                                    std::int64_t stage);

/// Can the layout divide this model? BadInput with all problems and what would fit: experts over expert ranks, heads
/// and widths over tensor ranks, blocks over pipeline stages. MoE beside tensor parallelism takes sequence_parallel, as
/// in Megatron-Core (transformer/moe/moe_layer.py): every tensor rank routes its own tokens.
[[nodiscard]] Status check_division(const MoeModel& model, const ParallelLayout& layout);

}  // namespace moecast
