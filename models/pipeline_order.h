#pragma once

#include <cstdint>
#include <vector>

#include "models/parallel_layout.h"

namespace moecast {

/// One pass of a micro-batch through one part of the model on a stage.
struct PipelinePass {
  enum class Kind {
    Forward,
    Backward,       // gradients of inputs and weights; of inputs alone in a zero-bubble schedule
    WeightGradient  // zero bubble only
  };
  Kind kind = Kind::Forward;
  std::int64_t part = 0;  // of this stage's parts: 0 .. virtual_stages - 1
  std::int64_t micro_batch = 0;

  friend bool operator==(const PipelinePass&, const PipelinePass&) = default;
};

/// Passes of one stage in the order in which it runs them.
///
/// - OneForwardOneBackward: p - s - 1 forwards, then forward and backward in turn, then the backwards that are left
///   (Narayanan et al. 2019, PipeDream-Flush; Narayanan et al. 2021, arXiv 2104.04473, section 2.2).
/// - Interleaved: the same over micro-batches in groups of p that take one part after another, with
///   2 (p - s - 1) + (v - 1) p forwards first (the same section; Megatron-LM, pipeline_parallel/schedules.py).
///   micro_batch_count is a multiple of p.
/// - ZeroBubble: ZB-H1 (Qi et al. 2023, arXiv 2401.10241, section 3.1): forwards and backwards as in 1F1B; stage s runs
///   the weight gradients s micro-batches late, so that every stage holds at most p micro-batches.
///
/// With one stage the order is F B F B ...
[[nodiscard]] std::vector<PipelinePass> pipeline_order(const ParallelLayout& layout, std::int64_t stage,
                                                       std::int64_t micro_batch_count);

}  // namespace moecast
