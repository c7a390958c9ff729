#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "models/step_plan.h"

namespace moecast {

/// What a block's forward keeps beside its tensors. The kernels of this project have no dropout and an attention core
/// that keeps a log-sum-exp for each row instead of the scores (FlashAttention, arXiv 2205.14135); published memory
/// formulas count both.
struct ActivationRule {
  bool dropout = false;           // one byte an element: its mask
  bool attention_scores = false;  // softmax output [heads, s, s], and with dropout its output and mask
};

/// Memory of one rank of a pipeline stage at the worst moment of a step.
struct StageMemory {
  Bytes weights{0}, gradients{0}, master{0}, moments{0};
  Bytes activations{0};  // what backwards to come need, of all micro-batches in flight
  Bytes buffers{0};      // working memory: gradients under way, gathered tokens and weights, staging of collectives
  Bytes cache{0};        // inference: keys and values, or latents, of all sequences
  [[nodiscard]] Bytes total() const { return weights + gradients + master + moments + activations + buffers + cache; }
};

/// What one block keeps of one micro-batch on one rank until its backward, recomputation aside: with `rule` of both
/// s b h (10 + 24 / t + 5 a s / (h t)) for a GPT block of 2-byte elements, / t throughout with sequence parallelism
/// (Korthikanti et al. 2022, arXiv 2205.05198, eqs 1, 2 and 4). Routed experts as the balanced mean has them.
[[nodiscard]] Bytes block_activations(const StepPlanRequest& request, std::int64_t block, ActivationRule rule = {});

/// By pipeline stage; the request can be planned (check_plan). The activations' peak follows the pipeline's order:
/// every part of every micro-batch between its forward and the end of its backward. Selective recomputation drops what
/// the attention core keeps; full recomputation keeps the input of every block (of every pair that a shortcut joins)
/// and once all of the largest, while it is computed again. Inference: weights (of experts on the host those that one
/// layer chooses, twice), the cache of all micro-batches, and buffers.
[[nodiscard]] std::vector<StageMemory> stage_memory(const StepPlanRequest& request, ActivationRule rule = {});

/// The stage that needs most.
[[nodiscard]] StageMemory largest_memory(const StepPlanRequest& request);

}  // namespace moecast
