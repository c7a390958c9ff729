/// Whole training runs: what must not change a result, and that a model learns.

#include <cmath>

#include <gtest/gtest.h>

#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

TrainResult must_train(const TrainConfig& config) {
  Result<TrainResult> result = run_training(config);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().text());
  return result.ok() ? std::move(result).value() : TrainResult{};
}

void expect_close(const TrainResult& a, const TrainResult& b, double tolerance) {
  ASSERT_EQ(a.loss.size(), b.loss.size());
  for (std::size_t i = 0; i < a.loss.size(); ++i) {
    EXPECT_NEAR(a.loss[i], b.loss[i], tolerance) << "step " << i;
    EXPECT_NEAR(a.steps[i].gradient_norm, b.steps[i].gradient_norm, tolerance * 100) << "step " << i;
  }
  EXPECT_NEAR(a.validation_loss, b.validation_loss, tolerance);
}

void set_capacity(Workload& workload, double factor) {
  for_each_moe(workload, [&](MoeFfn& moe) { moe.capacity_factor = factor; });
}
void set_balance(Workload& workload, double coefficient) {
  for_each_moe(workload, [&](MoeFfn& moe) { moe.balance_loss_coefficient = coefficient; });
}
/// `ranks` ranks that share `sequences` sequences of a step in micro-batches of one size.
void divide(Workload& workload, std::int64_t ranks, std::int64_t expert_degree, std::int64_t micro_batch,
            std::int64_t sequences) {
  workload.layout.data = ranks;
  workload.layout.expert = expert_degree;
  workload.batch.micro_batch = micro_batch;
  workload.batch.micro_batch_count = sequences / ranks / micro_batch;
}

TEST(Training, TwoRunsWithOneSeedGiveTheSameLossesBitForBit) {
  const TextFile text;
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  use_shared_expert(workload, Shortcut::Pos2);
  set_capacity(workload, 1.25);
  divide(workload, 2, 2, 2, 4);
  workload.schedule = {ScheduleKind::Shortcut, 2, 2, 3};
  TrainConfig config = train_config(workload, text, 12);
  const TrainResult first = must_train(config);
  const TrainResult second = must_train(config);
  EXPECT_EQ(first.loss, second.loss);
  EXPECT_EQ(first.validation_loss, second.validation_loss);
  config.seed += 1;
  EXPECT_NE(must_train(config).loss, first.loss);
}

/// Dropless, without the balance loss: nothing in the model then depends on which rank holds a token.
TEST(Training, OneTwoAndFourRanksAgreeWithinRounding) {
  const TextFile text;
  for (const Shortcut shortcut : {Shortcut::None, Shortcut::Pos2}) {
    Workload workload = tiny_workload();
    if (shortcut != Shortcut::None) use_shared_expert(workload, shortcut);
    set_balance(workload, 0);
    divide(workload, 1, 1, 4, 4);
    const TrainResult single = must_train(train_config(workload, text, 8));
    struct Division {
      std::int64_t ranks, expert_degree, micro_batch;
    };
    for (const Division& d : {Division{2, 2, 2}, {2, 1, 2}, {4, 4, 1}, {4, 2, 1}, {2, 2, 1}}) {
      divide(workload, d.ranks, d.expert_degree, d.micro_batch, 4);
      SCOPED_TRACE(::testing::Message() << d.ranks << " ranks, EP " << d.expert_degree);
      expect_close(must_train(train_config(workload, text, 8)), single, 1e-10);
    }
  }
}

/// Capacity and balance loss are those of one rank and micro-batch, so micro-batches of one rank do the same as ranks,
/// drops included.
TEST(Training, RanksAndMicroBatchesAgreeEvenWithDrops) {
  const TextFile text;
  Workload workload = tiny_workload();
  set_capacity(workload, 1);
  divide(workload, 1, 1, 1, 4);
  const TrainResult single = must_train(train_config(workload, text, 8));
  ASSERT_EQ(single.expert_load.size(), 2U);
  EXPECT_GT(single.expert_load[0].dropped, 0.0);
  divide(workload, 4, 2, 1, 4);
  const TrainResult four = must_train(train_config(workload, text, 8));
  expect_close(four, single, 1e-10);
  EXPECT_EQ(four.expert_load[0].dropped, single.expert_load[0].dropped);
  EXPECT_EQ(four.expert_load[1].share, single.expert_load[1].share);
}

TEST(Training, SchedulesDoNotChangeLosses) {
  const TextFile text;
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  use_shared_expert(workload, Shortcut::Pos2);
  set_capacity(workload, 2);
  divide(workload, 2, 2, 2, 4);
  const TrainResult sequential = must_train(train_config(workload, text, 6));
  std::vector<Schedule> schedules = {{ScheduleKind::Pipelined, 1}, {ScheduleKind::Pipelined, 2}};
  for (std::int64_t slot = 1; slot <= 4; ++slot) schedules.push_back({ScheduleKind::Shortcut, 1, slot, 5 - slot});
  schedules.push_back({ScheduleKind::Shortcut, 2, 2, 2});
  for (const Schedule& schedule : schedules) {
    SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(schedule.kind) << ", chunks "
                                      << schedule.chunk_count << ", slot " << schedule.forward_slot.value_or(0));
    workload.schedule = schedule;
    const TrainResult result = must_train(train_config(workload, text, 6));
    if (schedule.chunk_count == 1) {
      EXPECT_EQ(result.loss, sequential.loss);
    } else {  // weight gradients of chunks are added up in another order
      expect_close(result, sequential, 1e-5);
    }
  }
}

