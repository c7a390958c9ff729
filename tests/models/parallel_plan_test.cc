/// Plans of ZeRO, tensor and context parallelism and recomputation: what travels, how much, and what is computed.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>
#include <set>

#include "models/state_inventory.h"
#include "models/step_plan.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;

constexpr std::int64_t kElement = 2;

struct Setting {
  ParallelLayout layout = {};
  Batch batch = {2, 2, 16};
  Schedule schedule = {ScheduleKind::Pipelined, 1, {}, {}};
};

MoeModel dense_model(std::int64_t blocks = 4) {
  MoeModel model = paired_model(1, 1, false, Shortcut::None);
  model.attention = {4, 4, 8};
  model.blocks.assign(static_cast<std::size_t>(blocks), Block{64, std::nullopt});
  return model;
}

StepPlan plan_of(const MoeModel& model, const Setting& setting) {
  Result<StepPlan> plan = build_step_plan({model, setting.layout, setting.batch, setting.schedule, kElement, {}});
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  return plan.ok() ? std::move(plan).value() : StepPlan{};
}

struct Moved {
  std::int64_t count = 0, bytes = 0;
};
/// By kind and collective.
std::map<std::pair<OpKind, Collective>, Moved> moved(const StepPlan& plan) {
  std::map<std::pair<OpKind, Collective>, Moved> sums;
  for (const Operator& op : plan.operators) {
    if (!op.communication) continue;
    Moved& sum = sums[{op.kind, op.communication->collective}];
    sum.count += 1;
    sum.bytes += op.communication->buffer.count();
  }
  return sums;
}

double all_flops(const StepPlan& plan, std::optional<Phase> phase = std::nullopt) {
  double sum = 0;
  for (const Operator& op : plan.operators) {
    if (phase && op.phase != *phase) continue;
    for (const Work& work : op.work) sum += flops(work).value();
  }
  return sum;
}

const Operator& named(const StepPlan& plan, const std::string& name, std::int32_t micro_batch = 0) {
  for (const Operator& op : plan.operators) {
    if (op.name() == name && op.micro_batch == micro_batch) return op;
  }
  ADD_FAILURE() << "no operator " << name;
  return plan.operators.front();
}

/// Does `later` wait, directly or through others, for `earlier`? Lanes are first in, first out.
bool waits_for(const StepPlan& plan, const Operator& later, const Operator& earlier) {
  std::vector<bool> reached(plan.operators.size(), false);
  reached[later.id.index()] = true;
  std::array<bool, kLaneCount> lane{};
  for (std::size_t i = later.id.index() + 1; i-- > earlier.id.index();) {
    const Operator& op = plan.operators[i];
    reached[i] = reached[i] || lane[static_cast<std::size_t>(op.lane)];
    if (!reached[i]) continue;
    lane[static_cast<std::size_t>(op.lane)] = true;
    for (const OpId dependency : op.dependencies) reached[dependency.index()] = true;
  }
  return reached[earlier.id.index()];
}

TEST(NamesOfAParallelPlan, AreUniqueUpToTheMicroBatch) {
  Setting setting{.layout = {.data = 4, .expert = 4, .tensor = 2, .zero_stage = 3}};
  setting.layout.sequence_parallel = true;
  setting.layout.context = 2;
  for (const Recomputation again : {Recomputation::None, Recomputation::Selective, Recomputation::Full}) {
    setting.layout.recomputation = again;
    std::set<std::pair<std::string, std::int32_t>> names;
    for (const Operator& op : plan_of(paired_model(2, 1, true, Shortcut::Pos2), setting).operators) {
      EXPECT_TRUE(names.insert({op.name(), op.micro_batch}).second) << op.name();
    }
  }
}

// ZeRO ----------------------------------------------------------------------------------------------------------------

