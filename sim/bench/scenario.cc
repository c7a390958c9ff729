#include "sim/scenario.h"

#include <benchmark/benchmark.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/assert.h"

namespace moecast {
namespace {

Scenario scenario_of(const std::string& name, const std::vector<std::pair<std::string, std::string>>& settings = {}) {
  Result<JsonDocument> document =
      JsonDocument::read(std::filesystem::path(MOECAST_SOURCE_DIR) / "experiments/clusters" / name);
  ASSERT(document.ok(), "{}", name);
  for (const auto& [pointer, value] : settings) ASSERT(document->set(pointer, value).ok(), "{}", pointer);
  Result<Scenario> scenario = read_scenario(*document);
  ASSERT(scenario.ok(), "{}", scenario.ok() ? "" : scenario.error().text());
  return std::move(scenario).value();
}

/// From a scenario to its timeline: plans, costs, folding, execution, bounds.
void whole(benchmark::State& state, const std::string& name) {
  const Scenario scenario = scenario_of(name);
  for (auto _ : state) {
    const Result<Timeline> timeline = simulate(scenario);
    if (!timeline.ok()) state.SkipWithError("no timeline");
    benchmark::DoNotOptimize(timeline->spans.data());
  }
}
BENCHMARK_CAPTURE(whole, interleaved_9216, "interleaved_9216.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(whole, deepseek_v3_16384, "deepseek_v3_16384.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(whole, deepseek_v3_16384_skewed, "deepseek_v3_16384_skewed.json")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(whole, deepseek_v3_100352, "deepseek_v3_100352.json")->Unit(benchmark::kMillisecond);

/// Every layout of a model with 12 MoE layers on 64 GPUs, four micro-batches: one item is one configuration.
void layouts(benchmark::State& state) {
  Scenario scenario = scenario_of("nvlink_cluster.json",
                                  {{"/workload/model", "\"" MOECAST_SOURCE_DIR "/models/zoo/gpt2_moe_medium.json\""},
                                   {"/workload/batch/sequence", "1024"}});
  std::vector<ParallelLayout> fitting;
  for (const std::int64_t expert : {1, 2, 4, 8, 16}) {
    for (const std::int64_t tensor : {1, 2, 4, 8}) {
      for (const std::int64_t pipeline : {1, 2, 4, 8}) {
        ParallelLayout layout;
        layout.expert = expert;
        layout.tensor = tensor;
        layout.pipeline = pipeline;
        layout.sequence_parallel = tensor > 1;
        layout.data = 64 / (tensor * pipeline);
        if (layout.check().ok()) fitting.push_back(layout);
      }
    }
  }
  std::int64_t configurations = 0;
  for (auto _ : state) {
    for (const ParallelLayout& layout : fitting) {
      scenario.workload.layout = layout;
      const Result<Timeline> timeline = simulate(scenario);
      if (!timeline.ok()) state.SkipWithError("no timeline");
      benchmark::DoNotOptimize(timeline->spans.data());
      ++configurations;
    }
  }
  state.SetItemsProcessed(configurations);
}
BENCHMARK(layouts)->Name("Scenario/layouts_of_64_gpus")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moecast