TEST(Training, AutoChoosesOneSlotForAllRanksAndLeavesLossesAlone) {
  const TextFile text;
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  use_shared_expert(workload, Shortcut::Pos2);
  set_capacity(workload, 2);
  divide(workload, 2, 2, 2, 4);
  workload.schedule = {ScheduleKind::Shortcut, 1, 1, 1};
  const TrainResult fixed = must_train(train_config(workload, text, 12));
  workload.schedule = {ScheduleKind::Shortcut, 1, std::nullopt, std::nullopt};
  TrainConfig config = train_config(workload, text, 12);
  config.runtime.link = PacedLink{std::chrono::microseconds(100), BytesPerSecond(1e9)};
  const TrainResult chosen = must_train(config);
  EXPECT_EQ(chosen.loss, fixed.loss);
  ASSERT_TRUE(chosen.schedule.forward_slot && chosen.schedule.backward_slot);
  EXPECT_GE(*chosen.schedule.forward_slot, 1);
  EXPECT_LE(*chosen.schedule.forward_slot, 4);
  EXPECT_TRUE(chosen.paced);
  // Spans of one plan only: those of the steps after the choice.
  ASSERT_FALSE(chosen.timeline.spans.empty());
  EXPECT_GE(chosen.timeline.spans.front().step, 6);
  for (const Span& span : chosen.timeline.spans) {
    ASSERT_LT(span.op.index(), chosen.timeline.plan.operators.size());
    EXPECT_EQ(span.lane, chosen.timeline.plan.operators[span.op.index()].lane);
  }
}

TEST(Training, TimelineHasEverySteadyOperatorOnceInOrder) {
  const TextFile text;
  Workload workload = tiny_workload();
  divide(workload, 2, 2, 2, 4);
  const TrainResult result = must_train(train_config(workload, text, 5));
  const Timeline& timeline = result.timeline;
  EXPECT_EQ(timeline.rank_count, 2);
  EXPECT_EQ(timeline.source, "measured: cpu x2, inproc unpaced");
  EXPECT_EQ(timeline.spans.size(), 3 * 2 * timeline.plan.operators.size());  // steps 2, 3, 4
  for (std::size_t i = 1; i < timeline.spans.size(); ++i) {
    const Span& a = timeline.spans[i - 1];
    const Span& b = timeline.spans[i];
    EXPECT_LE(std::tuple(a.step, a.rank, a.lane, a.start), std::tuple(b.step, b.rank, b.lane, b.start));
  }
}

TEST(Training, EveryVariantLearnsFarBelowUnigramEntropy) {
  const TextFile text;
  struct Variant {
    const char* name;
    std::function<void(Workload&)> change;
  };
  const std::vector<Variant> variants = {
      {"top2", [](Workload&) {}},
      {"top1", [](Workload& w) { for_each_moe(w, [](MoeFfn& moe) { moe.gate.top_k = 1; }); }},
      {"shared expert", [](Workload& w) { use_shared_expert(w, Shortcut::None); }},
      {"pos2", [](Workload& w) { use_shared_expert(w, Shortcut::Pos2); }},
      {"pos3", [](Workload& w) { use_shared_expert(w, Shortcut::Pos3); }},
      {"llama style pos1",
       [](Workload& w) {
         use_llama_style(w);
         use_shared_expert(w, Shortcut::Pos1);
       }},
  };
  for (const Variant& variant : variants) {
    SCOPED_TRACE(variant.name);
    Workload workload = tiny_workload();
    workload.bytes_per_element = 4;
    workload.model.d_model = 32;
    workload.model.attention = {4, 4, 8};
    workload.model.max_sequence = 16;
    workload.batch.sequence = 16;
    variant.change(workload);
    set_capacity(workload, 1.5);
    divide(workload, 1, 1, 8, 8);  // that ranks change nothing is shown above
    TrainConfig config = train_config(workload, text, 250);
    config.optimizer.learning_rate = 1e-2;
    config.optimizer.warmup_steps = 10;
    const TrainResult result = must_train(config);
    ASSERT_EQ(result.loss.size(), 250U);
    EXPECT_NEAR(result.loss.front(), std::log(128.0), 0.2);
    EXPECT_LT(result.loss.back(), 0.5 * result.unigram_entropy);
    EXPECT_LT(result.validation_loss, 0.5 * result.unigram_entropy);
    EXPECT_GT(result.tokens_per_second, 0);
  }
}

TEST(Training, ClippingBoundsTheStepAndReportsTheNormBefore) {
  const TextFile text;
  Workload workload = tiny_workload();
  TrainConfig config = train_config(workload, text, 2);
  config.optimizer.gradient_clip = 0;
  const TrainResult free = must_train(config);
  config.optimizer.gradient_clip = 1e-3;
  const TrainResult clipped = must_train(config);
  EXPECT_EQ(free.steps[0].gradient_norm, clipped.steps[0].gradient_norm);
  EXPECT_GT(free.steps[0].gradient_norm, 1e-3);
  EXPECT_NE(free.loss[1], clipped.loss[1]);
}

TEST(Training, InitialValuesDoNotDependOnTheNumberOfRanks) {
  // With every learning rate zero the loss is that of the initial model.
  const TextFile text;
  Workload workload = tiny_workload();
  divide(workload, 1, 1, 4, 4);
  TrainConfig config = train_config(workload, text, 1);
  config.optimizer.learning_rate = 0;
  const TrainResult one = must_train(config);
  divide(config.workload, 4, 4, 1, 4);
  EXPECT_NEAR(must_train(config).loss[0], one.loss[0], 1e-13);
}

}  // namespace
}  // namespace moecast::testing
