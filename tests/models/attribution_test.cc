#include "models/attribution.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "models/metrics.h"
#include "tests/models/stage_reference_testing.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

Operator make_op(OpKind kind, Lane lane) {
  Operator op;
  op.kind = kind;
  op.lane = lane;
  return op;
}

/// A plan with one operator of each kind of part, and spans of it by hand (nanoseconds).
class HandTimeline {
 public:
  HandTimeline() {
    add(OpKind::Attention, Lane::Compute);
    add(OpKind::Dispatch, Lane::Comm);
    add(OpKind::GradientReduce, Lane::Comm);
    add(OpKind::TensorReduce, Lane::Tensor);
    add(OpKind::Receive, Lane::Receive);
    add(OpKind::Send, Lane::Send);
  }
  HandTimeline& span(std::int32_t rank, std::int32_t op, std::int64_t start, std::int64_t end) {
    const Lane lane = timeline_.plan.operators[static_cast<std::size_t>(op)].lane;
    timeline_.spans.push_back({OpId(op), Rank(rank), lane, 0, Instant(Duration(start)), Instant(Duration(end))});
    timeline_.rank_count = std::max<std::int64_t>(timeline_.rank_count, rank + 1);
    return *this;
  }
  [[nodiscard]] StepAttribution attributed() const { return attribute(timeline_); }
  [[nodiscard]] const Timeline& timeline() const { return timeline_; }

 private:
  void add(OpKind kind, Lane lane) {
    Operator op = make_op(kind, lane);
    op.id = OpId(static_cast<std::int32_t>(timeline_.plan.operators.size()));
    timeline_.plan.operators.push_back(op);
  }
  Timeline timeline_;
};

/// Spans of ranks that others stand for say the same as spans of all.
void expect_same_when_folded(const Timeline& all, const std::vector<std::pair<Rank, std::int64_t>>& stands_for) {
  Timeline folded = all;
  folded.stands_for = stands_for;
  std::erase_if(folded.spans, [&](const Span& span) {
    return std::none_of(stands_for.begin(), stands_for.end(), [&](const auto& e) { return e.first == span.rank; });
  });
  EXPECT_LT(folded.spans.size(), all.spans.size());
  EXPECT_EQ(parts(attribute(folded)), parts(attribute(all)));
  EXPECT_EQ(attribute(folded).step, attribute(all).step);
  EXPECT_EQ(median_durations(folded), median_durations(all));
  EXPECT_EQ(bound_metrics(folded).step_time, bound_metrics(all).step_time);
  EXPECT_EQ(step_metrics(folded).exposed, step_metrics(all).exposed);
}

constexpr std::int32_t kCompute = 0, kDispatch = 1, kReduce = 2, kTensor = 3, kReceive = 4, kSend = 5;

TEST(Attribution, FoldedRanksCountAsOftenAsTheyStandForOthers) {
  HandTimeline hand;  // ranks 0, 1, 3 alike
  for (const std::int32_t rank : {0, 1, 2, 3}) {
    const std::int64_t late = rank == 2 ? 40 : 0;
    hand.span(rank, kCompute, 0, 30 + late).span(rank, kDispatch, 30 + late, 90);
  }
  Timeline all = hand.timeline();
  all.plan.operators.erase(all.plan.operators.begin() + kReceive, all.plan.operators.end());  // no other stage
  expect_same_when_folded(all, {{Rank(0), 3}, {Rank(2), 1}});
}

TEST(Attribution, EveryInstantCountsOnceInTheFirstPartThatApplies) {
  const StepAttribution found = HandTimeline()
                                    .span(0, kReceive, 0, 10)
                                    .span(0, kCompute, 10, 30)
                                    .span(0, kDispatch, 20, 50)
                                    .span(0, kTensor, 40, 60)
                                    .span(0, kReduce, 55, 70)
                                    .span(0, kSend, 65, 90)
                                    .span(0, kReceive, 80, 100)
                                    .attributed();
  EXPECT_EQ(found.step, Duration(100));
  EXPECT_EQ(found.compute, Duration(20));
  EXPECT_EQ(found.all_to_all, Duration(20));
  EXPECT_EQ(found.tensor, Duration(10));
  EXPECT_EQ(found.replicas, Duration(10));
  EXPECT_EQ(found.pipeline, Duration(20));
  EXPECT_EQ(found.bubble, Duration(20));
  EXPECT_EQ(found.stall, Duration(0));
  EXPECT_EQ(found.idle, Duration(0));
}

TEST(Attribution, WaitingForALateRankIsAStallAndTheRestIdle) {
  // Rank 1 computes longer: the exchange takes 10, of which rank 0 sees 40.
  const StepAttribution found = HandTimeline()
                                    .span(0, kCompute, 0, 20)
                                    .span(0, kDispatch, 20, 60)
                                    .span(1, kCompute, 0, 50)
                                    .span(1, kDispatch, 50, 60)
                                    .span(1, kCompute, 60, 80)
                                    .attributed();
  EXPECT_EQ(found.step, Duration(80));
  EXPECT_EQ(found.compute, Duration((20 + 70) / 2));
  EXPECT_EQ(found.all_to_all, Duration(10));
  EXPECT_EQ(found.stall, Duration(30 / 2));
  EXPECT_EQ(found.idle, Duration(20 / 2));
}

TEST(Attribution, PartsOfAPipelineAddUpAndTheBubbleIsItsClosedForm) {
  MoeModel model = testing_models::paired_model(1, 1, false, Shortcut::None);
  model.blocks.assign(8, Block{64, std::nullopt});
  const std::int64_t p = 4, m = 8;
  const ParallelLayout layout{.pipeline = p};
  const auto plans = build_stage_plans({model, layout, {1, m, 16}, {ScheduleKind::Pipelined, 1, {}, {}}, 4, {}});
  ASSERT_TRUE(plans.ok());
  const auto ticks = [](const Operator& op) -> std::int64_t {
    if (op.lane != Lane::Compute || !op.layer) return 0;
    return op.phase == Phase::Forward ? 10 : 20;
  };
  std::vector<std::vector<Duration>> durations;
  for (const StepPlan& plan : *plans) {
    durations.emplace_back();
    for (const Operator& op : plan.operators) durations.back().emplace_back(ticks(op));
  }
  const Timeline timeline = project_stages(*plans, durations);
  const StepAttribution found = attribute(timeline);
  const std::int64_t ideal = m * 2 * 2 * (10 + 20);
  EXPECT_EQ(found.step, Duration(ideal * (m + p - 1) / m));
  EXPECT_EQ(found.step.count(), testing_models::stages_wall(*plans, ticks));
  EXPECT_EQ(found.compute, Duration(ideal));
  EXPECT_EQ(found.bubble + found.stall + found.idle, Duration(ideal * (p - 1) / m));
  EXPECT_EQ(step_metrics(timeline).step_time, found.step);
  EXPECT_EQ(bound_metrics(timeline).step_time, found.step);
  Duration sum{};
  for (const auto& [name, time] : parts(found)) sum += time;
  EXPECT_EQ(sum, found.step);
}

}  // namespace
}  // namespace moecast
