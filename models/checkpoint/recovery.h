#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "models/checkpoint/expert_index.h"
#include "models/checkpoint/plt.h"
#include "models/checkpoint/policy.h"

namespace moecast {

/// Something saved that can still be read: the part of the non-expert state or of an expert that one rank wrote.
struct SavedPiece {
  std::optional<std::size_t> expert = std::nullopt;  // ExpertIndex; none: non-expert part
  std::int64_t step = 0;                             // version: the step after which it was taken
  std::int32_t part = 0;                             // all parts of a version make the whole
  std::int32_t part_count = 1;
  CheckpointLevel level = CheckpointLevel::Storage;
  std::optional<Rank> holder = std::nullopt;  // memory: whose host memory
  std::int64_t tokens = 0;                    // experts: assignments seen by `step`

  friend bool operator==(const SavedPiece&, const SavedPiece&) = default;
};

/// Those that are left when the host memory of these ranks is lost.
[[nodiscard]] std::vector<SavedPiece> surviving(std::vector<SavedPiece> pieces, std::span<const Rank> lost);

struct RecoveryOptions {
  bool allow_newer_experts = false;  // for study only
};

/// Where one part is read.
struct PieceSource {
  CheckpointLevel level = CheckpointLevel::Storage;
  std::optional<Rank> holder = std::nullopt;

  friend bool operator==(const PieceSource&, const PieceSource&) = default;
};

struct RecoveredExpert {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  std::vector<PieceSource> parts;
};

/// What training goes on from.
struct RecoveryPlan {
  std::int64_t step = 0;                 // v: of the whole non-expert part
  std::vector<PieceSource> non_expert;   // by part
  std::vector<RecoveredExpert> experts;  // [ExpertIndex]

  /// Steps by which the expert is older than the non-expert part; negative only with allow_newer_experts.
  [[nodiscard]] std::int64_t age(std::size_t expert) const { return step - experts[expert].step; }
  [[nodiscard]] std::int64_t oldest_age() const;
  [[nodiscard]] std::int64_t count_from(CheckpointLevel level) const;  // experts with every part from there
};

/// A version that cannot be recovered, and why.
struct RefusedVersion {
  std::int64_t step = 0;
  std::vector<std::int32_t> missing_parts;   // of the non-expert part
  std::vector<std::size_t> missing_experts;  // without any intact version <= step
};

struct RecoveryDecision {
  std::optional<RecoveryPlan> plan;     // none: refused
  std::vector<RefusedVersion> refused;  // newer than the plan's, newest first
};

/// Chooses the newest version v of which every non-expert part can be read and for which every expert has a whole
/// version
/// <= v; of each expert the newest such version; every part from memory if it is there (MoC-System, arXiv 2408.04307,
/// section 5.2 and figure 8). Corrupt pieces are simply not in `pieces`.
[[nodiscard]] RecoveryDecision plan_recovery(std::size_t expert_count, std::span<const SavedPiece> pieces,
                                             RecoveryOptions options = {});

/// What this recovery undoes, for LossAccount. `tokens`: assignments of every expert at the plan's step, stored with
/// the non-expert part; [ExpertIndex].
[[nodiscard]] std::vector<LostTokens> lost_tokens(const RecoveryPlan& plan, std::span<const std::int64_t> tokens);

/// "version 120: non-expert parts 1, 3 are missing; version 80: no version of blocks.3.experts.5, ..."
[[nodiscard]] std::string refusal_text(const RecoveryDecision& decision, const ExpertIndex& experts);

}  // namespace moecast
