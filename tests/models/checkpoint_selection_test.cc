#include "models/checkpoint/selection.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/models/checkpoint_testing.h"

namespace moecast {
namespace {

using testing_models::CheckpointRun;
using testing_models::experts_of;
using testing_models::numbers;
using testing_models::sequential_policy;
using Numbers = std::vector<std::vector<int>>;

CheckpointPolicy policy_with(SelectionKind kind, ExpertCounts counts) {
  CheckpointPolicy policy = sequential_policy(counts);
  policy.partial.selection = kind;
  return policy;
}

TEST(Selection, SequentialFollowsFigure4) {
  // arXiv 2408.04307, figure 4: MoE layers 1, 3, 5, 7; 3 experts; K = 1.
  CheckpointRun run(experts_of(4, 3), sequential_policy({1, 1}));
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{0}, {1}, {2}, {0}}));
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{1}, {2}, {0}, {1}}));
}

TEST(Selection, SequentialComesToEveryExpertInTimeWhateverK) {
  for (std::int64_t experts = 1; experts <= 9; ++experts) {
    for (std::int64_t k = 1; k <= experts; ++k) {
      CheckpointRun run(experts_of(5, experts), sequential_policy({k, k}));
      const auto cycle = static_cast<std::size_t>((experts + k - 1) / k);
      std::vector<Selection> saved;
      for (int t = 0; t < 30; ++t) saved.push_back(run.save());
      for (std::size_t start = 0; start + cycle <= saved.size(); ++start) {
        for (std::size_t m = 0; m < 5; ++m) {
          std::set<ExpertId> seen;
          for (std::size_t t = start; t < start + cycle; ++t) {
            EXPECT_EQ(std::ssize(saved[t].persist[m]), k);
            seen.insert(saved[t].persist[m].begin(), saved[t].persist[m].end());
          }
          EXPECT_EQ(std::ssize(seen), experts) << experts << " experts, K " << k << ", from checkpoint " << start;
        }
      }
    }
  }
}

TEST(Selection, SequentialSavesEveryExpertIndexEquallyOftenWhenTheCycleDividesTheLayers) {
  CheckpointRun run(experts_of(12, 16), sequential_policy({4, 4}));
  for (int t = 0; t < 8; ++t) {
    std::map<int, int> times;
    for (const auto& layer : numbers(run.save().persist)) {
      for (const int expert : layer) ++times[expert];
    }
    ASSERT_EQ(times.size(), 16U);
    for (const auto& [expert, count] : times) EXPECT_EQ(count, 3) << expert;
  }
}

TEST(Selection, AnAbortedCheckpointLeavesNoTrace) {
  for (const SelectionPolicy& order : selection_policies()) {
    CheckpointRun run(experts_of(3, 8), policy_with(order.kind, {2, 2}));
    for (std::size_t i = 0; i < run.tokens().size(); ++i) run.tokens()[i] = static_cast<std::int64_t>(i * i % 11);
    run.save();
    const SelectionState before = run.state();
    const Selection aborted = run.next();
    EXPECT_EQ(run.state(), before) << order.name;
    EXPECT_EQ(run.next(), aborted) << order.name;
  }
}

TEST(Selection, OneLevelMovesOnWhenStorageHasItAndTwoLevelsWhenMemoryHas) {
  for (const ExpertCounts counts : {ExpertCounts{2, 2}, ExpertCounts{2, 1}}) {
    const CheckpointPolicy policy = sequential_policy(counts);
    CheckpointRun run(experts_of(1, 8), policy);
    const Selection selection = run.next();
    const std::int64_t two_levels = policy.recovers_from_memory() ? 1 : 0;
    run.state().commit(CheckpointLevel::Memory, selection, 10, run.tokens());
    EXPECT_EQ(run.state().cursor(0), 2 * two_levels);
    EXPECT_EQ(run.state().versions(CheckpointLevel::Memory)[1].has_value(), two_levels == 1);
    run.state().commit(CheckpointLevel::Storage, selection, 10, run.tokens());
    EXPECT_EQ(run.state().cursor(0), 2);
    EXPECT_EQ(run.state().committed_count(), 1);
    EXPECT_EQ(run.state().versions(CheckpointLevel::Storage)[0], (SavedVersion{10, 0}));
  }
}

