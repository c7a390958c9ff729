/// ZeRO 1 and 2 train as ZeRO 0 does: only where state lives is different.

#include <gtest/gtest.h>

#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {
namespace {

TrainResult must_train(const TrainConfig& config) {
  Result<TrainResult> result = run_training(config);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().text());
  return result.ok() ? std::move(result).value() : TrainResult{};
}

struct Division {
  std::int64_t ranks, expert;
};

Workload divided(const Division& division) {
  Workload workload = tiny_workload();
  use_shared_expert(workload, Shortcut::Pos2);
  workload.layout.data = division.ranks;
  workload.layout.expert = division.expert;
  workload.batch = {1, 2, workload.batch.sequence};
  return workload;
}

TEST(ZeroTraining, LossesAreThoseOfStageZeroWithinRounding) {
  const TextFile text;
  for (const Division& division : {Division{2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}}) {
    Workload workload = divided(division);  // F64
    TrainConfig config = train_config(workload, text, 6);
    config.optimizer.gradient_clip = 0.5;  // clips in some steps: the norm of the shards decides
    const TrainResult whole = must_train(config);
    for (const int stage : {1, 2}) {
      SCOPED_TRACE(::testing::Message() << division.ranks << " ranks, EP " << division.expert << ", ZeRO " << stage);
      config.workload.layout.zero_stage = stage;
      const TrainResult result = must_train(config);
      ASSERT_EQ(result.loss.size(), whole.loss.size());
      for (std::size_t i = 0; i < whole.loss.size(); ++i) {
        EXPECT_NEAR(result.loss[i], whole.loss[i], 1e-10) << "step " << i;
        EXPECT_NEAR(result.steps[i].gradient_norm, whole.steps[i].gradient_norm, 1e-10) << "step " << i;
      }
      EXPECT_NEAR(result.validation_loss, whole.validation_loss, 1e-10);
    }
  }
}

TEST(ZeroTraining, WithoutClippingStageOneHasTheSameBits) {
  // Sums over ranks are added in rank order by both collectives, and AdamW works on one element at a time.
  const TextFile text;
  Workload workload = divided({4, 2});
  workload.bytes_per_element = 4;
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 2};
  TrainConfig config = train_config(workload, text, 6);
  config.optimizer.gradient_clip = 0;
  const TrainResult whole = must_train(config);
  config.workload.layout.zero_stage = 1;
  EXPECT_EQ(must_train(config).loss, whole.loss);
}

TEST(ZeroTraining, LlamaStyleWithAnOutputProjectionAndMoreRanksThanSomeTensorsHaveElements) {
  const TextFile text;
  Workload workload = divided({4, 4});
  use_llama_style(workload);
  TrainConfig config = train_config(workload, text, 4);
  const TrainResult whole = must_train(config);
  for (const int stage : {1, 2}) {
    config.workload.layout.zero_stage = stage;
    const TrainResult result = must_train(config);
    for (std::size_t i = 0; i < whole.loss.size(); ++i) EXPECT_NEAR(result.loss[i], whole.loss[i], 1e-10);
  }
}

/// Counts what is allocated and hands on everything else.
std::int64_t state_bytes(const ParameterStore& store, Component component) {
  std::int64_t bytes = 0;
  for (const ParameterStore::Entry& entry : store.entries()) {
    bytes += store.share(component, entry).bytes().count();
  }
  return bytes;
}

TEST(ZeroStore, SharesAreEvenSharesAndCoverEveryTensorOnce) {
  Workload workload = divided({4, 2});
  workload.layout.zero_stage = 1;
  const auto backend = make_cpu_backend();
  std::int64_t dense = 0, expert = 0;
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    const auto store =
        std::move(ParameterStore::make(parameters_of_rank(workload.model, workload.layout, Rank(rank)), DType::F32,
                                       *backend, state_division(workload.layout, Rank(rank))))
            .value();
    for (const ParameterStore::Entry& entry : store.entries()) {
      const bool routed = entry.parameter.expert.has_value();
      const Group group = routed ? Group::ExpertData : Group::Data;
      EXPECT_EQ(entry.share, even_share(entry.parameter.element_count(), workload.layout.group_size(group),
                                        workload.layout.position(group, Rank(rank))));
      EXPECT_EQ(store.share(Component::Master, entry).element_count(), entry.share.count());
      (routed ? expert : dense) += entry.share.count();
    }
    EXPECT_LT(state_bytes(store, Component::FirstMoment), 4 * store.element_count());
  }
  const ParameterCount count = count_parameters(workload.model);
  EXPECT_EQ(dense, count.total - count.expert);
  EXPECT_EQ(expert, count.expert);
}

TEST(ZeroStore, StageTwoKeepsGradientsOfTwoBlocks) {
  Workload workload = divided({4, 2});
  workload.layout.zero_stage = 2;
  const auto backend = make_cpu_backend();
  const auto store = std::move(ParameterStore::make(parameters_of_rank(workload.model, workload.layout, Rank(0)),
                                                    DType::F64, *backend, state_division(workload.layout, Rank(0))))
                         .value();
  const auto at = [&](const char* name) { return store.tensor(Component::Gradient, name).data; };
  EXPECT_EQ(at("blocks.0.attention.wqkv"), at("blocks.2.attention.wqkv"));
  EXPECT_EQ(at("blocks.1.attention.wqkv"), at("blocks.3.attention.wqkv"));
  EXPECT_NE(at("blocks.0.attention.wqkv"), at("blocks.1.attention.wqkv"));
  EXPECT_NE(store.tensor(Component::Weight, "blocks.0.attention.wqkv").data,
            store.tensor(Component::Weight, "blocks.2.attention.wqkv").data);
}

}  // namespace
}  // namespace moecast::testing
