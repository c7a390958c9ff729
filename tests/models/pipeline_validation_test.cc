/// Pipeline schedules against their closed forms, all stages executed by the reference of stage_reference_testing.h.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "models/pipeline_order.h"
#include "models/state_inventory.h"
#include "models/step_plan.h"
#include "tests/models/stage_reference_testing.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;
using testing_models::run_stages;
using testing_models::stages_wall;

MoeModel dense_model(std::int64_t blocks) {
  MoeModel model = paired_model(1, 1, false, Shortcut::None);
  model.blocks.assign(static_cast<std::size_t>(blocks), Block{64, std::nullopt});
  return model;
}

std::vector<StepPlan> plans_of(const MoeModel& model, const ParallelLayout& layout, std::int64_t micro_batches,
                               ScheduleKind kind = ScheduleKind::Pipelined) {
  const Batch batch{1, micro_batches, 16};
  Result<std::vector<StepPlan>> plans = build_stage_plans({model, layout, batch, {kind, 1, {}, {}}, 4, {}});
  EXPECT_TRUE(plans.ok()) << (plans.ok() ? "" : plans.error().text());
  return plans.ok() ? std::move(plans).value() : std::vector<StepPlan>{};
}

ParallelLayout pipeline(std::int64_t stages, PipelineSchedule schedule, std::int64_t virtual_stages = 1) {
  return {.pipeline = stages, .virtual_stages = virtual_stages, .pipeline_schedule = schedule};
}

/// Ticks of the compute operators of a block, two each: the same for every block, nothing else takes time.
std::function<std::int64_t(const Operator&)> block_ticks(std::int64_t forward, std::int64_t backward,
                                                         std::int64_t weights = 0) {
  return [=](const Operator& op) -> std::int64_t {
    if (op.lane != Lane::Compute || !op.layer) return 0;
    switch (op.phase) {
      case Phase::Forward:
        return forward;
      case Phase::Backward:
        return backward;
      case Phase::WeightGradient:
        return weights;
      default:
        return 0;
    }
  };
}

TEST(PipelineSchedules, OneForwardOneBackwardIdlesForAllStagesButOne) {
  // Bubble over ideal = (p - 1) / m (Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1).
  for (const std::int64_t p : {2, 3, 4}) {
    for (const std::int64_t m : {1, 2, 4, 9}) {
      const auto plans = plans_of(dense_model(2 * p), pipeline(p, PipelineSchedule::OneForwardOneBackward), m);
      const std::int64_t of_micro_batch = 2 * 2 * (3 + 5);  // 2 blocks of 2 operators on a stage
      EXPECT_EQ(stages_wall(plans, block_ticks(3, 5)), (m + p - 1) * of_micro_batch) << p << " " << m;
    }
  }
}

TEST(PipelineSchedules, InterleavingDividesTheBubble) {
  // (p - 1) / (m v), the same section.
  for (const std::int64_t p : {2, 4}) {
    for (const std::int64_t v : {2, 3}) {
      for (const std::int64_t m : {p, 2 * p, 3 * p}) {
        const auto plans = plans_of(dense_model(p * v), pipeline(p, PipelineSchedule::Interleaved, v), m);
        const std::int64_t of_part = 2 * (3 + 5);
        EXPECT_EQ(stages_wall(plans, block_ticks(3, 5)), (m * v + p - 1) * of_part) << p << " " << v << " " << m;
      }
    }
  }
}

TEST(PipelineSchedules, ZeroBubbleH1LeavesAThird) {
  // (p - 1) (F + B - W) with equal times: a third of 1F1B's (p - 1) (F + B + W) (Qi et al. 2023, arXiv 2401.10241,
  // table 1).
  for (const std::int64_t p : {2, 3, 4, 6}) {
    for (const std::int64_t m : {p, 2 * p, 3 * p + 1}) {
      const auto plans = plans_of(dense_model(p), pipeline(p, PipelineSchedule::ZeroBubble), m);
      const std::int64_t F = 2 * 4, B = F, W = F;
      EXPECT_EQ(stages_wall(plans, block_ticks(4, 4, 4)), m * (F + B + W) + (p - 1) * (F + B - W)) << p << " " << m;
    }
  }
}

