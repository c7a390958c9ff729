/// Memory against the closed forms of Korthikanti et al. 2022 (arXiv 2205.05198) and of ZeRO (arXiv 1910.02054).

#include <gtest/gtest.h>

#include "models/memory.h"
#include "models/memory_advice.h"
#include "models/pipeline_order.h"
#include "models/state_inventory.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

/// GPT of hidden size h with a heads and f = 4 h, as in the paper.
MoeModel gpt(std::int64_t h, std::int64_t a, std::int64_t blocks, std::int64_t sequence, std::int64_t words) {
  MoeModel model;
  model.name = "gpt";
  model.d_model = h;
  model.vocabulary = words;
  model.max_sequence = sequence;
  model.attention = {a, a, h / a};
  model.blocks.assign(static_cast<std::size_t>(blocks), Block{4 * h, std::nullopt});
  return model;
}

struct Setting {
  std::int64_t s = 2048, b = 2, h = 1024, a = 16;
  std::int64_t blocks = 8;
  ParallelLayout layout = {};
  std::int64_t micro_batches = 8;
};

StepPlanRequest request_for(const MoeModel& model, const Setting& setting) {
  return {model, setting.layout, {setting.b, setting.micro_batches, setting.s}, {}, 2, {}};
}

constexpr ActivationRule kPaper{true, true};

std::int64_t block_bytes(const Setting& setting) {
  const MoeModel model = gpt(setting.h, setting.a, setting.blocks, setting.s, 51200);
  return block_activations(request_for(model, setting), 0, kPaper).count();
}

TEST(ActivationMemory, OfABlockIsEquationsOneTwoAndFour) {
  for (const auto& [h, a] : {std::pair<std::int64_t, std::int64_t>(1024, 16), {6144, 64}, {12288, 96}}) {
    Setting setting{.h = h, .a = a};
    const std::int64_t sbh = setting.s * setting.b * h, scores = 5 * a * setting.s * setting.s * setting.b;
    EXPECT_EQ(block_bytes(setting), 34 * sbh + scores);  // eq 1
    for (const std::int64_t t : {2, 4, 8}) {
      setting.layout.tensor = t;
      setting.layout.sequence_parallel = false;
      EXPECT_EQ(block_bytes(setting), 10 * sbh + (24 * sbh + scores) / t);  // eq 2
      setting.layout.sequence_parallel = true;
      EXPECT_EQ(block_bytes(setting), (34 * sbh + scores) / t);  // eq 4
      setting.layout.recomputation = Recomputation::Selective;
      EXPECT_EQ(block_bytes(setting), 34 * sbh / t);  // eq 6
      setting.layout.recomputation = Recomputation::None;
    }
  }
}

TEST(ActivationMemory, OfOurKernelsHasNoMasksAndNoScores) {
  const Setting setting;
  const MoeModel model = gpt(setting.h, setting.a, 1, setting.s, 100);
  const std::int64_t tokens = setting.s * setting.b;
  EXPECT_EQ(block_activations(request_for(model, setting), 0).count(),
            32 * tokens * setting.h + 4 * tokens * setting.a);  // a log-sum-exp for every row and head
}

TEST(ActivationMemory, OfTheFirstStageDoesNotDependOnThePipeline) {
  // Section 4.2.3: p micro-batches of L / p blocks; interleaved 1 + (p - 1) / (p v) times as much.
  Setting setting{.blocks = 16, .micro_batches = 16};
  const MoeModel model = gpt(setting.h, setting.a, setting.blocks, setting.s, 51200);
  const std::int64_t all_blocks = setting.blocks * block_bytes(setting);
  for (const std::int64_t p : {2, 4, 8}) {
    setting.layout = {.pipeline = p};
    EXPECT_EQ(stage_memory(request_for(model, setting), kPaper).front().activations.count(), all_blocks) << p;
    setting.layout.pipeline_schedule = PipelineSchedule::Interleaved;
    setting.layout.virtual_stages = 2;
    EXPECT_EQ(stage_memory(request_for(model, setting), kPaper).front().activations.count(),
              all_blocks + all_blocks * (p - 1) / (2 * p))
        << p;
  }
}

