// Plans of inference steps: forward alone, one token after a cache, experts that come from the host.
#include <algorithm>

#include <gtest/gtest.h>

#include "models/memory.h"
#include "models/operator_work.h"
#include "models/step_plan.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::paired_model;

constexpr ParallelLayout kAlone{};

StepPlan plan_of(const MoeModel& model, const ParallelLayout& layout, Batch batch, Schedule schedule, StepTask task,
                 bool experts_on_host = false) {
  StepPlanRequest request{model, layout, batch, schedule, 2, [](const Operator&) { return Duration(1); }};
  request.task = task;
  request.experts_on_host = experts_on_host;
  Result<StepPlan> plan = build_step_plan(request);
  EXPECT_TRUE(plan.ok()) << plan.error().text();
  return plan.ok() ? std::move(plan).value() : StepPlan{};
}

std::vector<const Operator*> operators_of(const StepPlan& plan, OpKind kind) {
  std::vector<const Operator*> found;
  for (const Operator& op : plan.operators) {
    if (op.kind == kind) found.push_back(&op);
  }
  return found;
}

double compute_flops(const StepPlan& plan, Phase phase, bool with_head) {
  double total = 0;
  for (const Operator& op : plan.operators) {
    if (op.phase != phase || (op.kind == OpKind::Head && !with_head)) continue;
    for (const Work& work : op.work) total += flops(work).value();
  }
  return total;
}

MoeModel dropless(Shortcut shortcut) {
  MoeModel model = paired_model(1, shortcut == Shortcut::None ? 2 : 1, shortcut != Shortcut::None, shortcut);
  model.max_sequence = 128;
  for (Block& block : model.blocks) {
    if (block.moe) block.moe->capacity_factor.reset();
  }
  return model;
}

TEST(InferencePlan, PrefillIsTheForwardOfTraining) {
  for (const ScheduleKind kind : {ScheduleKind::Sequential, ScheduleKind::Shortcut}) {
    const MoeModel model = dropless(Shortcut::Pos2);
    const StepPlan training = plan_of(model, kAlone, {2, 1, 16}, {kind}, StepTask::Training);
    const StepPlan prefill = plan_of(model, kAlone, {2, 1, 16}, {kind}, StepTask::Prefill);
    for (const Operator& op : prefill.operators) EXPECT_EQ(op.phase, Phase::Forward) << op.name();
    EXPECT_DOUBLE_EQ(compute_flops(prefill, Phase::Forward, false), compute_flops(training, Phase::Forward, false));
    const auto forward =
        static_cast<std::size_t>(std::count_if(training.operators.begin(), training.operators.end(),
                                               [](const Operator& op) { return op.phase == Phase::Forward; }));
    EXPECT_EQ(prefill.operators.size(), forward);
  }
}

TEST(InferencePlan, LogitsAreOfTheLastToken) {
  const MoeModel model = dropless(Shortcut::None);
  const StepPlan plan = plan_of(model, kAlone, {3, 1, 16}, {}, StepTask::Prefill);
  const auto heads = operators_of(plan, OpKind::Head);
  ASSERT_EQ(heads.size(), 1U);
  ASSERT_EQ(heads[0]->work.size(), 2U);
  EXPECT_EQ(std::get<GemmWork>(heads[0]->work[1]).m, 3);
}

TEST(InferencePlan, DecodingReadsTheCacheForOneToken) {
  const MoeModel model = dropless(Shortcut::None);
  const StepPlan plan = plan_of(model, kAlone, {4, 1, 16}, {}, StepTask::Decode);
  for (const Operator* op : operators_of(plan, OpKind::Attention)) {
    const auto core = std::find_if(op->work.begin(), op->work.end(),
                                   [](const Work& work) { return std::holds_alternative<AttentionWork>(work); });
    ASSERT_NE(core, op->work.end());
    const auto& work = std::get<AttentionWork>(*core);
    EXPECT_EQ(work.cached, 16);
    EXPECT_EQ(work.sequence, 1);
    const Attention& attention = model.attention;
    // 4 queries of 17 keys each; two products.
    EXPECT_DOUBLE_EQ(flops(*core).value(), 2.0 * 2 * 4 * 17 * static_cast<double>(attention.query_width()));
    EXPECT_EQ(bytes(*core, 2).count(), 2 * 4 * (2 * attention.query_width() + 17 * 2 * attention.kv_width()));
  }
  const auto gates = operators_of(plan, OpKind::Gate);
  ASSERT_EQ(gates.size(), 1U);
  EXPECT_EQ(std::get<GemmWork>(gates[0]->work[1]).m, 4);
}

TEST(InferencePlan, DecodingSeesNoMoreThanTheWindow) {
  AttentionWork work{2, 1, 4, 4, 64};
  work.cached = 1000;
  const double all = flops(Work(work)).value();
  work.window = 100;
  EXPECT_DOUBLE_EQ(flops(Work(work)).value() / all, 100.0 / 1001);
  EXPECT_EQ(bytes(Work(work), 2).count(), 2 * (2 * 2 * 4 * 64 + 2 * 100 * 4 * 2 * 64));
}

