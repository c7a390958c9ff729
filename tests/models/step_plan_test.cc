#include "models/step_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;

struct Setting {
  ParallelLayout layout = {.data = 4, .expert = 4};
  Batch batch = {.micro_batch = 2, .micro_batch_count = 1, .sequence = 16};
  Schedule schedule = {};
};

Result<StepPlan> build(const MoeModel& model, const Setting& setting) {
  return build_step_plan({model, setting.layout, setting.batch, setting.schedule, 4, {}});
}

StepPlan built(const MoeModel& model, const Setting& setting) {
  Result<StepPlan> plan = build(model, setting);
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  return std::move(plan).value();
}

Schedule shortcut(std::int64_t forward, std::int64_t backward, std::int64_t chunks = 1) {
  return {ScheduleKind::Shortcut, chunks, forward, backward};
}

std::vector<std::string> names(const StepPlan& plan, Lane lane) {
  std::vector<std::string> list;
  for (const Operator& op : plan.operators) {
    if (op.lane == lane) list.push_back(op.name());
  }
  return list;
}

TEST(StepPlan, IssuesPos2InTheOrderOfThePaper) {
  const StepPlan plan = built(paired_model(1, 1, true, Shortcut::Pos2), {.schedule = shortcut(2, 3)});
  EXPECT_EQ(names(plan, Lane::Compute),
            (std::vector<std::string>{
                "Embed.F",           "L0.Attention.F",    "L1.Gate.F",   "L1.Encode.F",    "L0.Mlp.F",   "L1.Expert.F",
                "L1.Attention.F",    "L1.SharedExpert.F", "L1.Decode.F", "Head.F",         "Head.B",     "L1.Decode.B",
                "L1.SharedExpert.B", "L1.Attention.B",    "L1.Expert.B", "L1.Expert.W",    "L0.Mlp.B",   "L1.Encode.B",
                "L1.Gate.B",         "L0.Attention.B",    "Embed.B",     "GradientNorm.U", "Optimizer.U"}));
  EXPECT_EQ(names(plan, Lane::Comm),
            (std::vector<std::string>{"L1.Dispatch.F", "L1.Combine.F", "L1.Combine.B", "L1.Dispatch.B",
                                      "GradientReduce.U.data", "GradientNorm.U.expert"}));
}

