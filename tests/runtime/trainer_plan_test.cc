/// The trainer runs what the plan says: the kernels that each operator calls are those of Operator::work, one to one.

#include <thread>

#include <gtest/gtest.h>

#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"
#include "runtime/trainer/slot_choice.h"
#include "tests/runtime/recording_backend_testing.h"
#include "tests/runtime/trainer_testing.h"

namespace moecast::testing {

std::string describe(const Work& work) {
  if (const auto* gemm = std::get_if<GemmWork>(&work)) return fmt::format("gemm {} {} {}", gemm->m, gemm->n, gemm->k);
  if (const auto* grouped = std::get_if<GroupedGemmWork>(&work)) {
    return fmt::format("grouped gemm {} x {} {} {}", grouped->groups, grouped->rows, grouped->n, grouped->k);
  }
  if (const auto* core = std::get_if<AttentionWork>(&work)) {
    return fmt::format("attention {} {} {} {} {} {}", core->batch, core->sequence, core->heads, core->kv_heads,
                       core->head_dim, core->backward ? "backward" : "forward");
  }
  const auto& memory = std::get<MemoryWork>(work);
  return fmt::format("{} {} {}", to_text(memory.kernel), memory.rows, memory.columns);
}

namespace {

/// Runs operators through another runner and compares what they called with what they should have.
class KernelChecker final : public OperatorRunner {
 public:
  KernelChecker(OperatorRunner& inner, RecordingBackend& backend) : inner_(inner), backend_(backend) {}

  Status run(const Operator& op) override {
    if (op.lane != Lane::Compute) return inner_.run(op);
    std::vector<std::string> expected;
    for (const Work& work : op.work) expected.push_back(describe(work));
    backend_.kernels.clear();
    const Status status = inner_.run(op);
    EXPECT_EQ(backend_.kernels, expected) << op.name();
    ++checked;
    return status;
  }
  void abandon(const Error& reason) override { inner_.abandon(reason); }

  int checked = 0;

 private:
  OperatorRunner& inner_;
  RecordingBackend& backend_;
};

void check_rank(const Workload& workload, const StepPlan& plan, Rank rank, const Groups& groups) {
  RecordingBackend backend(make_cpu_backend());
  const SteadyClock clock;
  const auto trainer = std::move(RankTrainer::make({workload, rank, backend, groups, clock})).value();
  TokenBatch batch;
  for (std::int64_t i = 0; i < workload.batch.tokens() * workload.batch.micro_batch_count; ++i) {
    batch.ids.push_back(static_cast<std::int32_t>((i * 7 + rank.value()) % workload.model.vocabulary));
    batch.targets.push_back(static_cast<std::int32_t>((i * 5 + 1) % workload.model.vocabulary));
  }
  KernelChecker checker(trainer->runner(), backend);
  const Result<StepOutcome> outcome = trainer->run(plan, batch, 0, {}, &checker);
  ASSERT_TRUE(outcome.ok()) << outcome.error().text();
  EXPECT_GT(checker.checked, 20);
  EXPECT_EQ(outcome->spans.size(), plan.operators.size());
}

void expect_planned_kernels(const Workload& workload) {
  const Result<StepPlan> plan = plan_with_first_slots(workload);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  const std::vector<Groups> groups = make_inproc_groups(workload.layout, {});
  std::vector<std::jthread> ranks;
  for (std::int32_t rank = 0; rank < workload.layout.world_size(); ++rank) {
    ranks.emplace_back([&, rank] { check_rank(workload, *plan, Rank(rank), groups[static_cast<std::size_t>(rank)]); });
  }
}

void set_capacity(Workload& workload, double factor) {
  for_each_moe(workload, [&](MoeFfn& moe) { moe.capacity_factor = factor; });
}

TEST(PlannedKernels, SequentialTop2WithBiases) {
  Workload workload = tiny_workload();
  set_capacity(workload, 1.25);
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, DroplessOnOneExpertHasTheBalancedMeanExactly) {
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) {
    moe.expert_count = 1;
    moe.gate.top_k = 1;
  });
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, SharedExpertWithCoefficientGate) {
  Workload workload = tiny_workload();
  use_shared_expert(workload, Shortcut::None);
  set_capacity(workload, 2);
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, ShortcutWithSplitExpertBackwardTwoRanksAndMicroBatches) {
  Workload workload = tiny_workload();
  use_shared_expert(workload, Shortcut::Pos2);
  set_capacity(workload, 1);
  workload.layout.data = workload.layout.expert = 2;
  workload.batch.micro_batch_count = 2;
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 3};
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, ChunksOverFourRanksInTwoExpertGroups) {
  Workload workload = tiny_workload();
  set_capacity(workload, 2);
  workload.layout.data = 4;
  workload.layout.expert = 2;
  workload.schedule = {ScheduleKind::Pipelined, 3};
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, ShardedOptimizer) {
  // Widths that the ranks divide: the plan is that of a rank with full shards.
  for (const int stage : {1, 2}) {
    Workload workload = tiny_workload();
    set_capacity(workload, 2);
    workload.layout.data = workload.layout.expert = 2;
    workload.layout.zero_stage = stage;
    workload.batch.micro_batch_count = 2;
    expect_planned_kernels(workload);
    workload.layout.expert = 1;
    expect_planned_kernels(workload);
  }
}

