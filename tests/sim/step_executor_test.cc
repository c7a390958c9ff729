#include "sim/step_executor.h"

#include <tuple>

#include <gtest/gtest.h>

#include "tests/sim/hand_plan_testing.h"

namespace moecast {
namespace {

const ParallelLayout kTwoRanks{2, 2};
const ParallelLayout kFourRanksInPairs{4, 2};

TEST(StepExecutor, LanesRunBesideEachOtherAndEachInOrder) {
  HandPlan hand;
  const OpId first = hand.compute(100);
  const OpId sent = hand.collective(Group::Expert, 10, 300, {first});
  hand.compute(50);
  hand.compute(70, {sent});
  hand.collective(Group::Expert, 0, 40, {first});
  EXPECT_EQ(to_text(hand.run(kTwoRanks)),
            "0 r0 op0 0..100\n"
            "0 r0 op2 100..150\n"
            "0 r0 op3 410..480\n"
            "0 r0 op1 100..410\n"
            "0 r0 op4 410..450\n"
            "0 r1 op0 0..100\n"
            "0 r1 op2 100..150\n"
            "0 r1 op3 410..480\n"
            "0 r1 op1 100..410\n"
            "0 r1 op4 410..450\n");
}

TEST(StepExecutor, CollectiveOpensWhenTheLastRankComes) {
  HandPlan hand;
  const OpId compute = hand.compute(100);
  const OpId sent = hand.collective(Group::Expert, 10, 200, {compute});
  hand.compute(50, {sent});
  ExecutionOptions options;
  options.slowdown = {1, 3};
  EXPECT_EQ(to_text(hand.run(kTwoRanks, options)),
            "0 r0 op0 0..100\n"
            "0 r0 op2 510..560\n"
            "0 r0 op1 100..510\n"  // waits from 100 to 300, latency to 310
            "0 r1 op0 0..300\n"
            "0 r1 op2 510..660\n"
            "0 r1 op1 300..510\n");
}

TEST(StepExecutor, RanksDoNotWaitForEachOtherBetweenSteps) {
  HandPlan hand;
  const OpId compute = hand.compute(100);
  hand.collective(Group::Expert, 0, 10, {compute});
  hand.compute(50);
  ExecutionOptions options;
  options.slowdown = {1, 2};
  options.steps = 2;
  EXPECT_EQ(to_text(hand.run(kTwoRanks, options)),
            "0 r0 op0 0..100\n"
            "0 r0 op2 100..150\n"
            "0 r0 op1 100..210\n"
            "0 r1 op0 0..200\n"
            "0 r1 op2 200..300\n"
            "0 r1 op1 200..210\n"
            "1 r0 op0 210..310\n"
            "1 r0 op2 310..360\n"
            "1 r0 op1 310..510\n"
            "1 r1 op0 300..500\n"
            "1 r1 op2 500..600\n"
            "1 r1 op1 500..510\n");
}

TEST(StepExecutor, CollectivesOnOnePortShareIt) {
  HandPlan hand;
  hand.collective(Group::Expert, 0, 1000);
  hand.collective(Group::Expert, 0, 400, {}, Lane::CopyOut);
  EXPECT_EQ(to_text(hand.run(ParallelLayout{2, 2}, {1, {}, true})),
            "0 r0 op0 0..1400\n"  // half of the port until 800, then all of it
            "0 r0 op1 0..800\n"
            "0 r1 op0 0..1400\n"
            "0 r1 op1 0..800\n");
}

TEST(StepExecutor, InefficientCollectiveTakesOnlyWhatItCanUse) {
  HandPlan hand;
  hand.collective(Group::Expert, 0, 750);
  hand.collective(Group::Expert, 0, 250, {}, Lane::CopyOut, 0.25);
  const std::vector<Span> spans = hand.run(ParallelLayout{2, 2});
  EXPECT_EQ(spans[0].duration(), Duration(1000));  // 750 at three quarters of the port
  EXPECT_EQ(spans[1].duration(), Duration(1000));
}

TEST(StepExecutor, GroupsMeetInTheSwitch) {
  HandPlan hand;
  hand.collective(Group::Expert, 0, 1000);
  const auto duration = [&](double switch_rate) {
    hand.costs.switch_bandwidth = BytesPerSecond(switch_rate);
    const std::vector<Span> folded = hand.run(kFourRanksInPairs);
    const std::vector<Span> unfolded = hand.run(kFourRanksInPairs, {1, {}, false});
    EXPECT_EQ(to_text(folded), to_text(unfolded));
    return folded[0].duration();
  };
  EXPECT_EQ(duration(8e9), Duration(1000));
  EXPECT_EQ(duration(4e9), Duration(1000));  // four ports at full rate
  EXPECT_EQ(duration(2e9), Duration(2000));
}

TEST(StepExecutor, InterferenceIsPiecewise) {
  HandPlan hand;
  hand.costs.interference = {1.5, 2.0};
  const OpId first = hand.compute(100);
  const OpId second = hand.compute(300);
  hand.compute(60, {second});
  hand.collective(Group::Expert, 20, 100, {first});
  // Bytes move from 120 on at half the rate, while compute runs at two thirds of its speed. At 100 the second operator
  // begins with 300 to do; 280 are left at 120, and after 200 ns, when the bytes are over, 280 - 200 / 1.5 = 146.67.
  EXPECT_EQ(to_text(hand.run(ParallelLayout{2, 2}, {1, {}, false})),
            "0 r0 op0 0..100\n"
            "0 r0 op1 100..467\n"
            "0 r0 op2 467..527\n"
            "0 r0 op3 100..320\n"
            "0 r1 op0 0..100\n"
            "0 r1 op1 100..467\n"
            "0 r1 op2 467..527\n"
            "0 r1 op3 100..320\n");
}

TEST(StepExecutor, CommunicationGoesOnAtFullRateWhenComputeIdles) {
  HandPlan hand;
  hand.costs.interference = {1.0, 2.0};
  hand.compute(100);
  hand.collective(Group::Expert, 0, 250);
  const std::vector<Span> spans = hand.run(kTwoRanks);
  EXPECT_EQ(spans[1].duration(), Duration(300));  // 50 bytes beside compute, 200 alone
}

TEST(StepExecutor, OneBusyRankSlowsTheWholeGroup) {
  HandPlan hand;
  hand.costs.interference = {1.25, 2.0};
  const OpId compute = hand.compute(100);
  hand.compute(100);
  hand.collective(Group::Expert, 0, 100, {compute});
  ExecutionOptions options;
  options.slowdown = {1, 2};
  // The bytes move from 200 on; rank 0 idles then, rank 1 computes 200 more.
  EXPECT_EQ(to_text(hand.run(kTwoRanks, options)),
            "0 r0 op0 0..100\n"
            "0 r0 op1 100..200\n"
            "0 r0 op2 100..400\n"
            "0 r1 op0 0..200\n"
            "0 r1 op1 200..440\n"  // 160 of 200 done at 400
            "0 r1 op2 200..400\n");
}

TEST(StepExecutor, BackToBackComputeDoesNotDisturbTheRates) {
  HandPlan hand;
  hand.costs.interference = {1.0, 3.0};
  for (int i = 0; i < 3; ++i) hand.compute(7);
  hand.collective(Group::Expert, 0, 7);
  const std::vector<Span> spans = hand.run(kTwoRanks);
  EXPECT_EQ(spans[3].duration(), Duration(21));
}

TEST(StepExecutor, WithoutDurationEverythingHappensAtOnce) {
  HandPlan hand;
  OpId last = hand.compute(0);
  for (int i = 0; i < 5; ++i) {
    last = hand.collective(i % 2 == 0 ? Group::Expert : Group::Data, 0, 0, {last});
    last = hand.compute(0, {last});
  }
  for (const Span& span : hand.run(kFourRanksInPairs, {3, {}, false})) EXPECT_EQ(span.end, Instant{});
}

TEST(StepExecutor, AGroupOfOneCopiesOnItsOwn) {
  HandPlan hand;
  hand.collective(Group::Expert, 30, 0);
  EXPECT_EQ(to_text(hand.run(ParallelLayout{2, 1})), "0 r0 op0 0..30\n0 r1 op0 0..30\n");
}

TEST(StepExecutor, StepsRepeat) {
  HandPlan hand;
  const OpId sent = hand.collective(Group::Expert, 10, 90);
  hand.compute(50, {sent});
  const std::vector<Span> spans = hand.run(kTwoRanks, {3, {}, false});
  ASSERT_EQ(spans.size(), 12U);
  for (std::size_t i = 4; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].start - spans[i - 4].start, Duration(150));
    EXPECT_EQ(spans[i].step, spans[i - 4].step + 1);
    EXPECT_EQ(spans[i].op, spans[i - 4].op);
  }
}

