#include "models/checkpoint/plt.h"

#include <gtest/gtest.h>

#include "models/checkpoint/dynamic_k.h"
#include "tests/models/checkpoint_testing.h"

namespace moecast {
namespace {

using testing_models::experts_of;
using Lost = std::vector<std::int64_t>;

TEST(LossAccount, CountsOnlyWhatIsOlderThanTheVersion) {
  LossAccount account(experts_of(2, 2));
  const std::vector<LostTokens> fault = {{0, 10, 30}, {1, 30, 30}, {2, 40, 30}, {3, 5, 6}};
  EXPECT_EQ(account.add_fault(fault), (Lost{20, 1}));
  EXPECT_EQ(account.lost(0), 20);
  EXPECT_EQ(account.lost(1), 1);
}

TEST(LossAccount, TheSameTokensAreNotAddedTwice) {
  LossAccount account(experts_of(1, 2));
  const std::vector<LostTokens> fault = {{0, 10, 30}, {1, 0, 7}};
  EXPECT_EQ(account.add_fault(fault), (Lost{27}));
  EXPECT_EQ(account.add_fault(fault), (Lost{0}));       // a second fault before the next commit
  const std::vector<LostTokens> later = {{0, 10, 45}};  // the expert was not saved since
  EXPECT_EQ(account.add_fault(later), (Lost{15}));
}

TEST(LossAccount, AGapThatWasSavedInMemoryAndFallsLaterIsCounted) {
  // Lost to 5; saved in host memory at 8; lost from there to 10; then that memory is lost too: only (5, 8] and (10, 12]
  // are new.
  LossAccount account(experts_of(1, 1));
  EXPECT_EQ(account.add_fault(std::vector<LostTokens>{{0, 2, 5}}), (Lost{3}));
  EXPECT_EQ(account.add_fault(std::vector<LostTokens>{{0, 8, 10}}), (Lost{2}));
  EXPECT_EQ(account.add_fault(std::vector<LostTokens>{{0, 2, 12}}), (Lost{5}));
  EXPECT_EQ(account.add_fault(std::vector<LostTokens>{{0, 0, 12}}), (Lost{2}));
  EXPECT_EQ(account.lost(0), 12);
}

TEST(ProportionOfLostTokens, IsTheMeanOverLayersOfNominalAssignments) {
  const std::vector<std::int64_t> lost = {200, 0};
  EXPECT_DOUBLE_EQ(proportion_of_lost_tokens(experts_of(2, 4, 2), lost, 1000), 0.05);
}

TEST(DynamicK, DoublesWhenTheNextFaultWouldGoBeyondTheShare) {
  DynamicKController controller({0.03, {}}, {1, 1}, 8);  // K = 1, 2, 4: 0.01 each
  EXPECT_EQ(controller.level_count(), 3U);
  EXPECT_DOUBLE_EQ(controller.limit(), 0.01);
  EXPECT_FALSE(controller.recovered(0.004, 0.004));
  EXPECT_TRUE(controller.recovered(0.004, 0.004));
  EXPECT_EQ(controller.counts(), (ExpertCounts{2, 2}));
  EXPECT_DOUBLE_EQ(controller.plt_at_counts(), 0);
  EXPECT_DOUBLE_EQ(controller.total_plt(), 0.008);
}

TEST(DynamicK, NeverFallsAndEndsAtAllExperts) {
  for (const auto& [first, experts] : std::vector<std::pair<ExpertCounts, std::int64_t>>{
           {{1, 1}, 16}, {{4, 1}, 16}, {{1, 1}, 12}, {{3, 1}, 12}, {{6, 3}, 12}, {{5, 5}, 5}, {{2, 2}, 7}}) {
    DynamicKController controller({}, first, experts);
    std::int64_t before = 0;
    for (int fault = 0; fault < 200; ++fault) {
      const ExpertCounts counts = controller.counts();
      EXPECT_GE(counts.persist, before);
      EXPECT_LE(counts.persist, counts.snapshot);
      if (counts.persist < experts && first.persist * (experts / first.persist) == experts &&
          first.snapshot * (experts / first.snapshot) == experts) {
        EXPECT_EQ(experts % counts.snapshot, 0) << "rotations stay whole";
        EXPECT_EQ(counts.snapshot % counts.persist, 0);
      }
      before = counts.persist;
      const double plt = one_level_plt(experts, counts.persist, 0.001);
      controller.recovered(plt, plt);
    }
    EXPECT_EQ(controller.counts(), (ExpertCounts{experts, experts}));
    EXPECT_LE(controller.total_plt(), 0.0375 + 1e-12);
  }
}

TEST(DynamicK, AFaultBeyondTheWholeShareMovesOneLevelOnly) {
  DynamicKController controller({0.03, {0.5, 0.3, 0.2}}, {1, 1}, 8);
  EXPECT_DOUBLE_EQ(controller.limit(), 0.015);
  EXPECT_TRUE(controller.recovered(1.0, 1.0));
  EXPECT_EQ(controller.counts(), (ExpertCounts{2, 2}));
  EXPECT_DOUBLE_EQ(controller.limit(), 0.009);
}

}  // namespace
}  // namespace moecast