TEST(PlannedKernels, EveryRouter) {
  for (const RouterCase& router : router_cases()) {
    SCOPED_TRACE(router.name);
    Workload workload = tiny_workload();
    for_each_moe(workload, router.change);
    set_capacity(workload, 1);
    workload.batch.micro_batch_count = 2;
    workload.layout.data = workload.layout.expert = 2;
    expect_planned_kernels(workload);
  }
}

TEST(PlannedKernels, SelectionBiasInShards) {
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) { moe.gate.selection_bias = true; });
  set_capacity(workload, 2);
  workload.layout.data = workload.layout.expert = 2;
  workload.layout.zero_stage = 1;
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, DoubleGateAndTwoCoefficientsWithZeroExperts) {
  Workload workload = tiny_workload();
  for_each_moe(workload, [](MoeFfn& moe) {
    moe.double_gate = true;
    moe.shortcut = Shortcut::Pos2;
  });
  set_capacity(workload, 1);
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 3};
  expect_planned_kernels(workload);

  workload = tiny_workload();
  use_shared_expert(workload, Shortcut::Pos2, CoefficientGate::Cg2);
  for_each_moe(workload, [](MoeFfn& moe) { moe.zero_expert_count = 4; });
  set_capacity(workload, 1);
  expect_planned_kernels(workload);
}

TEST(PlannedKernels, LlamaStyleWithRopeSwiGluAndAnOutputProjection) {
  Workload workload = tiny_workload();
  use_llama_style(workload);
  use_shared_expert(workload, Shortcut::Pos3, CoefficientGate::DirectAdd);
  set_capacity(workload, 2);
  expect_planned_kernels(workload);
}

TEST(PlanSubset, KeepsOrderAndRenumbersWhatItKeeps) {
  const Workload workload = tiny_workload();
  const Result<StepPlan> plan = plan_with_first_slots(workload);
  ASSERT_TRUE(plan.ok());
  const StepPlan forward = forward_plan(*plan);
  ASSERT_FALSE(forward.operators.empty());
  EXPECT_EQ(forward.operators.back().name(), "Head.F");
  for (std::size_t i = 0; i < forward.operators.size(); ++i) {
    EXPECT_EQ(forward.operators[i].phase, Phase::Forward);
    EXPECT_EQ(forward.operators[i].id.index(), i);
    for (const OpId dependency : forward.operators[i].dependencies) EXPECT_LT(dependency.index(), i);
    EXPECT_EQ(forward.operators[i].dependencies.empty(), i == 0);
  }
}

}  // namespace
}  // namespace moecast::testing
