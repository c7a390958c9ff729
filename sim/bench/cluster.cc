#include <benchmark/benchmark.h>

#include "base/random.h"
#include "hwprofiles/profile_json.h"
#include "sim/collectives.h"
#include "sim/step_executor.h"

namespace moecast {
namespace {

constexpr int kLayers = 12;

/// A step of a model with 12 MoE layers: dispatch and combine beside the shared part of each, forward and backward, and
/// the gradients of experts and of the rest at the end.
StepPlan twelve_layers() {
  StepPlan plan;
  const auto add = [&plan](Lane lane, std::vector<OpId> after) -> Operator& {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(plan.operators.size()));
    op.lane = lane;
    op.kind = lane == Lane::Compute ? OpKind::Mlp : OpKind::Dispatch;
    op.dependencies = std::move(after);
    plan.operators.push_back(std::move(op));
    return plan.operators.back();
  };
  const auto exchange = [&](Collective collective, Group group, std::int64_t bytes, OpId after) {
    Operator& op = add(Lane::Comm, {after});
    op.communication = Communication{collective, group, Bytes(bytes)};
    return op.id;
  };
  const auto compute = [&](std::vector<OpId> after, std::int64_t rows) {
    Operator& op = add(Lane::Compute, std::move(after));
    op.work = {GemmWork{rows, 4096, 4096}};
    return op.id;
  };
  OpId last = compute({}, 4096);
  for (int layer = 0; layer < 2 * kLayers; ++layer) {
    const OpId gate = compute({last}, 512);
    const OpId dispatch = exchange(Collective::AllToAll, Group::Expert, 64 << 20, gate);
    compute({gate}, 4096);
    const OpId experts = compute({dispatch}, 8192);
    last = compute({exchange(Collective::AllToAll, Group::Expert, 64 << 20, experts)}, 4096);
  }
  exchange(Collective::AllReduce, Group::ExpertData, 256 << 20, last);
  compute({exchange(Collective::AllReduce, Group::Data, 512 << 20, last)}, 1024);
  return plan;
}

ParallelLayout layout_of(std::int64_t ranks) {
  ParallelLayout layout;
  layout.data = ranks;
  layout.expert = 64;
  return layout;
}

HardwareProfile h100(std::int64_t ranks) {
  Result<HardwareProfile> profile = find_profile("h100_cluster", ".");
  HardwareProfile hardware = std::move(profile).value();
  hardware.cluster->node_count = ranks / 8;
  return hardware;
}

/// From the plan to the spans, all ranks alike.
void folded(benchmark::State& state) {
  const StepPlan plan = twelve_layers();
  const HardwareProfile hardware = h100(state.range(0));
  const ParallelLayout layout = layout_of(state.range(0));
  const auto end = [&](bool fold) {
    std::vector<Span> spans;
    StepExecutor(plan, layout, plan_costs(std::span(&plan, 1), layout, hardware), {1, {}, fold}).run_classes(spans);
    return spans.back().end;
  };
  if (state.range(0) <= 1024 && std::abs((end(true) - end(false)).count()) > 1000) {
    state.SkipWithError("folded and unfolded disagree");
  }
  for (auto _ : state) benchmark::DoNotOptimize(execute_step_plan(plan, layout, hardware).spans.data());
  state.SetComplexityN(state.range(0));
}
BENCHMARK(folded)
    ->Name("Cluster/folded")
    ->RangeMultiplier(4)
    ->Range(64, 65536)
    ->Unit(benchmark::kMillisecond)
    ->Complexity();

/// Every rank apart, each at a speed of its own.
void skewed(benchmark::State& state) {
  const StepPlan plan = twelve_layers();
  const HardwareProfile hardware = h100(state.range(0));
  const ParallelLayout layout = layout_of(state.range(0));
  ExecutionOptions options;
  options.fold = false;
  const CounterRandom random(7, 0);
  for (std::int64_t rank = 0; rank < state.range(0); ++rank) {
    options.slowdown.push_back(1 + 1e-4 * static_cast<double>(random.below(1000, static_cast<std::uint64_t>(rank), 0)));
  }
  for (auto _ : state) benchmark::DoNotOptimize(execute_step_plan(plan, layout, hardware, options).spans.data());
  state.SetComplexityN(state.range(0));
}
BENCHMARK(skewed)
    ->Name("Cluster/skewed")
    ->RangeMultiplier(4)
    ->Range(64, 65536)
    ->Unit(benchmark::kMillisecond)
    ->Complexity();

/// One all-to-all in which every rank receives a share of its own: its loads by link, and how long it takes.
void uneven(benchmark::State& state) {
  const HardwareProfile hardware = h100(state.range(0));
  const Topology topology(*hardware.cluster);
  const CounterRandom random(7, 0);
  std::vector<std::int32_t> gpus;
  MemberWeights weights;
  for (std::int32_t gpu = 0; gpu < state.range(0); ++gpu) {
    gpus.push_back(gpu);
    weights.sent.push_back(1);
    weights.received.push_back(static_cast<double>(1 + random.below(100, static_cast<std::uint64_t>(gpu), 0)));
  }
  for (auto _ : state) {
    CollectiveModel model(topology, {{Collective::AllToAll, Algorithm::Direct}});
    benchmark::DoNotOptimize(model.uneven_all_to_all(Bytes(64 << 20), model.shape(gpus), gpus, weights).time());
  }
}
BENCHMARK(uneven)->Name("Cluster/uneven_all_to_all")->Arg(64)->Arg(2048)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moecast