TEST(ZeroPlan, MovesAsMuchAsAnAllReduceAndHalfAsMuchAgainWithDividedWeights) {
  // ZeRO (arXiv 1910.02054), section 7: stages 1 and 2 move 2 P as stage 0 does, stage 3 moves 3 P. (Here weights
  // travel in the compute type and gradients in F32; stage 2 reduces in every micro-batch.)
  const MoeModel model = dense_model();
  const std::int64_t elements = count_parameters(model).total;
  for (int stage = 0; stage <= 3; ++stage) {
    Setting setting{.layout = {.data = 4, .zero_stage = stage}};
    const auto sums = moved(plan_of(model, setting));
    const auto bytes = [&](OpKind kind, Collective collective) {
      const auto found = sums.find({kind, collective});
      return found == sums.end() ? 0 : found->second.bytes;
    };
    const std::int64_t reductions = stage >= 2 ? 2 : 1;  // micro-batches
    EXPECT_EQ(bytes(OpKind::GradientReduce, Collective::AllReduce), stage == 0 ? 4 * elements : 0);
    EXPECT_EQ(bytes(OpKind::GradientReduce, Collective::ReduceScatter), stage == 0 ? 0 : reductions * 4 * elements);
    const std::int64_t blocks = elements - (64 + 16) * 32 - 2 * 32;
    const std::int64_t ends = elements - blocks;
    // Stage 3: a block before its forward and its backward, the ends once (tied words twice) in each micro-batch.
    const std::int64_t gathered = stage == 0 ? 0 : stage <= 2 ? elements : 2 * (2 * blocks + ends + (64 + 16) * 32);
    EXPECT_EQ(bytes(OpKind::WeightGather, Collective::AllGather), kElement * gathered) << stage;
  }
}

TEST(ZeroPlan, OptimizerAndNormWorkOnShards) {
  const MoeModel model = dense_model();
  const auto rows = [&](int stage, MemoryKernel kernel) {
    std::int64_t sum = 0;
    for (const Operator& op : plan_of(model, {.layout = {.data = 4, .zero_stage = stage}}).operators) {
      for (const Work& work : op.work) {
        const auto* memory = std::get_if<MemoryWork>(&work);
        if (memory != nullptr && memory->kernel == kernel) sum += memory->columns;
      }
    }
    return sum;
  };
  const std::int64_t elements = count_parameters(model).total;  // every tensor of it divides by 4
  for (const int stage : {1, 2, 3}) {
    EXPECT_EQ(rows(stage, MemoryKernel::AdamW), elements / 4);
    EXPECT_EQ(rows(stage, MemoryKernel::SquaredNorm), elements / 4);
    EXPECT_EQ(rows(stage, MemoryKernel::Fill), stage == 1 ? elements : elements / 4);
  }
  EXPECT_EQ(rows(0, MemoryKernel::AdamW), elements);
}

