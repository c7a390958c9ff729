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
  Data,        // DP: replicas of the non-expert parameters
  ExpertData,  // replicas of the same experts (DP / EP ranks)
  Pipeline,    // PP: the stages of one model replica, in stage order
};

/// How ranks divide the work. World size = data * tensor * pipeline; expert groups lie inside the data dimension
/// (data % expert == 0). Rank order is Megatron's: tensor fastest, then expert (inside data), then data, then pipeline.
struct ParallelLayout {
  std::int64_t data = 1;    // DP degree, EP groups included
  std::int64_t expert = 1;  // EP degree
  std::int64_t tensor = 1;
  std::int64_t pipeline = 1;
  int zero_stage = 0;  // 0..3: optimizer state (1), gradients (2), parameters (3) sharded over Data / ExpertData

  [[nodiscard]] std::int64_t world_size() const { return data * tensor * pipeline; }
  [[nodiscard]] std::int64_t group_size(Group group) const;
  /// The ranks of `rank`'s group, ascending.
  [[nodiscard]] std::vector<Rank> members(Group group, Rank rank) const;
  /// Position of `rank` in members(group, rank).
  [[nodiscard]] std::int64_t position(Group group, Rank rank) const;
  /// Degrees positive, data divisible by expert, zero_stage in range; the message says what would fit.
  [[nodiscard]] Status check() const;

  friend bool operator==(const ParallelLayout&, const ParallelLayout&) = default;
};

}  // namespace moecast