/// DeepSeek-V2 (arXiv 2405.04434, section 2.1.2): every head meets the same cached latent, which is read once.
TEST(InferencePlan, LatentAttentionDecodesFromItsLatents) {
  MoeModel model = dropless(Shortcut::None);
  model.attention = {4, 4, 16};
  model.attention.latent = LatentAttention{24, 32, 12, 4, 10};
  const StepPlan plan = plan_of(model, kAlone, {2, 1, 64}, {}, StepTask::Decode);
  const auto attentions = operators_of(plan, OpKind::Attention);
  ASSERT_FALSE(attentions.empty());
  for (const Work& work : attentions[0]->work) {
    if (!std::holds_alternative<AttentionWork>(work)) continue;
    EXPECT_DOUBLE_EQ(flops(work).value(), 2.0 * 2 * 4 * 65 * (36 + 32));
    EXPECT_EQ(bytes(work, 2).count(), 2 * (2 * 4 * (36 + 32) + 2 * 65 * 36));
  }
}

TEST(InferencePlan, ExpertsFromTheHostFollowTheGateAtOnce) {
  const MoeModel model = dropless(Shortcut::Pos2);
  const StepPlan plan = plan_of(model, kAlone, {1, 1, 16}, {ScheduleKind::Shortcut, 1, 4, 1}, StepTask::Decode, true);
  const auto fetches = operators_of(plan, OpKind::ExpertFetch);
  const auto gates = operators_of(plan, OpKind::Gate);
  const auto experts = operators_of(plan, OpKind::Expert);
  ASSERT_EQ(fetches.size(), 1U);
  ASSERT_EQ(gates.size(), 1U);
  ASSERT_EQ(experts.size(), 1U);
  EXPECT_EQ(fetches[0]->lane, Lane::CopyIn);
  EXPECT_EQ(fetches[0]->dependencies, (std::vector<OpId>{gates[0]->id}));
  const auto& needs = experts[0]->dependencies;
  EXPECT_NE(std::find(needs.begin(), needs.end(), fetches[0]->id), needs.end());
  // One expert of two matrices and two biases.
  const MoeFfn& moe = *model.blocks[1].moe;
  const std::int64_t d = model.d_model, f = moe.expert_width;
  EXPECT_EQ(fetches[0]->host_bytes.count(), 2 * (2 * d * f + (model.bias ? d + f : 0)));
}

TEST(InferencePlan, ManyTokensChooseEveryExpert) {
  const MoeModel model = dropless(Shortcut::None);
  const auto fetched = [&](std::int64_t sequences) {
    const StepPlan plan = plan_of(model, kAlone, {sequences, 1, 16}, {}, StepTask::Decode, true);
    return operators_of(plan, OpKind::ExpertFetch).at(0)->host_bytes.value();
  };
  const double one = fetched(1) / 2;  // top-2: both are different
  EXPECT_NEAR(fetched(1000) / one, 8, 1e-6);
  EXPECT_NEAR(fetched(2) / one, 8 * (1 - 0.75 * 0.75), 1e-6);
}

TEST(InferencePlan, MemoryIsWeightsAndCache) {
  const MoeModel model = dropless(Shortcut::Pos2);
  StepPlanRequest request{model, kAlone, {4, 1, 16}, {}, 2, {}};
  request.task = StepTask::Decode;
  const StageMemory all = largest_memory(request);
  EXPECT_EQ(all.gradients.count() + all.master.count() + all.moments.count() + all.activations.count(), 0);
  EXPECT_EQ(all.cache.count(), 2 * 4 * 17 * 2 * 2 * model.attention.kv_width());  // bf16, two blocks, keys and values
  request.experts_on_host = true;
  EXPECT_LT(largest_memory(request).weights, all.weights);
}

TEST(InferencePlan, RefusesWhatBelongsToTraining) {
  const MoeModel model = dropless(Shortcut::Pos2);
  const auto refused = [&](const std::function<void(StepPlanRequest&, ParallelLayout&)>& change) {
    ParallelLayout layout;
    StepPlanRequest request{model, layout, {4, 1, 16}, {}, 2, {}};
    request.task = StepTask::Decode;
    change(request, layout);
    return !check_plan(request).ok();
  };
  EXPECT_FALSE(refused([](StepPlanRequest&, ParallelLayout&) {}));
  EXPECT_TRUE(refused([](StepPlanRequest& request, ParallelLayout&) {
    request.task = StepTask::Training;
    request.experts_on_host = true;
  }));
  EXPECT_TRUE(refused([](StepPlanRequest&, ParallelLayout& layout) { layout.recomputation = Recomputation::Full; }));
  EXPECT_TRUE(refused([](StepPlanRequest&, ParallelLayout& layout) {
    layout.data = 2;
    layout.zero_stage = 1;
  }));
  EXPECT_TRUE(refused([](StepPlanRequest&, ParallelLayout& layout) { layout.context = 2; }));
  EXPECT_TRUE(refused([](StepPlanRequest& request, ParallelLayout&) { request.batch.sequence = 128; }));
  EXPECT_TRUE(refused([](StepPlanRequest& request, ParallelLayout& layout) {
    layout.tensor = 8;
    layout.sequence_parallel = true;
    request.batch.micro_batch = 4;
  }));
}

}  // namespace
}  // namespace moecast
