// Timelines small enough to judge by hand; all times in nanoseconds.
#include <gtest/gtest.h>

#include "models/comparison.h"
#include "models/metrics.h"

namespace moecast {
namespace {

struct HandSpan {
  int op, rank, step, start, end;
};

/// Operators: 0 Attention.F, 1 Gate.F, 2 Dispatch.F (comm), 3 Expert.F, 4 Combine.F (comm), 5 Decode.F,
/// 6 GradientReduce.U (comm), 7 Expert.W.
Timeline timeline(const std::vector<HandSpan>& spans, std::int64_t ranks = 1) {
  Timeline out;
  out.rank_count = ranks;
  const auto add = [&out](OpKind kind, Phase phase, Lane lane) {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(out.plan.operators.size()));
    op.kind = kind;
    op.phase = phase;
    op.lane = lane;
    out.plan.operators.push_back(op);
  };
  add(OpKind::Attention, Phase::Forward, Lane::Compute);
  add(OpKind::Gate, Phase::Forward, Lane::Compute);
  add(OpKind::Dispatch, Phase::Forward, Lane::Comm);
  add(OpKind::Expert, Phase::Forward, Lane::Compute);
  add(OpKind::Combine, Phase::Forward, Lane::Comm);
  add(OpKind::Decode, Phase::Forward, Lane::Compute);
  add(OpKind::GradientReduce, Phase::Update, Lane::Comm);
  add(OpKind::Expert, Phase::WeightGradient, Lane::Compute);
  for (const HandSpan& span : spans) {
    const Operator& op = out.plan.operators[static_cast<std::size_t>(span.op)];
    out.spans.push_back(
        {op.id, Rank(span.rank), op.lane, span.step, Instant(Duration(span.start)), Instant(Duration(span.end))});
  }
  return out;
}

TEST(StepMetrics, SequentialRunExposesEverything) {
  //            compute: attention 0..100, gate 100..110, expert 150..190, decode 230..240
  //            comm:    dispatch 110..150, combine 190..230
  const StepMetrics metrics = step_metrics(timeline({{0, 0, 0, 0, 100},
                                                     {1, 0, 0, 100, 110},
                                                     {3, 0, 0, 150, 190},
                                                     {5, 0, 0, 230, 240},
                                                     {2, 0, 0, 110, 150},
                                                     {4, 0, 0, 190, 230}}));
  EXPECT_EQ(metrics.step_time, Duration(240));
  EXPECT_EQ(metrics.compute, Duration(160));
  EXPECT_EQ(metrics.communication, Duration(80));
  EXPECT_EQ(metrics.exposed, Duration(80));
  EXPECT_EQ(metrics.all_to_all, Duration(80));
  EXPECT_EQ(metrics.exposed_all_to_all, Duration(80));
  EXPECT_EQ(metrics.overlap, 0);
  EXPECT_EQ(metrics.communication_share, 80.0 / 140.0);  // gate 10, expert 40, decode 10
}

TEST(StepMetrics, ACommunicationOverBusyAndIdleTimeIsExposedOnlyWhereTheLaneIdles) {
  // compute: attention 10..30, expert 40..60 | dispatch 0..50: idle 0..10 and 30..40
  // combine 55..90: busy until 60, idle 60..90
  const StepMetrics metrics =
      step_metrics(timeline({{0, 0, 0, 10, 30}, {3, 0, 0, 40, 60}, {2, 0, 0, 0, 50}, {4, 0, 0, 55, 90}}));
  EXPECT_EQ(metrics.step_time, Duration(90));
  EXPECT_EQ(metrics.compute, Duration(40));
  EXPECT_EQ(metrics.communication, Duration(85));
  EXPECT_EQ(metrics.exposed, Duration(50));
  EXPECT_DOUBLE_EQ(metrics.overlap, 1 - 50.0 / 85.0);
}

TEST(StepMetrics, OverlappingSpansOfALaneCountOnce) {
  // dispatch 0..30 and combine 20..50 overlap; compute 25..35 lies under both
  const StepMetrics metrics = step_metrics(timeline({{0, 0, 0, 25, 35}, {2, 0, 0, 0, 30}, {4, 0, 0, 20, 50}}));
  EXPECT_EQ(metrics.communication, Duration(50));
  EXPECT_EQ(metrics.all_to_all, Duration(50));
  EXPECT_EQ(metrics.exposed, Duration(40));
}

TEST(StepMetrics, GradientReductionIsCommunicationButNoAllToAll) {
  const StepMetrics metrics = step_metrics(timeline({{0, 0, 0, 0, 10}, {2, 0, 0, 0, 20}, {6, 0, 0, 20, 50}}));
  EXPECT_EQ(metrics.communication, Duration(50));
  EXPECT_EQ(metrics.exposed, Duration(40));
  EXPECT_EQ(metrics.all_to_all, Duration(20));
  EXPECT_EQ(metrics.exposed_all_to_all, Duration(10));
}

TEST(StepMetrics, MeansOverRanksAndStepsMedianOfStepTimes) {
  // step 0: rank 0 computes 0..10, rank 1 5..25 (step 25); step 1: 100..110 and 100..130 (30); step 2: 200..300 (100)
  const StepMetrics metrics = step_metrics(timeline({{0, 0, 0, 0, 10},
                                                     {0, 1, 0, 5, 25},
                                                     {0, 0, 1, 100, 110},
                                                     {0, 1, 1, 100, 130},
                                                     {0, 0, 2, 200, 300},
                                                     {0, 1, 2, 210, 220},
                                                     {2, 1, 2, 215, 245}},
                                                    2));
  EXPECT_EQ(metrics.step_time, Duration(30));
  EXPECT_EQ(metrics.compute, Duration(30));       // (10 + 20 + 10 + 30 + 100 + 10) / 6
  EXPECT_EQ(metrics.communication, Duration(5));  // 30 / 6
  EXPECT_EQ(metrics.exposed, Duration(4));        // 25 / 6 = 4.17: the compute of rank 0 hides nothing of rank 1
  EXPECT_DOUBLE_EQ(metrics.overlap, 1 - 25.0 / 30.0);
}

TEST(StepMetrics, AnEvenNumberOfStepsHasTheMiddleAsMedian) {
  EXPECT_EQ(step_metrics(timeline({{0, 0, 0, 0, 10}, {0, 0, 1, 10, 30}})).step_time, Duration(15));
}

TEST(StepMetrics, WithoutSpansEverythingIsZero) {
  const StepMetrics metrics = step_metrics(timeline({}));
  EXPECT_EQ(metrics.step_time, Duration(0));
  EXPECT_EQ(metrics.overlap, 0);
  EXPECT_EQ(metrics.communication_share, 0);
  EXPECT_TRUE(operator_metrics(timeline({})).empty());
}

TEST(OperatorMetrics, OneRowForEachKindAndPhase) {
  const std::vector<OperatorMetrics> rows = operator_metrics(timeline(
      {{3, 0, 0, 0, 10}, {7, 0, 0, 10, 14}, {3, 1, 0, 0, 13}, {7, 1, 0, 13, 14}, {3, 0, 1, 20, 30}, {3, 1, 1, 20, 31}},
      2));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].kind, OpKind::Expert);
  EXPECT_EQ(rows[0].phase, Phase::Forward);
  EXPECT_EQ(rows[0].count_per_step, 1);
  EXPECT_EQ(rows[0].total_per_step, Duration(11));  // (10 + 13 + 10 + 11) / 4
  EXPECT_EQ(rows[1].phase, Phase::WeightGradient);
  EXPECT_EQ(rows[1].total_per_step, Duration(1));  // 5 / 4
}

