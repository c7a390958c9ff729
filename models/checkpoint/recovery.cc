#include "models/checkpoint/recovery.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace moecast {

namespace {

/// All pieces of one version of the non-expert part or of one expert.
struct Version {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  std::vector<std::optional<PieceSource>> parts;

  [[nodiscard]] bool whole() const {
    return std::all_of(parts.begin(), parts.end(), [](const auto& part) { return part.has_value(); });
  }
  [[nodiscard]] std::vector<PieceSource> sources() const {
    std::vector<PieceSource> sources;
    for (const std::optional<PieceSource>& part : parts) sources.push_back(*part);
    return sources;
  }
};

/// Versions of each item, newest first: [0] the non-expert part, [1 + e] expert e.
using Versions = std::vector<std::vector<Version>>;

std::size_t item_of(const SavedPiece& piece) { return piece.expert ? 1 + *piece.expert : 0; }

/// Order of reading: item, newest first, then by part, memory before storage, lower rank first.
auto order_of(const SavedPiece& piece) {
  return std::tuple(item_of(piece), -piece.step, piece.part_count, piece.part, piece.level, piece.holder);
}

Versions collect(std::size_t expert_count, std::span<const SavedPiece> pieces) {
  std::vector<const SavedPiece*> sorted;
  for (const SavedPiece& piece : pieces) {
    ASSERT(item_of(piece) <= expert_count && piece.part >= 0 && piece.part < piece.part_count,
           "piece {} of {} of item {}, {} experts", piece.part, piece.part_count, item_of(piece), expert_count);
    sorted.push_back(&piece);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const SavedPiece* a, const SavedPiece* b) { return order_of(*a) < order_of(*b); });
  Versions versions(1 + expert_count);
  for (const SavedPiece* piece : sorted) {
    std::vector<Version>& of_item = versions[item_of(*piece)];
    const auto part_count = static_cast<std::size_t>(piece->part_count);
    if (of_item.empty() || of_item.back().step != piece->step || of_item.back().parts.size() != part_count) {
      of_item.push_back({piece->step, piece->tokens, std::vector<std::optional<PieceSource>>(part_count)});
    }
    std::optional<PieceSource>& part = of_item.back().parts[static_cast<std::size_t>(piece->part)];
    if (!part) part = PieceSource{piece->level, piece->holder};
  }
  for (std::size_t item = 1; item < versions.size(); ++item) {
    std::erase_if(versions[item], [](const Version& version) { return !version.whole(); });
  }
  return versions;
}

std::vector<std::int32_t> missing_parts(const Version& version) {
  std::vector<std::int32_t> missing;
  for (std::size_t i = 0; i < version.parts.size(); ++i) {
    if (!version.parts[i]) missing.push_back(static_cast<std::int32_t>(i));
  }
  return missing;
}

/// Newest version of an expert up to `limit`; null if there is none.
const Version* newest(const std::vector<Version>& versions, std::int64_t limit) {
  for (const Version& version : versions) {
    if (version.step <= limit) return &version;
  }
  return nullptr;
}

}  // namespace

std::vector<SavedPiece> surviving(std::vector<SavedPiece> pieces, std::span<const Rank> lost) {
  std::erase_if(pieces, [lost](const SavedPiece& piece) {
    return piece.level == CheckpointLevel::Memory && piece.holder &&
           std::find(lost.begin(), lost.end(), *piece.holder) != lost.end();
  });
  return pieces;
}

RecoveryDecision plan_recovery(std::size_t expert_count, std::span<const SavedPiece> pieces, RecoveryOptions options) {
  const Versions versions = collect(expert_count, pieces);
  RecoveryDecision decision;
  for (const Version& candidate : versions[0]) {
    RefusedVersion refused{candidate.step, missing_parts(candidate), {}};
    const std::int64_t limit = options.allow_newer_experts ? std::numeric_limits<std::int64_t>::max() : candidate.step;
    RecoveryPlan plan;
    plan.step = candidate.step;
    for (std::size_t expert = 0; expert < expert_count && refused.missing_parts.empty(); ++expert) {
      const Version* version = newest(versions[1 + expert], limit);
      if (version == nullptr) {
        refused.missing_experts.push_back(expert);
      } else {
        plan.experts.push_back({version->step, version->tokens, version->sources()});
      }
    }
    if (refused.missing_parts.empty() && refused.missing_experts.empty()) {
      plan.non_expert = candidate.sources();
      decision.plan = std::move(plan);
      return decision;
    }
    decision.refused.push_back(std::move(refused));
  }
  return decision;
}

std::vector<LostTokens> lost_tokens(const RecoveryPlan& plan, std::span<const std::int64_t> tokens) {
  ASSERT(tokens.size() == plan.experts.size(), "{} counters for {} experts", tokens.size(), plan.experts.size());
  std::vector<LostTokens> lost;
  for (std::size_t expert = 0; expert < tokens.size(); ++expert) {
    lost.push_back({expert, plan.experts[expert].tokens, tokens[expert]});
  }
  return lost;
}

std::int64_t RecoveryPlan::oldest_age() const {
  std::int64_t oldest = 0;
  for (std::size_t expert = 0; expert < experts.size(); ++expert) oldest = std::max(oldest, age(expert));
  return oldest;
}

std::int64_t RecoveryPlan::count_from(CheckpointLevel level) const {
  return std::count_if(experts.begin(), experts.end(), [level](const RecoveredExpert& expert) {
    return std::all_of(expert.parts.begin(), expert.parts.end(),
                       [level](const PieceSource& source) { return source.level == level; });
  });
}

std::string refusal_text(const RecoveryDecision& decision, const ExpertIndex& experts) {
  if (decision.refused.empty()) return "no version of the non-expert part is left";
  constexpr std::size_t kShown = 8;
  std::string text;
  for (const RefusedVersion& refused : decision.refused) {
    text += fmt::format("{}version {}: ", text.empty() ? "" : "; ", refused.step);
    if (!refused.missing_parts.empty()) {
      text += fmt::format("non-expert parts {} are missing", fmt::join(refused.missing_parts, ", "));
      continue;
    }
    std::vector<std::string> names;
    for (std::size_t i = 0; i < std::min(refused.missing_experts.size(), kShown); ++i) {
      const ExpertIndex::Place place = experts.place(refused.missing_experts[i]);
      names.push_back(
          fmt::format("blocks.{}.experts.{}", experts.layers()[place.layer].block.value(), place.expert.value()));
    }
    text += fmt::format("no version of {}", fmt::join(names, ", "));
    if (refused.missing_experts.size() > kShown)
      text += fmt::format(" and {} more", refused.missing_experts.size() - kShown);
  }
  return text;
}

}  // namespace moecast
