#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace moecast {

/// Groups of ranks that a collective can run over.
enum class Group {
  World,
  Tensor,      // TP
  Expert,      // EP: holds the experts of a layer between them; dispatch and combine
  Data,        // DP x CP: replicas of the non-expert parameters
  ExpertData,  // replicas of the same experts
  Pipeline,    // PP: the stages of one model replica, in stage order
  Context,     // CP: ranks that divide the sequence between them
};
inline constexpr int kGroupCount = 7;

/// In which order a pipeline stage takes its micro-batches.
enum class PipelineSchedule {
  OneForwardOneBackward,  // 1F1B (PipeDream-Flush)
  Interleaved,            // 1F1B over `virtual_stages` parts of the model on every stage
  ZeroBubble,             // ZB-H1: weight gradients wait for what would be idle time
};

/// What the backward computes again instead of keeping it (Korthikanti et al. 2022, arXiv 2205.05198, section 5).
enum class Recomputation {
  None,
  Selective,  // the attention core
  Full,       // every block from its input
};

/// How ranks divide the work. World size = data * context * tensor * pipeline. Rank order is Megatron's: tensor
/// fastest, then context, then data, then pipeline (Megatron-LM, core/parallel_state.py, order "tp-cp-ep-dp-pp").
///
/// Experts divide the ranks of one pipeline stage anew: tensor parallelism does not cut experts, so an expert group is
/// `expert` consecutive ranks, whatever their tensor, context and data coordinates, and the ranks with the same
/// position hold the same experts (the same file with expert_tensor_parallel_size = 1; MoE Parallel Folding, arXiv
/// 2504.14960).
struct ParallelLayout {
  std::int64_t data = 1;
  std::int64_t expert = 1;  // EP degree: divides data * context * tensor
  std::int64_t tensor = 1;
  std::int64_t pipeline = 1;
  int zero_stage = 0;  // 0..3: optimizer state (1), gradients (2), parameters (3) sharded over Data / ExpertData
  std::int64_t context = 1;
  bool sequence_parallel = false;   // between tensor-parallel parts every tensor rank holds 1 / tensor of the tokens
  std::int64_t virtual_stages = 1;  // parts of the model on one pipeline stage: 2 or more when interleaved
  PipelineSchedule pipeline_schedule = PipelineSchedule::OneForwardOneBackward;
  Recomputation recomputation = Recomputation::None;
  bool uneven_stages = false;  // where blocks do not divide, the first parts have one more

  [[nodiscard]] std::int64_t world_size() const { return data * context * tensor * pipeline; }
  [[nodiscard]] std::int64_t stage_size() const { return data * context * tensor; }
  [[nodiscard]] Rank first_rank(std::int64_t stage) const {
    return Rank(static_cast<std::int32_t>(stage * stage_size()));
  }
  [[nodiscard]] std::int64_t group_size(Group group) const;
  /// The ranks of `rank`'s group, ascending.
  [[nodiscard]] std::vector<Rank> members(Group group, Rank rank) const;
  /// Position of `rank` in members(group, rank).
  [[nodiscard]] std::int64_t position(Group group, Rank rank) const;
  /// Position of `rank` in its pipeline: its stage.
  [[nodiscard]] std::int64_t stage_of(Rank rank) const { return position(Group::Pipeline, rank); }
  /// Degrees positive, the expert degree a divisor of a stage's ranks, zero_stage in range, and the options of tensor
  /// and pipeline parallelism only beside such a degree; the message says what would fit.
  [[nodiscard]] Status check() const;

  friend bool operator==(const ParallelLayout&, const ParallelLayout&) = default;
};

}  // namespace moecast