TEST(StepExecutor, FoldsOnlyWhenAllRanksAreAlike) {
  HandPlan hand;
  hand.compute(1);
  const auto folded = [&](std::vector<double> slowdown, bool fold) {
    return StepExecutor(hand.plan, kTwoRanks, hand.costs, {1, std::move(slowdown), fold}).folded();
  };
  EXPECT_TRUE(folded({}, true));
  EXPECT_TRUE(folded({1.5, 1.5}, true));
  EXPECT_FALSE(folded({1.5, 1}, true));
  EXPECT_FALSE(folded({}, false));
}

TEST(StepExecutor, FoldedAndUnfoldedAgreeOnRandomPlans) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    HandPlan hand = random_plan(seed, 40, true);
    if (seed % 2 == 0) hand.costs.interference = {1.3, 1.7};
    if (seed % 3 == 0) hand.costs.switch_bandwidth = BytesPerSecond(3e9);
    const ParallelLayout layout = seed % 5 == 0 ? ParallelLayout{6, 3} : ParallelLayout{4, 2};
    const std::string folded = to_text(hand.run(layout, {3, {}, true}));
    EXPECT_EQ(folded, to_text(hand.run(layout, {3, {}, false}))) << "seed " << seed;
  }
}

TEST(StepExecutor, AgreesWithTickByTickOnRandomPlans) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    HandPlan hand = random_plan(seed, 24, false);
    if (seed % 2 == 0) hand.costs.interference = {1.25, 2};
    const ParallelLayout layout = seed % 5 == 0 ? ParallelLayout{2, 2} : ParallelLayout{4, 2};
    ExecutionOptions options{2, {1, 2, 1.5, 1}, false};
    options.slowdown.resize(static_cast<std::size_t>(layout.world_size()));
    const std::vector<Span> spans = hand.run(layout, options);
    const std::vector<Span> plain = tick_by_tick(hand, layout, options);
    ASSERT_EQ(spans.size(), plain.size());
    for (std::size_t i = 0; i < spans.size(); ++i) {
      ASSERT_EQ(std::tuple(spans[i].step, spans[i].rank, spans[i].op),
                std::tuple(plain[i].step, plain[i].rank, plain[i].op));
      // Seconds as a binary fraction: 97 bytes at 1 GB/s end after 98 ns, and later operators follow.
      EXPECT_NEAR(static_cast<double>((spans[i].start - plain[i].start).count()), 0, 8) << "seed " << seed;
      EXPECT_NEAR(static_cast<double>((spans[i].end - plain[i].end).count()), 0, 8) << "seed " << seed;
    }
  }
}

TEST(StepExecutor, RunsAgainWithTheSameAnswer) {
  HandPlan hand = random_plan(7, 59, true);
  std::vector<OpId> all;
  for (const Operator& op : hand.plan.operators) all.push_back(op.id);
  hand.compute(100, all);  // the ranks end a step apart: none is a copy
  hand.costs.interference = {1.3, 1.7};
  StepExecutor executor(hand.plan, kFourRanksInPairs, hand.costs, {4, {1, 1.1, 1, 1.2}, true});
  std::vector<Span> spans;
  executor.run(spans);
  const std::string first = to_text(spans);
  EXPECT_EQ(executor.ended_count(), 60 * 4 * 4);
  executor.run(spans);
  EXPECT_EQ(to_text(spans), first);
  EXPECT_EQ(to_text(hand.run(kFourRanksInPairs, {4, {1, 1.1, 1, 1.2}, false})), first);
}

}  // namespace
}  // namespace moecast