TEST(ActivationMemory, LaterStagesHoldFewerMicroBatchesAndTheLastTheLogits) {
  Setting setting{.blocks = 4, .layout = {.pipeline = 4}, .micro_batches = 8};
  const MoeModel model = gpt(setting.h, setting.a, setting.blocks, setting.s, 51200);
  const std::vector<StageMemory> stages = stage_memory(request_for(model, setting), kPaper);
  const std::int64_t block = block_bytes(setting), tokens = setting.s * setting.b;
  for (std::int64_t stage = 0; stage < 3; ++stage) {
    EXPECT_EQ(stages[static_cast<std::size_t>(stage)].activations.count(), (4 - stage) * block);
  }
  EXPECT_EQ(stages[3].activations.count(), block + 2 * tokens * (2 * setting.h + 51200));
}

TEST(ActivationMemory, FullRecomputationKeepsInputsAndOneBlock) {
  Setting setting{.blocks = 12, .layout = {.recomputation = Recomputation::Full}};
  const MoeModel model = gpt(setting.h, setting.a, setting.blocks, setting.s, 1000);
  const std::int64_t tokens = setting.s * setting.b;
  const std::int64_t head = 2 * tokens * (2 * setting.h + 1000);
  EXPECT_EQ(largest_memory(request_for(model, setting)).activations.count(),
            12 * 2 * tokens * setting.h + head + 32 * tokens * setting.h + 4 * tokens * setting.a);
}

TEST(ActivationMemory, PairsThatAShortcutJoinsAreComputedAgainTogether) {
  const MoeModel model = testing_models::paired_model(2, 1, true, Shortcut::Pos2);
  ParallelLayout layout{.data = 2, .recomputation = Recomputation::Full};
  const StepPlanRequest request{model, layout, {1, 1, 16}, {}, 4, {}};
  const std::int64_t stream = 16 * 32 * 4, head = 2 * stream + 16 * 64 * 4;
  const std::int64_t pair = block_activations(request, 0).count() + block_activations(request, 1).count();
  EXPECT_EQ(largest_memory(request).activations.count(), 2 * stream + head + pair);
}

TEST(StateMemory, OfMixedPrecisionAdamIsSixteenBytesAParameterCutByZero) {
  // ZeRO, figure 1, with this project's F32 gradients: (2 + 4) + (4 + 8) bytes a parameter, and K = 12 of the
  // optimizer.
  const MoeModel model = gpt(64, 4, 4, 32, 128);
  for (int stage = 0; stage <= 3; ++stage) {
    const ParallelLayout layout{.data = 4, .zero_stage = stage};
    const StageMemory memory = largest_memory({model, layout, {1, 1, 32}, {}, 2, {}});
    const auto P = static_cast<double>(count_parameters(model).total);
    const auto near = [&](Bytes bytes, double expected) { EXPECT_NEAR(bytes.value() / expected, 1, 0.001) << stage; };
    near(memory.weights, 2 * P / (stage >= 3 ? 4 : 1));
    near(memory.gradients, 4 * P / (stage >= 2 ? 4 : 1));
    near(memory.master + memory.moments, 12 * P / (stage >= 1 ? 4 : 1));
  }
}

TEST(MemoryAdvice, NamesWhatFitsAndNothingWhereNothingDoes) {
  Workload workload;
  workload.model = gpt(1024, 16, 8, 2048, 51200);
  workload.layout = {.data = 8};
  workload.batch = {4, 2, 2048};
  workload.bytes_per_element = 2;
  const StageMemory now = largest_memory(request_of(workload));
  const std::vector<MemoryOption> options = fitting_changes(workload, Bytes(now.total().count() - 1), 3);
  ASSERT_EQ(options.size(), 3U);
  for (const MemoryOption& option : options) EXPECT_LT(option.memory.total(), now.total()) << option.change;
  EXPECT_TRUE(fitting_changes(workload, Bytes(1), 3).empty());

  // Half of it: one change is not enough, and every answer says two.
  const std::vector<MemoryOption> pairs = fitting_changes(workload, Bytes(now.total().count() / 12), 2);
  for (const MemoryOption& option : pairs) {
    EXPECT_NE(option.change.find(", "), std::string::npos);
    EXPECT_LE(option.memory.total().count(), now.total().count() / 12);
  }
}

}  // namespace
}  // namespace moecast
