#include "runtime/checkpoint/restore_plan.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "models/checkpoint/recovery.h"

namespace moecast {
namespace {

NeededSlice need(const std::string& tensor, ElementRange elements, const std::string& unit = "") {
  return {tensor, Component::Weight, DType::F32, elements, unit};
}
Piece piece(const std::string& tensor, ElementRange elements, std::int64_t version,
            CheckpointLevel level = CheckpointLevel::Storage) {
  return {tensor, Component::Weight, DType::F32, elements, version, level, 0};
}
Versions line(std::int64_t last) {
  Versions versions;
  for (std::int64_t v = 1; v <= last; ++v) versions[v] = {10 * v, extended({}, 1, v - 1)};
  return versions;
}

TEST(RestorePlan, TakesTheNewestCompleteBaseAndNoNewerUnit) {
  const std::vector<NeededSlice> needs = {need("a", {0, 4}), need("b", {0, 4}), need("e0", {0, 2}, "e0"),
                                          need("e1", {0, 2}, "e1")};
  const std::vector<Piece> pieces = {piece("a", {0, 4}, 1),  piece("b", {0, 4}, 1), piece("e0", {0, 2}, 1),
                                     piece("e1", {0, 2}, 1), piece("a", {0, 4}, 2), piece("b", {0, 4}, 2),
                                     piece("e0", {0, 2}, 2), piece("a", {0, 4}, 3), piece("e1", {0, 2}, 3)};
  const Result<RestorePlan> plan = plan_restore(needs, pieces, line(3), {});
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_EQ(plan->version, 2);  // b is missing at 3
  EXPECT_EQ(plan->units, (std::map<std::string, std::int64_t>{{"e0", 2}, {"e1", 1}}));
  RestoreBounds study;
  study.allow_newer_units = true;
  EXPECT_EQ(plan_restore(needs, pieces, line(3), study)->units.at("e1"), 3);
  RestoreBounds whole;
  whole.same_version = true;  // what was saved as a whole comes back as a whole
  EXPECT_EQ(plan_restore(needs, pieces, line(3), whole)->version, 1);
}

TEST(RestorePlan, CoversElementsFromShardsOfAnotherLayoutMemoryFirst) {
  const std::vector<NeededSlice> needs = {need("a", {2, 9})};
  const std::vector<Piece> pieces = {piece("a", {0, 4}, 1), piece("a", {4, 8}, 1), piece("a", {8, 12}, 1),
                                     piece("a", {3, 6}, 1, CheckpointLevel::Memory)};
  const Result<RestorePlan> plan = plan_restore(needs, pieces, line(1), {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->copies, (std::vector<PieceCopy>{{0, 0, {2, 4}}, {0, 3, {4, 6}}, {0, 1, {6, 8}}, {0, 2, {8, 9}}}));
}

TEST(RestorePlan, AUnitNeverMixesVersions) {
  // First moments of version 2, weights only of version 1: the unit is of version 1.
  NeededSlice moment = need("e0", {0, 2}, "e0");
  moment.component = Component::FirstMoment;
  Piece old_moment = piece("e0", {0, 2}, 1);
  old_moment.component = Component::FirstMoment;
  Piece new_moment = piece("e0", {0, 2}, 2);
  new_moment.component = Component::FirstMoment;
  const Result<RestorePlan> plan = plan_restore(
      {moment, need("e0", {0, 2}, "e0"), need("a", {0, 1})},
      {new_moment, old_moment, piece("e0", {0, 2}, 1), piece("a", {0, 1}, 2), piece("a", {0, 1}, 1)}, line(2), {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->version, 2);
  EXPECT_EQ(plan->units.at("e0"), 1);
}

TEST(RestorePlan, WhatBelongsToAnotherPastIsNotTaken) {
  // Version 2 was abandoned: the run went back to 1, then wrote 3.
  Versions versions = line(2);
  versions[3] = {20, extended({}, 1, 1)};
  const std::vector<NeededSlice> needs = {need("a", {0, 1}), need("e0", {0, 1}, "e0")};
  const std::vector<Piece> pieces = {piece("a", {0, 1}, 1), piece("a", {0, 1}, 2), piece("a", {0, 1}, 3),
                                     piece("e0", {0, 1}, 1), piece("e0", {0, 1}, 2)};
  const Result<RestorePlan> plan = plan_restore(needs, pieces, versions, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->version, 3);
  EXPECT_EQ(plan->units.at("e0"), 1);
}

TEST(RestorePlan, BoundsHold) {
  const std::vector<NeededSlice> needs = {need("a", {0, 1}), need("e0", {0, 1}, "e0")};
  std::vector<Piece> pieces;
  for (std::int64_t v = 1; v <= 4; ++v) {
    pieces.push_back(piece("a", {0, 1}, v));
    pieces.push_back(piece("e0", {0, 1}, v));
  }
  RestoreBounds bounds;
  bounds.version = 3;
  bounds.units["e0"] = 2;
  const Result<RestorePlan> plan = plan_restore(needs, pieces, line(4), bounds);
  EXPECT_EQ(plan->version, 3);
  EXPECT_EQ(plan->units.at("e0"), 2);
}

TEST(RestorePlan, RefusesWithTheNamesOfWhatIsMissing) {
  const std::vector<NeededSlice> needs = {need("a", {0, 1}), need("e0", {0, 1}, "blocks.1.experts.0")};
  const Result<RestorePlan> no_expert =
      plan_restore(needs, {piece("a", {0, 1}, 2), piece("e0", {0, 1}, 3)}, line(3), {});
  ASSERT_FALSE(no_expert.ok());
  EXPECT_NE(no_expert.error().message.find("blocks.1.experts.0"), std::string::npos) << no_expert.error().text();
  EXPECT_NE(no_expert.error().message.find("version 3 (step 30): non-expert state without an intact copy: a.weight"),
            std::string::npos)
      << no_expert.error().text();
  EXPECT_FALSE(plan_restore(needs, {}, {}, {}).ok());
}

/// The simulator charges for recoveries by plan_recovery (models/checkpoint/recovery.h); what we restore must be the
/// same, wherever both can say it: one past, whole pieces.
TEST(RestorePlan, ChoosesTheVersionsThatTheSimulatorChooses) {
  constexpr std::size_t kUnits = 4;
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const CounterRandom random(seed, stream_of("recovery"));
    std::vector<NeededSlice> needs = {need("base0", {0, 2}), need("base1", {0, 2})};
    for (std::size_t u = 0; u < kUnits; ++u)
      needs.push_back(need("e" + std::to_string(u), {0, 2}, "e" + std::to_string(u)));
    std::vector<Piece> pieces;
    std::vector<SavedPiece> saved;
    std::uint64_t draw = 0;
    for (std::int64_t v = 1; v <= 6; ++v) {
      for (std::int32_t part = 0; part < 2; ++part) {
        if (random.below(3, 0, draw++) == 0) continue;
        pieces.push_back(piece("base" + std::to_string(part), {0, 2}, v));
        saved.push_back({std::nullopt, v, part, 2, CheckpointLevel::Storage, std::nullopt, 0});
      }
      for (std::size_t u = 0; u < kUnits; ++u) {
        if (random.below(3, 0, draw++) != 0) continue;
        const CheckpointLevel level =
            random.below(2, 0, draw++) == 0 ? CheckpointLevel::Memory : CheckpointLevel::Storage;
        pieces.push_back(piece("e" + std::to_string(u), {0, 2}, v, level));
        const std::optional<Rank> holder = level == CheckpointLevel::Memory ? std::optional(Rank(0)) : std::nullopt;
        saved.push_back({u, v, 0, 1, level, holder, 0});
      }
    }
    const Result<RestorePlan> plan = plan_restore(needs, pieces, line(6), {});
    const RecoveryDecision decision = plan_recovery(kUnits, saved);
    ASSERT_EQ(plan.ok(), decision.plan.has_value()) << seed;
    if (!plan.ok()) {
      ++refused;
      continue;
    }
    EXPECT_EQ(plan->version, decision.plan->step) << seed;
    for (std::size_t u = 0; u < kUnits; ++u) {
      EXPECT_EQ(plan->units.at("e" + std::to_string(u)), decision.plan->experts[u].step) << seed;
    }
  }
  EXPECT_GT(refused, 20);
  EXPECT_LT(refused, 480);
}

}  // namespace
}  // namespace moecast
