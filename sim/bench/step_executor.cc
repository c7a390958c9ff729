#include "sim/step_executor.h"

#include <benchmark/benchmark.h>

#include "base/random.h"

namespace moecast {
namespace {

/// Blocks of compute, dispatch beside compute, compute, combine beside compute: about what a shortcut schedule makes.
StepPlan shortcut_like(std::int32_t op_count, PlanCosts& costs) {
  const CounterRandom random(1, 0);
  StepPlan plan;
  costs.port = BytesPerSecond(50e9);
  for (std::int32_t i = 0; i < op_count; ++i) {
    Operator op;
    op.id = OpId(i);
    const auto time = Duration(20'000 + random.below(200'000, static_cast<std::uint64_t>(i), 0));
    if (i > 0) op.dependencies = {OpId(i - 1)};
    const bool dispatch = i % 7 == 2, combine = i % 7 == 5;
    if (dispatch || combine) {
      op.kind = dispatch ? OpKind::Dispatch : OpKind::Combine;
      op.lane = Lane::Comm;
      op.communication = Communication{Collective::AllToAll, Group::Expert, Bytes(8'000'000)};
      costs.operators.push_back({Duration(20'000), 7e6, 45e9});
    } else {
      if (i % 7 == 3 || i % 7 == 6) op.dependencies = {OpId(i - 2)};
      costs.operators.push_back({time});
    }
    plan.operators.push_back(op);
  }
  return plan;
}

void run(benchmark::State& state, ExecutionOptions options, Interference interference) {
  PlanCosts costs;
  costs.interference = interference;
  const StepPlan plan = shortcut_like(1000, costs);
  const ParallelLayout layout{state.range(0), state.range(0)};
  if (!options.fold) {  // the answer before the time
    const auto end = [&](bool fold) {
      std::vector<Span> spans;
      StepExecutor(plan, layout, costs, {1, {}, fold}).run(spans);
      return spans.back().end;
    };
    if (end(true) != end(false)) state.SkipWithError("folded and unfolded disagree");
  }
  StepExecutor executor(plan, layout, costs, std::move(options));
  std::vector<Span> spans;
  for (auto _ : state) {
    executor.run(spans);
    benchmark::DoNotOptimize(spans.data());
  }
  state.SetItemsProcessed(executor.ended_count());  // operators that ended
}

void unfolded(benchmark::State& state) { run(state, {1, {}, false}, {}); }
BENCHMARK(unfolded)->Name("StepExecutor/unfolded")->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond);

void interfering(benchmark::State& state) { run(state, {1, {}, false}, {1.1, 1.3}); }
BENCHMARK(interfering)->Name("StepExecutor/unfolded_interfering")->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond);

void folded(benchmark::State& state) { run(state, {1, {}, true}, {1.1, 1.3}); }
BENCHMARK(folded)->Name("StepExecutor/folded")->Arg(8)->Arg(64)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace moecast
