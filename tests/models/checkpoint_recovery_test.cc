#include "models/checkpoint/recovery.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/models/checkpoint_testing.h"

namespace moecast {
namespace {

constexpr CheckpointLevel kMemory = CheckpointLevel::Memory;
constexpr CheckpointLevel kStorage = CheckpointLevel::Storage;

SavedPiece non_expert(std::int64_t step, std::int32_t part, std::int32_t parts, CheckpointLevel level,
                      std::optional<Rank> holder = std::nullopt) {
  return {std::nullopt, step, part, parts, level, holder, 0};
}
SavedPiece expert(std::size_t index, std::int64_t step, CheckpointLevel level,
                  std::optional<Rank> holder = std::nullopt) {
  return {index, step, 0, 1, level, holder, 100 * step};
}

/// Figure 8 of arXiv 2408.04307: two nodes (ranks 0, 1), E0, E1 on node 0, E2, E3 on node 1. Step 10 saved E2 and E3 to
/// memory (E2 persisted), step 20 E0 and E1 (E0 persisted); step 0 was full.
std::vector<SavedPiece> figure_8() {
  std::vector<SavedPiece> pieces;
  for (const std::int64_t step : {0, 10, 20}) {
    pieces.push_back(non_expert(step, 0, 2, kStorage));
    pieces.push_back(non_expert(step, 1, 2, kStorage));
  }
  for (std::size_t e = 0; e < 4; ++e) pieces.push_back(expert(e, 0, kStorage));
  pieces.push_back(expert(2, 10, kStorage));
  pieces.push_back(expert(0, 20, kStorage));
  pieces.push_back(non_expert(20, 0, 2, kMemory, Rank(0)));
  pieces.push_back(non_expert(20, 1, 2, kMemory, Rank(1)));
  pieces.push_back(expert(0, 20, kMemory, Rank(0)));
  pieces.push_back(expert(1, 20, kMemory, Rank(0)));
  pieces.push_back(expert(2, 10, kMemory, Rank(1)));
  pieces.push_back(expert(3, 10, kMemory, Rank(1)));
  return pieces;
}

TEST(Recovery, Figure8) {
  const std::vector<Rank> lost = {Rank(0)};
  const RecoveryDecision decision = plan_recovery(4, surviving(figure_8(), lost));
  ASSERT_TRUE(decision.plan.has_value());
  const RecoveryPlan& plan = *decision.plan;
  EXPECT_EQ(plan.step, 20);
  EXPECT_EQ(plan.non_expert[0], (PieceSource{kStorage, std::nullopt}));  // lived on node 0
  EXPECT_EQ(plan.non_expert[1], (PieceSource{kMemory, Rank(1)}));
  EXPECT_EQ(plan.experts[0].step, 20);
  EXPECT_EQ(plan.experts[0].parts[0].level, kStorage);
  EXPECT_EQ(plan.experts[1].step, 0);  // its snapshot went with the node
  EXPECT_EQ(plan.experts[1].parts[0].level, kStorage);
  EXPECT_EQ(plan.experts[2].parts[0], (PieceSource{kMemory, Rank(1)}));
  EXPECT_EQ(plan.experts[3].step, 10);  // newer than storage's
  EXPECT_EQ(plan.experts[3].tokens, 1000);
  EXPECT_EQ(plan.age(1), 20);
  EXPECT_EQ(plan.oldest_age(), 20);
  EXPECT_EQ(plan.count_from(kMemory), 2);
  EXPECT_EQ(plan.count_from(kStorage), 2);
}

TEST(Recovery, WithoutALostNodeEverythingComesFromMemory) {
  const RecoveryDecision decision = plan_recovery(4, figure_8());
  ASSERT_TRUE(decision.plan.has_value());
  EXPECT_EQ(decision.plan->count_from(kMemory), 4);
  EXPECT_EQ(decision.plan->age(1), 0);
}

TEST(Recovery, TheNonExpertPartIsOfOneVersionAndNoExpertIsNewer) {
  std::vector<SavedPiece> pieces = figure_8();
  // A snapshot of step 30 that only node 1 completed, with its experts.
  pieces.push_back(non_expert(30, 1, 2, kMemory, Rank(1)));
  pieces.push_back(expert(2, 30, kMemory, Rank(1)));
  const RecoveryDecision decision = plan_recovery(4, pieces);
  ASSERT_TRUE(decision.plan.has_value());
  EXPECT_EQ(decision.plan->step, 20);
  EXPECT_EQ(decision.plan->experts[2].step, 10);  // the previous slot
  ASSERT_EQ(decision.refused.size(), 1U);
  EXPECT_EQ(decision.refused[0].step, 30);
  EXPECT_EQ(decision.refused[0].missing_parts, (std::vector<std::int32_t>{0}));
  const RecoveryDecision study = plan_recovery(4, pieces, {true});
  EXPECT_EQ(study.plan->experts[2].step, 30);
  EXPECT_EQ(study.plan->age(2), -10);
}

TEST(Recovery, ASnapshotThatAllRanksCompletedCountsBeforeItIsPersisted) {
  std::vector<SavedPiece> pieces = figure_8();
  pieces.push_back(non_expert(30, 0, 2, kMemory, Rank(0)));
  pieces.push_back(non_expert(30, 1, 2, kMemory, Rank(1)));
  EXPECT_EQ(plan_recovery(4, pieces).plan->step, 30);  // the processes died, the memory did not
  const std::vector<Rank> lost = {Rank(1)};
  EXPECT_EQ(plan_recovery(4, surviving(pieces, lost)).plan->step, 20);
}

TEST(Recovery, ACorruptExpertFallsBackToItsOlderVersion) {
  std::vector<SavedPiece> pieces;
  for (const std::int64_t step : {0, 10, 20}) pieces.push_back(non_expert(step, 0, 1, kStorage));
  for (const std::int64_t step : {0, 10}) pieces.push_back(expert(0, step, kStorage));
  EXPECT_EQ(plan_recovery(1, pieces).plan->experts[0].step, 10);
  pieces.pop_back();
  EXPECT_EQ(plan_recovery(1, pieces).plan->age(0), 20);
}

TEST(Recovery, PartsOfOneVersionMayComeFromBothLevels) {
  std::vector<SavedPiece> pieces = {non_expert(5, 0, 1, kStorage)};
  pieces.push_back({std::size_t{0}, 5, 0, 2, kMemory, Rank(1), 7});
  pieces.push_back({std::size_t{0}, 5, 1, 2, kStorage, std::nullopt, 7});
  pieces.push_back({std::size_t{0}, 3, 0, 1, kStorage, std::nullopt, 2});
  RecoveryDecision decision = plan_recovery(1, pieces);
  EXPECT_EQ(decision.plan->experts[0].parts, (std::vector<PieceSource>{{kMemory, Rank(1)}, {kStorage, std::nullopt}}));
  EXPECT_EQ(decision.plan->count_from(kMemory), 0);
  const std::vector<Rank> lost = {Rank(1)};
  decision = plan_recovery(1, surviving(pieces, lost));
  EXPECT_EQ(decision.plan->experts[0].step, 3);  // half a version is none
}

TEST(Recovery, RefusesWithTheListOfExpertsThatHaveNoVersion) {
  std::vector<SavedPiece> pieces = {non_expert(20, 0, 2, kStorage), non_expert(10, 0, 1, kStorage),
                                    expert(0, 10, kStorage), expert(2, 12, kStorage)};
  const RecoveryDecision decision = plan_recovery(3, pieces);
  EXPECT_FALSE(decision.plan.has_value());
  ASSERT_EQ(decision.refused.size(), 2U);
  EXPECT_EQ(decision.refused[1].missing_experts, (std::vector<std::size_t>{1, 2}));  // 12 is newer than 10
  EXPECT_EQ(
      refusal_text(decision, testing_models::experts_of(1, 3)),
      "version 20: non-expert parts 1 are missing; version 10: no version of blocks.1.experts.1, blocks.1.experts.2");
  EXPECT_EQ(refusal_text(plan_recovery(1, {}), testing_models::experts_of(1, 1)),
            "no version of the non-expert part is left");
}

TEST(Recovery, GoesToTheNextOlderVersionThatServesEveryExpert) {
  const std::vector<SavedPiece> pieces = {non_expert(20, 0, 1, kStorage), non_expert(30, 0, 1, kStorage),
                                          expert(0, 20, kStorage), expert(1, 15, kStorage)};
  const RecoveryDecision decision = plan_recovery(2, pieces);
  EXPECT_EQ(decision.plan->step, 30);
  EXPECT_EQ(decision.plan->age(1), 15);
}

TEST(Recovery, WhateverSurvivesTheRulesHold) {
  // Random sets of pieces against a search over all versions.
  const CounterRandom random(11, 0);
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    std::vector<SavedPiece> pieces;
    std::uint64_t draw = 0;
    for (std::int64_t step = 0; step < 5; ++step) {
      for (std::int32_t part = 0; part < 2; ++part) {
        if (random.uniform(trial, draw++) < 0.8) pieces.push_back(non_expert(step, part, 2, kMemory, Rank(part)));
        if (random.uniform(trial, draw++) < 0.5) pieces.push_back(non_expert(step, part, 2, kStorage));
      }
      for (std::size_t e = 0; e < 3; ++e) {
        if (random.uniform(trial, draw++) < 0.5) pieces.push_back(expert(e, step, kMemory, Rank(0)));
        if (random.uniform(trial, draw++) < 0.3) pieces.push_back(expert(e, step, kStorage));
      }
    }
    const auto has = [&](std::optional<std::size_t> item, std::int64_t step, std::int32_t part) {
      return std::any_of(pieces.begin(), pieces.end(), [&](const SavedPiece& piece) {
        return piece.expert == item && piece.step == step && piece.part == part;
      });
    };
    const auto newest = [&](std::size_t e, std::int64_t limit) {
      std::int64_t step = limit;
      while (step >= 0 && !has(e, step, 0)) --step;
      return step;
    };
    std::int64_t expected = 4;
    for (; expected >= 0; --expected) {
      if (!has(std::nullopt, expected, 0) || !has(std::nullopt, expected, 1)) continue;
      if (newest(0, expected) >= 0 && newest(1, expected) >= 0 && newest(2, expected) >= 0) break;
    }
    const RecoveryDecision decision = plan_recovery(3, pieces);
    ASSERT_EQ(decision.plan.has_value(), expected >= 0) << trial;
    if (!decision.plan) continue;
    EXPECT_EQ(decision.plan->step, expected);
    for (std::size_t e = 0; e < 3; ++e) EXPECT_EQ(decision.plan->experts[e].step, newest(e, expected));
  }
}

}  // namespace
}  // namespace moecast