TEST(Selection, TheFirstCheckpointIsFullAndTheNextStartsTheRotation) {
  CheckpointPolicy policy = sequential_policy({2, 1});
  policy.partial.first_full = true;
  CheckpointRun run(experts_of(2, 4), policy);
  EXPECT_EQ(run.save(), select_all(run.state().experts()));
  EXPECT_EQ(numbers(run.next().snapshot), (Numbers{{0, 1}, {2, 3}}));
  CheckpointRun seeded(experts_of(2, 4), policy);
  seeded.state().accept_initial_state();
  EXPECT_EQ(numbers(seeded.next().snapshot), (Numbers{{0, 1}, {2, 3}}));
}

TEST(Selection, FullKindsSaveEverything) {
  CheckpointPolicy policy;
  policy.kind = CheckpointKind::AsynchronousFull;
  CheckpointRun run(experts_of(2, 4), policy);
  for (int t = 0; t < 3; ++t) EXPECT_EQ(run.save(), select_all(run.state().experts()));
  CheckpointRun full(experts_of(2, 4), policy_with(SelectionKind::Full, {1, 1}));
  EXPECT_EQ(full.save(), select_all(full.state().experts()));
}

TEST(Selection, TheTwoLevelRotationPersistsEveryExpertOnceInAPeriod) {
  // N = 16, K_snapshot = 4, K_persist = 1: 16 checkpoints.
  const SequentialRotation rotation{16, {4, 1}};
  CheckpointRun run(experts_of(3, 16), sequential_policy({4, 1}));
  std::vector<std::vector<int>> persisted(3);
  for (std::int64_t t = 0; t < 48; ++t) {
    const Selection saved = run.save();
    for (std::size_t m = 0; m < 3; ++m) {
      const auto layer = static_cast<std::int64_t>(m);
      EXPECT_EQ(saved.persist[m].front().value(), rotation.first(CheckpointLevel::Storage, layer, t));
      EXPECT_NE(std::find(saved.snapshot[m].begin(), saved.snapshot[m].end(), saved.persist[m].front()),
                saved.snapshot[m].end());
      for (std::int64_t i = 0; i < 4; ++i) {
        const ExpertId expert(static_cast<std::int32_t>((rotation.first(CheckpointLevel::Memory, layer, t) + i) % 16));
        EXPECT_NE(std::find(saved.snapshot[m].begin(), saved.snapshot[m].end(), expert), saved.snapshot[m].end());
      }
      persisted[m].push_back(saved.persist[m].front().value());
    }
  }
  EXPECT_EQ(rotation.period(CheckpointLevel::Storage), 16);
  for (const std::vector<int>& layer : persisted) {
    for (std::size_t start = 0; start < 48; start += 16) {
      EXPECT_EQ(std::set<int>(layer.begin() + static_cast<std::ptrdiff_t>(start),
                              layer.begin() + static_cast<std::ptrdiff_t>(start) + 16)
                    .size(),
                16U);
    }
    EXPECT_TRUE(std::equal(layer.begin(), layer.begin() + 16, layer.begin() + 16));
  }
}

TEST(Selection, TheRotationInClosedFormEqualsSelection) {
  for (const auto& [experts, counts] : std::vector<std::pair<std::int64_t, ExpertCounts>>{
           {8, {1, 1}}, {8, {8, 8}}, {8, {4, 2}}, {12, {6, 2}}, {12, {6, 3}}, {16, {8, 1}}, {6, {6, 2}}}) {
    const SequentialRotation rotation{experts, counts};
    CheckpointRun run(experts_of(5, experts), sequential_policy(counts));
    for (std::int64_t t = 0; t < 40; ++t) {
      run.save();
      for (const CheckpointLevel level : {CheckpointLevel::Memory, CheckpointLevel::Storage}) {
        if (level == CheckpointLevel::Memory && counts.persist == counts.snapshot) continue;
        for (std::size_t i = 0; i < run.state().experts().size(); ++i) {
          const ExpertIndex::Place place = run.state().experts().place(i);
          const auto last = rotation.last_saved(level, static_cast<std::int64_t>(place.layer), place.expert, t);
          const std::optional<SavedVersion>& version = run.state().versions(level)[i];
          ASSERT_EQ(last.has_value(), version.has_value()) << experts << " " << t << " " << i;
          if (last) {
            ASSERT_EQ((*last + 1) * 100, version->step) << experts << " " << t << " " << i;
          }
        }
      }
    }
  }
}