TEST(MedianDurations, OverRanksAndStepsZeroIfNeverRun) {
  const std::vector<Duration> medians = median_durations(
      timeline({{0, 0, 0, 0, 10}, {0, 1, 0, 0, 50}, {0, 0, 1, 60, 72}, {3, 0, 0, 0, 4}, {3, 1, 0, 0, 7}}, 2));
  EXPECT_EQ(medians, (std::vector<Duration>{Duration(12), Duration(0), Duration(0), Duration(6), Duration(0),
                                            Duration(0), Duration(0), Duration(0)}));
}

TEST(StepTimeQuartiles, LieBetweenTheStepTimes) {
  const DurationRange range =
      step_time_quartiles(timeline({{0, 0, 0, 0, 100}, {0, 0, 1, 200, 320}, {0, 0, 2, 400, 540}, {0, 0, 3, 600, 800}}));
  EXPECT_EQ(range.low, Duration(115));  // 100, 120, 140, 200
  EXPECT_EQ(range.high, Duration(155));
}

TEST(Compare, LaysRowsSideBySide) {
  const Comparison comparison =
      compare(timeline({{0, 0, 0, 0, 100}, {2, 0, 0, 100, 200}}), timeline({{0, 0, 0, 0, 80}, {3, 0, 0, 80, 150}}));
  EXPECT_EQ(comparison.measured.step_time, Duration(200));
  EXPECT_EQ(comparison.predicted.step_time, Duration(150));
  EXPECT_DOUBLE_EQ(comparison.step_time_error, -0.25);
  ASSERT_EQ(comparison.operators.size(), 3U);
  EXPECT_EQ(comparison.operators[0].kind, OpKind::Attention);
  EXPECT_EQ(comparison.operators[0].measured, Duration(100));
  EXPECT_EQ(comparison.operators[0].predicted, Duration(80));
  EXPECT_EQ(comparison.operators[1].kind, OpKind::Dispatch);
  EXPECT_EQ(comparison.operators[1].predicted, Duration(0));
  EXPECT_EQ(comparison.operators[2].kind, OpKind::Expert);
  EXPECT_EQ(comparison.operators[2].measured, Duration(0));
  EXPECT_EQ(comparison.operators[2].predicted, Duration(70));
}

}  // namespace
}  // namespace moecast