TEST(StepPlan, PlacesTheWindowOfEveryPosition) {
  // The last slot puts the whole window before the experts: what stands between Encode and Expert is the window.
  const auto window = [](const MoeModel& model, std::int64_t last) {
    const StepPlan plan = built(model, {.schedule = shortcut(last, 1)});
    std::vector<std::string> all = names(plan, Lane::Compute);
    const auto first = std::find(all.begin(), all.end(), "L3.Encode.F") + 1;
    return std::vector<std::string>(first, std::find(first, all.end(), "L3.Expert.F"));
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(window(paired_model(2, 1, true, Shortcut::None), 2), (Names{"L3.SharedExpert.F"}));
  EXPECT_EQ(window(paired_model(2, 1, true, Shortcut::Pos1), 3), (Names{"L3.Attention.F", "L3.SharedExpert.F"}));
  EXPECT_EQ(window(paired_model(2, 1, true, Shortcut::Pos2), 4),
            (Names{"L2.Mlp.F", "L3.Attention.F", "L3.SharedExpert.F"}));
  EXPECT_EQ(window(paired_model(2, 1, true, Shortcut::Pos3), 5),
            (Names{"L2.Attention.F", "L2.Mlp.F", "L3.Attention.F", "L3.SharedExpert.F"}));
  EXPECT_EQ(window(paired_model(2, 2, false, Shortcut::None), 1), Names{});
}

TEST(StepPlan, TakesAMoeInEveryBlockWithPos1) {
  MoeModel model = paired_model(1, 1, true, Shortcut::Pos1);
  model.blocks[0] = model.blocks[1];
  const StepPlan plan = built(model, {.schedule = shortcut(2, 1)});
  const std::vector<std::string> compute = names(plan, Lane::Compute);
  EXPECT_EQ(std::vector<std::string>(compute.begin(), compute.begin() + 8),
            (std::vector<std::string>{"Embed.F", "L0.Gate.F", "L0.Encode.F", "L0.Attention.F", "L0.Expert.F",
                                      "L0.SharedExpert.F", "L0.Decode.F", "L1.Gate.F"}));
  EXPECT_EQ(std::count(compute.begin(), compute.end(), "L0.Gate.B"), 1);
  EXPECT_EQ(std::count(compute.begin(), compute.end(), "L1.Gate.B"), 1);
}

TEST(StepPlan, GivesTheSameOperatorsWhateverTheSchedule) {
  const MoeModel model = paired_model(2, 1, true, Shortcut::Pos2);
  const auto sorted_work = [&](const Schedule& schedule) {
    std::multiset<std::string> set;
    for (const Operator& op : built(model, {.schedule = schedule}).operators) {
      if (op.phase != Phase::WeightGradient) set.insert(op.name());
    }
    return set;
  };
  EXPECT_EQ(sorted_work({}), sorted_work(shortcut(1, 1)));
  EXPECT_EQ(sorted_work({}), sorted_work(shortcut(4, 4)));
  EXPECT_EQ(sorted_work({}), sorted_work({ScheduleKind::Pipelined, 1, {}, {}}));
}

TEST(StepPlan, SequentialOperatorsWaitForOneAnother) {
  const StepPlan plan = built(paired_model(2, 2, false, Shortcut::None), {});
  for (std::size_t i = 1; i < plan.operators.size(); ++i) {
    EXPECT_EQ(plan.operators[i].dependencies.back().index(), i - 1) << plan.operators[i].name();
  }
}

TEST(StepPlan, ChunksDivideTheCapacityWithoutLoss) {
  MoeModel model = paired_model(1, 1, true, Shortcut::Pos2);
  model.blocks[1].moe->capacity_factor = 1.75;  // C = floor(1.75 * 32 / 8) = 7
  for (const std::int64_t chunks : {1, 2, 3, 7}) {
    std::int64_t dispatched = 0;
    double rows = 0;
    for (const Operator& op : built(model, {.schedule = shortcut(1, 1, chunks)}).operators) {
      if (op.phase != Phase::Forward) continue;
      if (op.kind == OpKind::Dispatch) dispatched += op.communication->buffer.count();
      if (op.kind == OpKind::Expert) rows += std::get<GroupedGemmWork>(op.work.front()).rows;
    }
    EXPECT_EQ(dispatched, 8 * 7 * 32 * 4) << chunks;  // E C d b
    EXPECT_EQ(rows, 4 * 7) << chunks;                 // P C for each local expert
  }
}

TEST(StepPlan, DroplessRanksTellOneAnotherTheirCounts) {
  MoeModel model = paired_model(1, 2, false, Shortcut::None);
  model.blocks[1].moe->capacity_factor.reset();
  const StepPlan plan = built(model, {});
  const auto counts = std::find_if(plan.operators.begin(), plan.operators.end(),
                                   [](const Operator& op) { return op.kind == OpKind::Counts; });
  ASSERT_NE(counts, plan.operators.end());
  EXPECT_EQ(counts->lane, Lane::Comm);
  EXPECT_EQ((counts + 1)->name(), "L1.Dispatch.F");
  EXPECT_EQ((counts + 1)->communication->buffer.count(), 32 * 2 * 32 * 4);  // T k d b
}

TEST(StepPlan, ReplicasReduceExpertsOnlyOverTrueCopies) {
  const MoeModel model = paired_model(1, 1, false, Shortcut::None);
  const StepPlan plan = built(model, {.layout = {.data = 4, .expert = 2}});
  std::vector<std::string> reductions;
  for (const Operator& op : plan.operators) {
    if (op.kind == OpKind::GradientReduce) reductions.push_back(op.name());
  }
  EXPECT_EQ(reductions, (std::vector<std::string>{"GradientReduce.U.data", "GradientReduce.U.expert_data"}));
  const StepPlan alone = built(model, {.layout = {}});
  EXPECT_TRUE(std::none_of(alone.operators.begin(), alone.operators.end(),
                           [](const Operator& op) { return op.kind == OpKind::GradientReduce; }));
  EXPECT_TRUE(std::any_of(alone.operators.begin(), alone.operators.end(),
                          [](const Operator& op) { return op.kind == OpKind::Dispatch; }));
}

TEST(StepPlan, MicroBatchesRepeatForwardAndBackwardButNotTheUpdate) {
  const MoeModel model = paired_model(1, 1, true, Shortcut::Pos2);
  const StepPlan one = built(model, {});
  const StepPlan three = built(model, {.batch = {2, 3, 16}});
  const auto updates = [](const StepPlan& plan) {
    return std::count_if(plan.operators.begin(), plan.operators.end(),
                         [](const Operator& op) { return op.phase == Phase::Update; });
  };
  EXPECT_EQ(updates(three), updates(one));
  EXPECT_EQ(three.operators.size() - static_cast<std::size_t>(updates(three)),
            3 * (one.operators.size() - static_cast<std::size_t>(updates(one))));
  EXPECT_EQ(three.operators[one.operators.size() - static_cast<std::size_t>(updates(one))].micro_batch, 1);
}

TEST(StepPlan, ProductsOfAForwardPassAreTwoFlopsPerWeightAndToken) {
  // Every weight of a matrix meets every token once; the padded slots of the experts count as tokens.
  const MoeModel model = paired_model(2, 2, true, Shortcut::None);
  double products = 0;
  for (const Operator& op : built(model, {.layout = {}}).operators) {
    if (op.phase != Phase::Forward) continue;
    for (const Work& work : op.work) {
      if (!std::holds_alternative<AttentionWork>(work)) products += flops(work).value();
    }
  }
  const double T = 32, d = 32, slots = 8 * 2 * 2 * 4;  // E C, C = k floor(2 * 32 / 8)
  const double attention = 4 * d * d, dense = 2 * d * 64, shared = 2 * d * 48, gate = d * 8, head = d * 64;
  const double tokens = 2 * T * (4 * attention + 2 * dense + 2 * (shared + gate) + head);
  const double experts = 2 * 2 * slots * (2 * d * 48);  // two MoE blocks
  EXPECT_DOUBLE_EQ(products, tokens + experts);
}

TEST(StepPlan, BackwardHasTwiceTheProductsOfForward) {
  const auto products = [](const StepPlan& plan, Phase phase) {
    double sum = 0;
    for (const Operator& op : plan.operators) {
      for (const Work& work : op.work) {
        if (op.phase == phase && !std::holds_alternative<AttentionWork>(work)) sum += flops(work).value();
      }
    }
    return sum;
  };
  const MoeModel model = paired_model(2, 1, true, Shortcut::Pos2);
  const StepPlan sequential = built(model, {});
  EXPECT_DOUBLE_EQ(products(sequential, Phase::Backward), 2 * products(sequential, Phase::Forward));
  const StepPlan split = built(model, {.schedule = shortcut(2, 2)});
  EXPECT_GT(products(split, Phase::WeightGradient), 0);
  EXPECT_DOUBLE_EQ(products(split, Phase::Backward) + products(split, Phase::WeightGradient),
                   2 * products(split, Phase::Forward));
}

TEST(StepPlan, SaysWhatDoesNotFit) {
  const MoeModel pos2 = paired_model(1, 1, true, Shortcut::Pos2);
  const auto message = [](const MoeModel& model, const Setting& setting) {
    const Result<StepPlan> plan = build(model, setting);
    if (plan.ok()) return std::string("it fits");
    EXPECT_EQ(plan.error().kind, ErrorKind::BadInput);
    return plan.error().text();
  };
  const auto expect = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect(message(pos2, {.layout = {.data = 3, .expert = 3}}), "8 experts of block 1 cannot be divided evenly over 3");
  expect(message(pos2, {.schedule = shortcut(5, 1)}), "expected 1..4");
  expect(message(pos2, {.schedule = {ScheduleKind::Sequential, 2, {}, {}}}), "one chunk");
  expect(message(pos2, {.schedule = {ScheduleKind::Pipelined, 99, {}, {}}}), "cannot be divided into 99 chunks");
  expect(message(pos2, {.schedule = {ScheduleKind::Pipelined, 1, 1, {}}}), "only a shortcut schedule");
  expect(message(pos2, {.batch = {1, 1, 17}}), "max_sequence 16");
  expect(message(pos2, {.layout = {.data = 1, .expert = 1, .tensor = 2}}), "needs sequence_parallel");
  expect(message(pos2, {.layout = {.data = 1, .tensor = 3, .sequence_parallel = true}}),
         "2 attention heads cannot be divided evenly over 3 tensor ranks; use a divisor of 2");
  expect(message(pos2, {.layout = {.data = 1, .pipeline = 2}}), "a pipeline of one stage, found 2");
  expect(message(pos2, {.layout = {.data = 1, .context = 3}}), "expected a multiple of 6");
  MoeModel every = pos2;
  every.blocks[0] = every.blocks[1];
  expect(message(every, {}), "this is the first block");
}

}  // namespace
}  // namespace moecast