TEST(ZeroPlan, NormsAreSummedOverTheRanksThatHaveTheOtherShards) {
  const auto groups = [](const ParallelLayout& layout) {
    std::vector<std::string> names;
    for (const Operator& op : plan_of(paired_model(2, 1, false, Shortcut::None), {.layout = layout}).operators) {
      if (op.kind == OpKind::GradientNorm && op.communication) names.push_back(op.name());
    }
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(groups({.data = 4, .expert = 2}), Names{"GradientNorm.U.expert"});
  EXPECT_EQ(groups({.data = 4, .expert = 2, .zero_stage = 1}),
            (Names{"GradientNorm.U.data", "GradientNorm.U.expert_data", "GradientNorm.U.expert"}));
  EXPECT_EQ(groups({.data = 4, .expert = 4, .zero_stage = 2}), (Names{"GradientNorm.U.data", "GradientNorm.U.expert"}));
}

TEST(ZeroPlan, ReducesABlockWhenItsLastMicroBatchIsDoneAndBesideTheNext) {
  const StepPlan plan =
      plan_of(paired_model(2, 1, true, Shortcut::Pos2), {.layout = {.data = 4, .expert = 2, .zero_stage = 1}});
  for (const Operator& op : plan.operators) {
    if (op.kind != OpKind::GradientReduce) continue;
    EXPECT_EQ(op.micro_batch, 1) << op.name();
  }
  const Operator& reduce = named(plan, "L3.GradientReduce.B.data", 1);
  EXPECT_TRUE(waits_for(plan, reduce, named(plan, "L3.Gate.B", 1)));
  EXPECT_TRUE(waits_for(plan, reduce, named(plan, "L3.Attention.B", 1)));
  EXPECT_FALSE(waits_for(plan, named(plan, "L2.Attention.B", 1), reduce));  // they run beside each other
  EXPECT_TRUE(waits_for(plan, named(plan, "L3.WeightGather.U.expert_data"), named(plan, "Optimizer.U")));
}

TEST(ZeroPlan, StageTwoWaitsForItsWorkingBuffers) {
  const StepPlan plan = plan_of(dense_model(), {.layout = {.data = 4, .zero_stage = 2}});
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Mlp.B"), named(plan, "L3.GradientReduce.B.data")));
  EXPECT_FALSE(waits_for(plan, named(plan, "L2.Mlp.B"), named(plan, "L3.GradientReduce.B.data")));
  EXPECT_TRUE(waits_for(plan, named(plan, "L3.Mlp.B", 1), named(plan, "L1.GradientReduce.B.data")));
}

TEST(ZeroPlan, StageThreeGathersOneBlockAhead) {
  const StepPlan plan = plan_of(dense_model(), {.layout = {.data = 4, .zero_stage = 3}});
  EXPECT_TRUE(waits_for(plan, named(plan, "L2.Attention.F"), named(plan, "L2.WeightGather.F.data")));
  EXPECT_FALSE(waits_for(plan, named(plan, "L2.WeightGather.F.data"), named(plan, "L1.Attention.F")));
  EXPECT_TRUE(waits_for(plan, named(plan, "L2.WeightGather.F.data"), named(plan, "L0.Mlp.F")));
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Mlp.B"), named(plan, "L1.WeightGather.B.data")));
}

// Tensor parallelism --------------------------------------------------------------------------------------------------

TEST(TensorPlan, HasTheCollectivesOfMegatron) {
  const MoeModel model = dense_model(3);
  const std::int64_t stream = 2 * 16 * 32 * kElement;
  Setting setting{.layout = {.tensor = 2}, .batch = {2, 1, 16}};
  auto sums = moved(plan_of(model, setting));
  // Two all-reduces in the forward and two in the backward of a block (arXiv 1909.08053, section 3); one each for the
  // embedding, the head's gradient and the loss.
  const Moved reduced = sums.at({OpKind::TensorReduce, Collective::AllReduce});
  EXPECT_EQ(reduced.count, 3 * 4 + 3);
  EXPECT_EQ(reduced.bytes, (3 * 4 + 2) * stream + 3 * 2 * 16 * 4);
  EXPECT_FALSE(sums.contains({OpKind::TensorGather, Collective::AllGather}));

  setting.layout.sequence_parallel = true;
  sums = moved(plan_of(model, setting));
  // Each all-reduce becomes a reduce-scatter and an all-gather, and the input is gathered once more for the weights'
  // gradient (arXiv 2205.05198, section 4.2.2): of every product, the head among them.
  EXPECT_EQ(sums.at({OpKind::TensorReduce, Collective::ReduceScatter}).count, 3 * 4 + 2);
  EXPECT_EQ(sums.at({OpKind::TensorGather, Collective::AllGather}).count, 3 * (2 + 2 + 2) + 2 + 1);
  EXPECT_EQ(sums.at({OpKind::TensorGather, Collective::AllGather}).bytes, (3 * 6 + 3) * stream);
}

TEST(TensorPlan, DividesProductsAndParameters) {
  const MoeModel model = dense_model();
  const double whole = all_flops(plan_of(model, {}));
  for (const bool sequence_parallel : {false, true}) {
    for (const std::int64_t t : {2, 4}) {
      Setting setting{.layout = {.tensor = t, .sequence_parallel = sequence_parallel}};
      EXPECT_DOUBLE_EQ(all_flops(plan_of(model, setting)), whole / static_cast<double>(t));
      std::map<std::string, std::int64_t> elements;
      for (std::int32_t rank = 0; rank < t; ++rank) {
        for (const Parameter& parameter : parameters_of_rank(model, setting.layout, Rank(rank))) {
          elements[parameter.name] += parameter.element_count() / (parameter.tensor_axis ? 1 : t);
        }
      }
      for (const Parameter& parameter : parameters(model)) {
        EXPECT_EQ(elements[parameter.name], parameter.element_count()) << parameter.name;
      }
    }
  }
}

TEST(TensorPlan, InputGradientsTravelBesideTheWeightGradients) {
  const StepPlan plan = plan_of(dense_model(), {.layout = {.tensor = 2, .sequence_parallel = true}});
  const Operator& reduce = named(plan, "L1.Mlp.TensorReduce.B");
  EXPECT_TRUE(waits_for(plan, reduce, named(plan, "L1.Mlp.B")));
  EXPECT_FALSE(waits_for(plan, reduce, named(plan, "L1.Mlp.W")));
  EXPECT_FALSE(waits_for(plan, named(plan, "L1.Mlp.W"), reduce));
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Attention.B"), reduce));
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Mlp.W"), named(plan, "L1.Mlp.TensorGather.W")));
}

TEST(TensorPlan, EveryTensorRankRoutesItsOwnTokens) {
  const MoeModel model = paired_model(1, 1, true, Shortcut::Pos2);
  const auto dispatched = [&](const ParallelLayout& layout) {
    return named(plan_of(model, {.layout = layout, .batch = {2, 1, 16}}), "L1.Dispatch.F")
        .communication->buffer.count();
  };
  // E C d b with the capacity of the rank's tokens: 2 ranks with half of them each move as much as one with all.
  EXPECT_EQ(dispatched({.data = 2, .expert = 2}), 8 * 8 * 32 * kElement);
  EXPECT_EQ(dispatched({.data = 1, .expert = 2, .tensor = 2, .sequence_parallel = true}), 8 * 4 * 32 * kElement);
}

TEST(TensorPlan, GradientsOfWhatTensorRanksHaveInCommonAreSummed) {
  const MoeModel model = dense_model(1);
  const StepPlan plan = plan_of(model, {.layout = {.tensor = 2, .sequence_parallel = true}});
  std::int64_t common = 0;  // norms, positions and the biases behind a sum
  for (const Parameter& parameter : parameters(model)) common += parameter.tensor_axis ? 0 : parameter.element_count();
  EXPECT_EQ(named(plan, "GradientReduce.U.tensor").communication->buffer, Bytes(4 * common));
}

// Context parallelism -------------------------------------------------------------------------------------------------

TEST(ContextPlan, DividesTokensAndGathersKeysAndValues) {
  const MoeModel model = dense_model();
  const double whole = all_flops(plan_of(model, {}));
  const StepPlan plan = plan_of(model, {.layout = {.context = 2}});
  EXPECT_DOUBLE_EQ(all_flops(plan), whole / 2);
  const std::int64_t key_value = 2 * 16 * 2 * 32 * kElement;
  EXPECT_EQ(named(plan, "L1.Attention.ContextGather.F").communication->buffer, Bytes(key_value));
  EXPECT_EQ(named(plan, "L1.Attention.ContextReduce.B").communication->buffer, Bytes(key_value));
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Attention.F"), named(plan, "L1.Attention.ContextGather.F")));
  EXPECT_EQ(named(plan, "GradientReduce.U.data").communication->collective,
            Collective::AllReduce);  // weights are copies
}

// Recomputation -------------------------------------------------------------------------------------------------------

TEST(RecomputationPlan, RunsTheForwardOfTheBlocksAgain) {
  for (const Shortcut shortcut : {Shortcut::None, Shortcut::Pos1, Shortcut::Pos2, Shortcut::Pos3}) {
    const MoeModel model = paired_model(2, 1, true, shortcut);
    Setting setting{
        .layout = {.data = 4, .expert = 4}, .batch = {2, 1, 16}, .schedule = {ScheduleKind::Shortcut, 2, 1, 1}};
    const StepPlan without = plan_of(model, setting);
    setting.layout.recomputation = Recomputation::Full;
    const StepPlan again = plan_of(model, setting);
    std::multiset<std::string> forward, recomputed;
    for (const Operator& op : again.operators) {
      std::string name = op.name();
      const std::size_t phase = name.rfind(".c") == std::string::npos ? name.size() - 1 : name.rfind(".c") - 1;
      name[phase] = '-';
      if (op.phase == Phase::Recompute) recomputed.insert(name);
      if (op.phase == Phase::Forward && op.layer && op.kind != OpKind::Counts) forward.insert(name);
    }
    EXPECT_EQ(forward, recomputed);
    EXPECT_DOUBLE_EQ(all_flops(again) - all_flops(without), all_flops(again, Phase::Recompute));
    EXPECT_TRUE(waits_for(again, named(again, "L0.Mlp.B"), named(again, "L0.Mlp.R")));
    EXPECT_TRUE(waits_for(again, named(again, "L1.Decode.R"), named(again, "L3.Attention.B")));
  }
}

TEST(RecomputationPlan, SelectiveRunsTheAttentionCoreAgain) {
  const MoeModel model = dense_model();
  const StepPlan plan = plan_of(model, {.layout = {.recomputation = Recomputation::Selective}});
  double cores = 0;
  for (const Operator& op : plan.operators) {
    for (const Work& work : op.work) {
      if (op.phase == Phase::Forward && std::holds_alternative<AttentionWork>(work)) cores += flops(work).value();
    }
  }
  EXPECT_GT(cores, 0);
  EXPECT_DOUBLE_EQ(all_flops(plan, Phase::Recompute), cores);
  EXPECT_TRUE(waits_for(plan, named(plan, "L1.Attention.B"), named(plan, "L1.Attention.R")));
}

}  // namespace
}  // namespace moecast
