#include "models/routing_load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"

namespace moecast {
namespace {

MoeFfn layer(std::int64_t experts, std::int64_t top_k) {
  MoeFfn moe;
  moe.expert_count = experts;
  moe.gate.top_k = top_k;
  return moe;
}

std::int64_t sum(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

std::vector<double> uniform(std::int64_t count) { return expert_shares({}, count, 0, 0); }

/// Every choice of every rank is somewhere, and no expert has a token twice.
void expect_conserved(const RoutingRequest& request, const RoutedTokens& routed) {
  const std::int64_t experts = request.moe.expert_count;
  for (std::int64_t rank = 0; rank < request.rank_count; ++rank) {
    std::int64_t all = routed.skipped[static_cast<std::size_t>(rank)];
    for (std::int64_t e = 0; e < experts; ++e) {
      const auto i = static_cast<std::size_t>(rank * experts + e);
      all += routed.sent[i] + routed.dropped[i];
      EXPECT_LE(routed.sent[i] + routed.dropped[i], request.tokens);
      EXPECT_GE(std::min(routed.sent[i], routed.dropped[i]), 0);
      EXPECT_LE(routed.sent[i], request.moe.capacity(request.tokens).value_or(request.tokens));
    }
    EXPECT_EQ(all, request.tokens * request.moe.gate.top_k) << rank;
  }
}

TEST(RoutingLoad, EveryChoiceIsSentDroppedOrSkipped) {
  for (const double exponent : {0.0, 1.0, 3.0}) {
    for (const std::int64_t top_k : {1, 2, 8}) {
      for (const std::int64_t zero : {0, 8}) {
        for (const bool dropless : {true, false}) {
          MoeFfn moe = layer(24, top_k);
          moe.zero_expert_count = zero;
          if (!dropless) moe.capacity_factor = 1.25;
          const std::vector<double> shares = expert_shares({LoadKind::Zipf, exponent, {}}, moe.choice_count(), 5, 0);
          const RoutingRequest request{moe, 6, 100, shares, 7, 1};
          const RoutedTokens routed = route_tokens(request);
          expect_conserved(request, routed);
          EXPECT_EQ(sum(routed.skipped) > 0, zero > 0);
          EXPECT_TRUE(!dropless || sum(routed.dropped) == 0);
        }
      }
    }
  }
}

TEST(RoutingLoad, AHotExpertOverflowsItsCapacity) {
  MoeFfn moe = layer(4, 1);
  moe.capacity_factor = 1.0;  // C = 25 of 100 tokens
  const std::vector<double> shares = expert_shares({LoadKind::Measured, 1, {3, 0, 0, 0}}, 4, 0, 0);
  const RoutedTokens routed = route_tokens({moe, 2, 100, shares, 1, 0});
  EXPECT_EQ(routed.sent, (std::vector<std::int64_t>{25, 0, 0, 0, 25, 0, 0, 0}));
  EXPECT_EQ(routed.dropped, (std::vector<std::int64_t>{75, 0, 0, 0, 75, 0, 0, 0}));
}

TEST(RoutingLoad, ATokensSecondChoiceIsAnotherExpert) {
  const std::vector<double> shares = expert_shares({LoadKind::Measured, 1, {98, 1, 1, 0}}, 4, 0, 0);
  const RoutedTokens routed = route_tokens({layer(4, 2), 1, 1000, shares, 1, 0});
  EXPECT_GE(routed.sent[0], 990);  // nearly every token, none twice
  EXPECT_LE(routed.sent[0], 1000);
  EXPECT_NEAR(static_cast<double>(routed.sent[1]), 500, 60);
  EXPECT_EQ(routed.sent[3], 0);
}

TEST(RoutingLoad, DrawsHaveTheMeanAndVarianceOfAMultinomial) {
  for (const auto& [experts, tokens] : {std::pair(8, 2048), std::pair(512, 2048)}) {  // means 256 and 4
    const std::vector<double> shares = uniform(experts);
    const RoutedTokens routed = route_tokens({layer(experts, 1), 400, tokens, shares, 3, 0});
    const double p = 1.0 / experts, mean = tokens * p;
    double squares = 0;
    for (const std::int64_t count : routed.sent) squares += std::pow(static_cast<double>(count) - mean, 2);
    const double variance = squares / static_cast<double>(routed.sent.size());
    EXPECT_NEAR(variance / (mean * (1 - p)), 1, 0.05) << experts;
  }
}

TEST(RoutingLoad, SharesSayWhereTheTokensGo) {
  const std::vector<double> measured = {0.5, 0.3, 0.15, 0.05};
  const std::vector<double> shares = expert_shares({LoadKind::Measured, 1, measured}, 4, 0, 0);
  const RoutedTokens routed = route_tokens({layer(4, 1), 64, 1000, shares, 11, 2});
  for (std::size_t e = 0; e < 4; ++e) {
    double total = 0;
    for (std::size_t rank = 0; rank < 64; ++rank) total += static_cast<double>(routed.sent[rank * 4 + e]);
    EXPECT_NEAR(total / 64'000, measured[e], 0.01);
  }
}

TEST(RoutingLoad, ZipfShufflesItsRanksByStream) {
  const LoadDistribution zipf{LoadKind::Zipf, 1.2, {}};
  std::vector<double> first = expert_shares(zipf, 64, 1, 0);
  EXPECT_NE(first, expert_shares(zipf, 64, 1, 1));
  EXPECT_EQ(first, expert_shares(zipf, 64, 1, 0));
  EXPECT_NEAR(std::accumulate(first.begin(), first.end(), 0.0), 1, 1e-12);
  std::sort(first.begin(), first.end(), std::greater<>());
  EXPECT_EQ(first, zipf_weights(64, 1.2));
}

TEST(RoutingLoad, GroupsLimitWhereATokenGoes) {
  MoeFfn moe = layer(64, 8);
  moe.gate.groups = 8;
  moe.gate.top_groups = 4;
  const std::vector<double> shares = expert_shares({LoadKind::Zipf, 1, {}}, 64, 2, 0);
  const RoutingRequest request{moe, 16, 256, shares, 3, 0};
  const RoutedTokens routed = route_tokens(request);
  expect_conserved(request, routed);
  ASSERT_EQ(routed.group_tokens.size(), 16U * 8U);
  for (std::size_t rank = 0; rank < 16; ++rank) {
    std::int64_t visits = 0;
    for (std::size_t g = 0; g < 8; ++g) {
      const std::int64_t tokens = routed.group_tokens[rank * 8 + g];
      std::int64_t choices = 0;
      for (std::size_t e = 0; e < 8; ++e) {
        choices += routed.sent[rank * 64 + g * 8 + e];
        EXPECT_LE(routed.sent[rank * 64 + g * 8 + e], tokens);
      }
      visits += tokens;
      EXPECT_LE(tokens, 256);
      EXPECT_NEAR(static_cast<double>(choices), 2.0 * static_cast<double>(tokens), 1);  // 8 choices in 4 groups
    }
    EXPECT_EQ(visits, 256 * 4);
  }
}

TEST(RoutingLoad, ExpertsThatChooseAreBalanced) {
  MoeFfn moe = layer(8, 2);
  moe.gate.router = RouterKind::ExpertChoice;
  moe.capacity_factor = 1.0;
  const std::vector<double> shares = expert_shares({LoadKind::Zipf, 2, {}}, 8, 0, 0);
  const RoutedTokens routed = route_tokens({moe, 3, 64, shares, 0, 0});
  EXPECT_EQ(routed.sent, std::vector<std::int64_t>(24, 16));  // T k / E
  EXPECT_EQ(sum(routed.dropped), 0);
}

TEST(RoutingLoad, TheSameRequestGivesTheSameTokensEverywhere) {
  const std::vector<double> shares = expert_shares({LoadKind::Zipf, 1, {}}, 8, 42, 3);
  const RoutedTokens routed = route_tokens({layer(8, 2), 2, 100, shares, 42, 3});
  EXPECT_EQ(routed.sent, route_tokens({layer(8, 2), 2, 100, shares, 42, 3}).sent);
  EXPECT_NE(routed.sent, route_tokens({layer(8, 2), 2, 100, shares, 43, 3}).sent);
  EXPECT_NE(routed.sent, route_tokens({layer(8, 2), 2, 100, shares, 42, 4}).sent);
  EXPECT_EQ(routed.sent, (std::vector<std::int64_t>{29, 73, 32, 6, 20, 11, 15, 14, 32, 75, 27, 11, 23, 8, 11, 13}));
}

TEST(RoutingLoad, RowsBetweenRanksAddUpTheirExperts) {
  const std::vector<double> shares = uniform(8);
  const RoutedTokens routed = route_tokens({layer(8, 2), 4, 64, shares, 1, 0});
  const std::vector<std::int64_t> rows = rows_between_ranks(routed, 4);
  ASSERT_EQ(rows.size(), 16U);
  EXPECT_EQ(sum(rows), 4 * 64 * 2);
  EXPECT_EQ(rows[2 * 4 + 1], routed.sent[2 * 8 + 2] + routed.sent[2 * 8 + 3]);
}

}  // namespace
}  // namespace moecast