TEST(Selection, LoadAwareTakesTheMostUnsavedUpdatesAndResetsAtCommit) {
  CheckpointRun run(experts_of(1, 4), policy_with(SelectionKind::LoadAware, {1, 1}));
  run.tokens() = {5, 9, 9, 1};
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{1}}));  // tie: the lower expert
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{2}}));
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{0}}));
  run.tokens() = {5, 9, 11, 2};  // unsaved: 0, 0, 2, 2
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{2}}));
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{3}}));
}

TEST(Selection, LoadAwarePersistsWhatStorageMissesMost) {
  CheckpointRun run(experts_of(1, 4), policy_with(SelectionKind::LoadAware, {2, 1}));
  run.tokens() = {8, 6, 4, 2};
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{0}}));
  run.tokens() = {9, 10, 5, 2};  // unsaved in memory 1, 4, 5, 2; on storage 1, 10, 5, 2
  const Selection second = run.save();
  EXPECT_EQ(numbers(second.snapshot), (Numbers{{1, 2}}));
  EXPECT_EQ(numbers(second.persist), (Numbers{{1}}));
}

TEST(Selection, PopularityCountsSinceTheLastCommit) {
  CheckpointRun run(experts_of(1, 3), policy_with(SelectionKind::Popularity, {1, 1}));
  run.tokens() = {5, 6, 7};
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{2}}));
  run.tokens() = {9, 7, 8};
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{0}}));
}

TEST(Selection, OldestFirstRecoversFromLostVersionsWhereRotationGoesOn) {
  CheckpointRun run(experts_of(1, 4), policy_with(SelectionKind::OldestFirst, {1, 1}));
  for (int t = 0; t < 4; ++t) EXPECT_EQ(numbers(run.save().persist), (Numbers{{t}}));
  std::vector<std::optional<SavedVersion>> versions(run.state().versions(CheckpointLevel::Storage).begin(),
                                                    run.state().versions(CheckpointLevel::Storage).end());
  versions[2].reset();  // a corrupt payload
  run.state().set_versions(CheckpointLevel::Storage, versions);
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{2}}));
  EXPECT_EQ(numbers(run.save().persist), (Numbers{{0}}));
}

TEST(Selection, RandomDependsOnSeedLayerAndCheckpointAlone) {
  CheckpointPolicy policy = policy_with(SelectionKind::Random, {2, 2});
  policy.partial.seed = 5;
  CheckpointRun first(experts_of(6, 16), policy);
  CheckpointRun second(experts_of(6, 16), policy);
  policy.partial.seed = 6;
  CheckpointRun other(experts_of(6, 16), policy);
  std::set<Numbers> seen;
  for (int t = 0; t < 10; ++t) {
    const Selection drawn = first.save();
    EXPECT_EQ(drawn, second.save());
    EXPECT_NE(drawn, other.save());
    for (const auto& layer : numbers(drawn.persist)) EXPECT_EQ(std::set<int>(layer.begin(), layer.end()).size(), 2U);
    seen.insert(numbers(drawn.persist));
  }
  EXPECT_EQ(seen.size(), 10U);
}

TEST(SelectionState, ComesBackFromAManifest) {
  const CheckpointPolicy policy = sequential_policy({2, 2});
  CheckpointRun run(experts_of(3, 6), policy);
  for (std::size_t i = 0; i < run.tokens().size(); ++i) run.tokens()[i] = static_cast<std::int64_t>(3 * i);
  run.save();
  const Result<JsonDocument> document = JsonDocument::parse(to_json(run.state()).dump(), "manifest");
  JsonReader reader(*document);
  const SelectionState read = read_selection_state(reader, run.state().experts(), policy);
  EXPECT_TRUE(reader.finish().ok()) << reader.finish().error().text();
  EXPECT_EQ(read, run.state());
  JsonReader of_other_model(*document);
  (void)read_selection_state(of_other_model, experts_of(3, 7), policy);
  EXPECT_FALSE(of_other_model.good());
}

}  // namespace
}  // namespace moecast
