#include "models/metrics.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;

void expect_order(const StepMetrics& metrics) {
  EXPECT_LE(Duration{}, metrics.exposed);
  EXPECT_LE(metrics.exposed, metrics.communication);
  EXPECT_LE(metrics.all_to_all, metrics.communication);
  EXPECT_LE(metrics.exposed_all_to_all, metrics.all_to_all);
  EXPECT_LE(metrics.exposed_all_to_all, metrics.exposed);
  EXPECT_GE(metrics.overlap, 0);
  EXPECT_LE(metrics.overlap, 1);
  EXPECT_GE(metrics.communication_share, 0);
  EXPECT_LE(metrics.communication_share, 1);
}

/// A plan laid out with random operator times.
Timeline random_projection(Schedule schedule, std::uint64_t seed) {
  const MoeModel model = paired_model(2, 1, true, Shortcut::Pos2);
  const ParallelLayout layout{4, 2, 1, 1, 0};
  Result<StepPlan> plan = build_step_plan({model, layout, {2, 2, 16}, schedule, 4, {}});
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  const CounterRandom random(seed, 1);
  std::vector<Duration> durations;
  for (const Operator& op : plan->operators) {
    durations.push_back(Duration(random.below(1000, static_cast<std::uint64_t>(op.id.value()), 0)));
  }
  return project(*plan, durations);
}

TEST(StepMetrics, AProjectedRunIsComputeAndExposedCommunicationAndNothingElse) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const Schedule& schedule :
         {Schedule{ScheduleKind::Sequential, 1, {}, {}}, Schedule{ScheduleKind::Pipelined, 3, {}, {}},
          Schedule{ScheduleKind::Shortcut, 2, 2, 3}}) {
      const StepMetrics metrics = step_metrics(random_projection(schedule, seed));
      expect_order(metrics);
      // Every dependency leads back to something that runs, so some lane is always busy.
      EXPECT_EQ(metrics.step_time, metrics.compute + metrics.exposed);
      if (schedule.kind == ScheduleKind::Sequential) {
        EXPECT_EQ(metrics.exposed, metrics.communication);
        EXPECT_EQ(metrics.overlap, 0);
      }
    }
  }
}

TEST(BoundMetrics, AProjectedRunMeetsItsOwnBound) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Timeline timeline = random_projection({ScheduleKind::Shortcut, 1, 2, 3}, seed);
    EXPECT_EQ(bound_metrics(timeline).step_time, step_metrics(timeline).step_time);
    EXPECT_EQ(bound_metrics(timeline).exposed, step_metrics(timeline).exposed);
  }
}

TEST(BoundMetrics, WhatTheRunLostBetweenOperatorsIsNotInTheBound) {
  Timeline timeline = random_projection({ScheduleKind::Sequential, 1, {}, {}}, 1);
  const Duration step = step_metrics(timeline).step_time;
  std::sort(timeline.spans.begin(), timeline.spans.end(), [](const Span& a, const Span& b) { return a.op < b.op; });
  for (std::size_t i = 0; i < timeline.spans.size(); ++i) {
    const Duration idle(100 * static_cast<std::int64_t>(i));
    timeline.spans[i].start += idle;
    timeline.spans[i].end += idle;
  }
  EXPECT_GT(step_metrics(timeline).step_time, step);
  EXPECT_EQ(bound_metrics(timeline).step_time, step);
}

constexpr int kRanks = 3, kSteps = 2, kHorizon = 60;

/// Random spans of any lane anywhere in 0 .. kHorizon: more disorder than a run can make.
Timeline random_spans(const StepPlan& plan, std::uint64_t seed) {
  const CounterRandom random(seed, 2);
  Timeline timeline;
  timeline.plan = plan;
  timeline.rank_count = kRanks;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const auto draw = [&](std::int64_t bound, std::uint64_t which) { return random.below(bound, i, which); };
    const Operator& op = plan.operators[static_cast<std::size_t>(draw(std::ssize(plan.operators), 0))];
    const std::int64_t start = draw(kHorizon, 1);
    const std::int64_t end = start + draw(kHorizon - start + 1, 2);
    timeline.spans.push_back({op.id, Rank(static_cast<std::int32_t>(draw(kRanks, 3))), op.lane,
                              static_cast<std::int32_t>(draw(kSteps, 4)), Instant(Duration(start)),
                              Instant(Duration(end))});
  }
  return timeline;
}

