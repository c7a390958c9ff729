#pragma once

#include <cstdint>
#include <vector>

#include "models/moe_model.h"

namespace moecast {

/// Which part of all choices falls to each expert of a layer.
enum class LoadKind {
  Uniform,
  Zipf,      // 1 / rank^exponent; which expert has which rank is drawn
  Measured,  // shares of a real run (the trainer's ExpertLoad)
};
struct LoadDistribution {
  LoadKind kind = LoadKind::Uniform;
  double exponent = 1;         // Zipf
  std::vector<double> shares;  // Measured: one of each expert (and zero expert), not all 0; need not sum to 1
};

/// Shares of `count` experts, sum 1. `seed` and `stream` (a layer's number, say) draw the order of Zipf's ranks.
[[nodiscard]] std::vector<double> expert_shares(const LoadDistribution& distribution, std::int64_t count,
                                                std::uint64_t seed, std::uint64_t stream);

/// One routing of one MoE layer on all ranks of an expert group.
struct RoutingRequest {
  const MoeFfn& moe;
  std::int64_t rank_count = 1;        // P, sources of tokens
  std::int64_t tokens = 1;            // T, of each
  const std::vector<double>& shares;  // by expert, then zero expert: MoeFfn::choice_count() of them
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // what else tells draws apart: layer, micro-batch, step
};

/// Where the T k choices of every source rank went: sent + dropped + skipped.
struct RoutedTokens {
  std::vector<std::int64_t> sent;          // [P, E] choices that travel to each expert
  std::vector<std::int64_t> dropped;       // [P, E] choices beyond the capacity; all 0 when dropless
  std::vector<std::int64_t> skipped;       // [P] choices of zero experts
  std::vector<std::int64_t> group_tokens;  // [P, groups] tokens that go to a group at all; empty without groups
};

/// Draws the choices of every rank: multinomial by `shares` (binomials of a large mean by the normal distribution), no
/// expert twice for a token. With groups a token uses `top_groups` of them, each with a choice at least, and its
/// choices divide evenly among them (DeepSeek-V2 section 2.2.2). ExpertChoice: every expert takes its capacity. The
/// same request gives the same result on every machine.
[[nodiscard]] RoutedTokens route_tokens(const RoutingRequest& request);

/// [P, P] rows that each rank sends to each, where E experts stand on P ranks in order, E / P each.
[[nodiscard]] std::vector<std::int64_t> rows_between_ranks(const RoutedTokens& routed, std::int64_t rank_count);

}  // namespace moecast