/// Most micro-batches of which a stage holds a part's activations at once, parts counted each for itself, until the
/// last of their gradients.
std::int64_t peak_in_flight(const std::vector<PipelinePass>& order) {
  const bool late_weights = std::any_of(order.begin(), order.end(), [](const PipelinePass& pass) {
    return pass.kind == PipelinePass::Kind::WeightGradient;
  });
  using Kind = PipelinePass::Kind;
  const Kind releases = late_weights ? Kind::WeightGradient : Kind::Backward;
  std::int64_t held = 0, peak = 0;
  for (const PipelinePass& pass : order) {
    if (pass.kind == Kind::Forward) peak = std::max(peak, ++held);
    if (pass.kind == releases) --held;
  }
  return peak;
}

TEST(PipelineSchedules, MicroBatchesInFlight) {
  for (std::int64_t stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(peak_in_flight(pipeline_order(pipeline(4, PipelineSchedule::OneForwardOneBackward), stage, 8)),
              4 - stage);
    EXPECT_EQ(peak_in_flight(pipeline_order(pipeline(4, PipelineSchedule::ZeroBubble), stage, 8)), 4);
    // Interleaved: one more than the forwards of the warm-up (Korthikanti et al. 2022, section 4.2.3: on the first
    // stage p v (1 + (p - 1) / (p v)) parts).
    EXPECT_EQ(peak_in_flight(pipeline_order(pipeline(4, PipelineSchedule::Interleaved, 2), stage, 8)),
              2 * (4 - stage - 1) + 4 + 1);
  }
  EXPECT_EQ(peak_in_flight(pipeline_order(pipeline(4, PipelineSchedule::OneForwardOneBackward), 0, 2)), 2);
}

TEST(PipelineSchedules, EveryMicroBatchPassesEveryPartOnceForwardAndBackward) {
  for (const ParallelLayout& layout :
       {pipeline(3, PipelineSchedule::OneForwardOneBackward), pipeline(3, PipelineSchedule::Interleaved, 2),
        pipeline(3, PipelineSchedule::ZeroBubble)}) {
    for (std::int64_t stage = 0; stage < 3; ++stage) {
      std::set<std::tuple<int, std::int64_t, std::int64_t>> seen;
      const std::vector<PipelinePass> order = pipeline_order(layout, stage, 6);
      for (const PipelinePass& pass : order) seen.insert({static_cast<int>(pass.kind), pass.part, pass.micro_batch});
      const int kinds = layout.pipeline_schedule == PipelineSchedule::ZeroBubble ? 3 : 2;
      EXPECT_EQ(std::ssize(seen), kinds * 6 * layout.virtual_stages);
      EXPECT_EQ(seen.size(), order.size());
    }
  }
}

/// Messages of one plan to and from each stage.
std::map<std::pair<OpKind, std::int32_t>, std::vector<std::int64_t>> messages(const StepPlan& plan) {
  std::map<std::pair<OpKind, std::int32_t>, std::vector<std::int64_t>> found;
  for (const Operator& op : plan.operators) {
    if (op.kind != OpKind::Send && op.kind != OpKind::Receive) continue;
    EXPECT_EQ(op.lane, op.kind == OpKind::Send ? Lane::Send : Lane::Receive);
    EXPECT_EQ(op.communication->collective, Collective::PointToPoint);
    found[{op.kind, *op.communication->peer_stage}].push_back(op.communication->buffer.count());
  }
  return found;
}

TEST(PipelineSchedules, SendsAndReceivesPairUp) {
  ParallelLayout interleaved = pipeline(4, PipelineSchedule::Interleaved, 2);
  interleaved.data = 2;
  for (const ParallelLayout& layout :
       {pipeline(4, PipelineSchedule::OneForwardOneBackward), pipeline(2, PipelineSchedule::ZeroBubble), interleaved}) {
    for (const ScheduleKind kind : {ScheduleKind::Sequential, ScheduleKind::Pipelined}) {
      const auto plans = plans_of(paired_model(8, 2, true, Shortcut::Pos2), layout, 8, kind);
      for (std::size_t s = 0; s < plans.size(); ++s) {
        for (std::size_t t = 0; t < plans.size(); ++t) {
          const auto peer = [](std::size_t stage) { return static_cast<std::int32_t>(stage); };
          auto sent = messages(plans[s])[{OpKind::Send, peer(t)}];
          auto received = messages(plans[t])[{OpKind::Receive, peer(s)}];
          EXPECT_EQ(sent, received) << s << " to " << t;
        }
      }
      (void)run_stages(plans, [](const Operator&) { return 1; });  // and nobody waits for ever
    }
  }
}

