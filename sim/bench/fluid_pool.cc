#include "sim/fluid_pool.h"

#include <benchmark/benchmark.h>

#include "base/random.h"

namespace moecast {
namespace {

/// Runs until every flow has ended; returns how many did.
std::int64_t drain(FluidPool& pool) {
  std::vector<FlowId> completed;
  std::int64_t ended = 0;
  for (pool.settle(); pool.next_completion(); pool.settle()) {
    completed.clear();
    pool.advance(*pool.next_completion(), completed);
    ended += static_cast<std::int64_t>(completed.size());
  }
  return ended;
}

/// An unbalanced exchange as one row for each rank: its own port and a switch that all of them share.
void skewed_exchange(benchmark::State& state) {
  const auto ranks = static_cast<std::int32_t>(state.range(0));
  const CounterRandom random(1, 0);
  for (auto _ : state) {
    FluidPool pool(std::vector<double>(static_cast<std::size_t>(ranks) + 1, 50e9));
    pool.set_capacity(ResourceId(ranks), 25e9 * ranks);
    for (std::int32_t rank = 0; rank < ranks; ++rank) {
      const std::vector<ResourceUse> uses = {{ResourceId(rank), 1}, {ResourceId(ranks), 1}};
      Flow flow;
      flow.size = 1e6 * (1 + random.uniform(static_cast<std::uint64_t>(rank), 0));
      flow.uses = uses;
      pool.start(flow);
    }
    benchmark::DoNotOptimize(drain(pool));
  }
  state.SetItemsProcessed(state.iterations() * ranks);
}
BENCHMARK(skewed_exchange)
    ->Name("FluidPool/skewed_exchange")
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->Unit(benchmark::kMillisecond);

/// Pairs of ranks that talk apart from one another: every end touches one small component.
void separate_pairs(benchmark::State& state) {
  const auto pairs = static_cast<std::int32_t>(state.range(0));
  const CounterRandom random(2, 0);
  for (auto _ : state) {
    FluidPool pool(std::vector<double>(static_cast<std::size_t>(pairs), 50e9));
    for (std::int32_t i = 0; i < 2 * pairs; ++i) {
      const std::vector<ResourceUse> uses = {{ResourceId(i / 2), 1}};
      Flow flow;
      flow.size = 1e6 * (1 + random.uniform(static_cast<std::uint64_t>(i), 0));
      flow.uses = uses;
      pool.start(flow);
    }
    benchmark::DoNotOptimize(drain(pool));
  }
  state.SetItemsProcessed(state.iterations() * 2 * pairs);
}
BENCHMARK(separate_pairs)
    ->Name("FluidPool/separate_pairs")
    ->Arg(64)
    ->Arg(4096)
    ->Arg(65536)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moecast