/// Counts nanoseconds one by one.
StepMetrics counted(const Timeline& timeline) {
  using Busy = std::array<bool, kHorizon>;
  std::int64_t compute = 0, communication = 0, exposed = 0, exchange = 0, exposed_exchange = 0, rank_steps = 0;
  for (int step = 0; step < kSteps; ++step) {
    for (int rank = 0; rank < kRanks; ++rank) {
      Busy computing{}, communicating{}, exchanging{};
      bool any = false;
      for (const Span& span : timeline.spans) {
        if (span.step != step || span.rank != Rank(rank)) continue;
        any = true;
        const OpKind kind = timeline.plan.operators[span.op.index()].kind;
        for (auto t = span.start; t < span.end; t += Duration(1)) {
          const auto i = static_cast<std::size_t>(t.time_since_epoch().count());
          (span.lane == Lane::Compute ? computing : communicating)[i] = true;
          exchanging[i] = exchanging[i] || kind == OpKind::Dispatch || kind == OpKind::Combine;
        }
      }
      rank_steps += any;
      for (std::size_t i = 0; i < kHorizon; ++i) {
        compute += computing[i];
        communication += communicating[i];
        exposed += communicating[i] && !computing[i];
        exchange += exchanging[i];
        exposed_exchange += exchanging[i] && !computing[i];
      }
    }
  }
  const auto mean = [&](std::int64_t total) { return Duration((total + rank_steps / 2) / rank_steps); };
  StepMetrics metrics;
  metrics.compute = mean(compute);
  metrics.communication = mean(communication);
  metrics.exposed = mean(exposed);
  metrics.all_to_all = mean(exchange);
  metrics.exposed_all_to_all = mean(exposed_exchange);
  return metrics;
}

TEST(StepMetrics, AgreesWithCountingInstants) {
  const StepPlan plan = random_projection({ScheduleKind::Shortcut, 2, 2, 3}, 0).plan;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Timeline timeline = random_spans(plan, seed);
    const StepMetrics metrics = step_metrics(timeline);
    const StepMetrics expected = counted(timeline);
    expect_order(metrics);
    EXPECT_EQ(metrics.compute, expected.compute) << seed;
    EXPECT_EQ(metrics.communication, expected.communication) << seed;
    EXPECT_EQ(metrics.exposed, expected.exposed) << seed;
    EXPECT_EQ(metrics.all_to_all, expected.all_to_all) << seed;
    EXPECT_EQ(metrics.exposed_all_to_all, expected.exposed_all_to_all) << seed;
  }
}

TEST(StepMetrics, DoesNotDependOnTheOrderOfSpans) {
  Timeline timeline = random_projection({ScheduleKind::Pipelined, 2, {}, {}}, 3);
  const StepMetrics before = step_metrics(timeline);
  std::reverse(timeline.spans.begin(), timeline.spans.end());
  const StepMetrics after = step_metrics(timeline);
  EXPECT_EQ(before.step_time, after.step_time);
  EXPECT_EQ(before.exposed, after.exposed);
  EXPECT_EQ(before.communication, after.communication);
}

TEST(OperatorMetrics, TotalsOfARunAddUpToTheBusyTimeOfItsLanes) {
  const Timeline timeline = random_projection({ScheduleKind::Shortcut, 2, 1, 1}, 7);
  const StepMetrics metrics = step_metrics(timeline);
  Duration total{};
  std::int64_t count = 0;
  for (const OperatorMetrics& row : operator_metrics(timeline)) {
    total += row.total_per_step;
    count += row.count_per_step;
  }
  EXPECT_EQ(total, metrics.compute + metrics.communication);
  EXPECT_EQ(count, std::ssize(timeline.plan.operators));
}

}  // namespace
}  // namespace moecast