TEST(PipelineSchedules, OneStageIsTheStepPlan) {
  const MoeModel model = paired_model(2, 1, true, Shortcut::Pos2);
  const Schedule schedule{ScheduleKind::Shortcut, 2, 2, 3};
  const ParallelLayout layout{.data = 4, .expert = 2};
  const StepPlanRequest request{model, layout, {1, 2, 16}, schedule, 4, {}};
  const auto whole = build_step_plan(request);
  const auto stages = build_stage_plans(request);
  ASSERT_TRUE(whole.ok() && stages.ok());
  ASSERT_EQ(stages->size(), 1U);
  ASSERT_EQ(stages->front().operators.size(), whole->operators.size());
  for (std::size_t i = 0; i < whole->operators.size(); ++i) {
    EXPECT_EQ(stages->front().operators[i].name(), whole->operators[i].name());
    EXPECT_EQ(stages->front().operators[i].dependencies, whole->operators[i].dependencies);
  }
}

TEST(PipelineSchedules, StagesDivideOperatorsAndParameters) {
  const MoeModel model = paired_model(4, 2, false, Shortcut::None);
  const ParallelLayout layout = pipeline(2, PipelineSchedule::Interleaved, 2);
  std::multiset<std::string> in_stages, in_one;
  for (const StepPlan& plan : plans_of(model, layout, 2)) {
    for (const Operator& op : plan.operators) {
      if (op.lane == Lane::Compute && op.phase != Phase::Update) in_stages.insert(op.name());
    }
  }
  const std::vector<StepPlan> one = plans_of(model, {}, 2);
  for (const Operator& op : one.front().operators) {
    if (op.lane == Lane::Compute && op.phase != Phase::Update) in_one.insert(op.name());
  }
  EXPECT_EQ(in_stages, in_one);

  std::int64_t elements = 0;
  for (std::int32_t rank = 0; rank < 2; ++rank) {
    for (const Parameter& parameter : parameters_of_rank(model, layout, Rank(rank))) {
      elements += parameter.element_count();
    }
  }
  EXPECT_EQ(elements, count_parameters(model).total + model.vocabulary * model.d_model);  // the tied copy
}

TEST(PipelineSchedules, UnevenStagesDifferByOneBlock) {
  ParallelLayout layout = pipeline(4, PipelineSchedule::OneForwardOneBackward);
  layout.uneven_stages = true;
  const auto blocks = [](const StepPlan& plan) {
    std::set<LayerId> layers;
    for (const Operator& op : plan.operators) {
      if (op.layer && op.lane == Lane::Compute) layers.insert(*op.layer);
    }
    return std::ssize(layers);
  };
  const std::vector<StepPlan> plans = plans_of(dense_model(6), layout, 4);
  std::vector<std::ptrdiff_t> found;
  for (const StepPlan& plan : plans) found.push_back(blocks(plan));
  EXPECT_EQ(found, (std::vector<std::ptrdiff_t>{2, 2, 1, 1}));
  (void)run_stages(plans, [](const Operator&) { return 1; });
}

TEST(PipelineSchedules, SayWhichStagesWouldFit) {
  const auto message = [](const MoeModel& model, const ParallelLayout& layout, std::int64_t micro_batches) {
    const Result<std::vector<StepPlan>> plans =
        build_stage_plans({model, layout, {1, micro_batches, 16}, {ScheduleKind::Pipelined, 1, {}, {}}, 4, {}});
    return plans.ok() ? std::string("it fits") : plans.error().message;
  };
  EXPECT_EQ(
      message(dense_model(6), pipeline(4, PipelineSchedule::OneForwardOneBackward), 4),
      "6 blocks do not divide evenly over pipeline 4 x virtual_stages 1: pipeline x virtual_stages may be 1, 2, 3, "
      "6; or uneven_stages may be true");
  EXPECT_EQ(message(paired_model(3, 1, true, Shortcut::Pos2), pipeline(2, PipelineSchedule::OneForwardOneBackward), 4),
            "the shortcut of block 3 begins in block 2, which pipeline 2 x virtual_stages 1 puts on another stage: "
            "pipeline x virtual_stages may be 1, 3");
  EXPECT_EQ(message(dense_model(8), pipeline(4, PipelineSchedule::Interleaved, 2), 6),
            "an interleaved pipeline takes its micro-batches in groups of 4: micro_batch_count 6 is not a multiple");
}

}  // namespace
}  // namespace moecast
