#include "sim/measured_steps.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "models/metrics.h"
#include "sim/parallel.h"
#include "sim/scenario.h"

namespace moecast {
namespace {

constexpr std::int64_t kWords = 51200;

MoeModel gpt(std::int64_t d_model, std::int64_t heads, std::int64_t layers, std::int64_t sequence) {
  MoeModel model;
  model.name = "gpt";
  model.d_model = d_model;
  model.vocabulary = kWords;
  model.max_sequence = sequence;
  model.attention.heads = heads;
  model.attention.kv_heads = heads;
  model.attention.head_dim = heads > 0 ? d_model / heads : 0;
  model.blocks.assign(static_cast<std::size_t>(layers), Block{4 * d_model, std::nullopt});
  return model;
}

std::optional<Duration> simulate_step(const MeasuredStep& step, const HardwareProfile& hardware) {
  Scenario scenario;
  scenario.name = "measured";
  scenario.workload = step.workload;
  scenario.hardware = hardware;
  if (Cluster* cluster = scenario.hardware.cluster ? &*scenario.hardware.cluster : nullptr) {
    cluster->node_count = (step.workload.layout.world_size() + cluster->node_gpus - 1) / cluster->node_gpus;
  }
  const Result<Timeline> timeline = simulate(scenario);
  if (!timeline.ok()) return std::nullopt;
  return step_metrics(*timeline).step_time;
}

}  // namespace

bool is_step_table(const CsvTable& table) {
  return table.has({"# GPUs", "global batch", "micro batch", "hidden size", "attention heads", "# layers",
                    "sequence length", "tensor parallelism", "data parallelism", "pipeline parallelism",
                    "iteration time (ms)"});
}

Result<std::vector<MeasuredStep>> read_steps(const CsvTable& table) {
  std::vector<MeasuredStep> steps;
  std::vector<Problem> problems;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const CsvRow row(table, i, problems);
    const std::size_t before = problems.size();
    MeasuredStep step;
    Workload& workload = step.workload;
    const std::int64_t sequence = row.count("sequence length");
    workload.model = gpt(row.count("hidden size"), row.count("attention heads"), row.count("# layers"), sequence);
    workload.layout.tensor = row.count("tensor parallelism");
    workload.layout.data = row.count("data parallelism");
    workload.layout.pipeline = row.count("pipeline parallelism");
    workload.layout.recomputation = Recomputation::Full;
    workload.bytes_per_element = 2;
    const std::int64_t micro_batch = row.count("micro batch"), global = row.count("global batch");
    step.time = duration_from_seconds(1e-3 * row.number("iteration time (ms)"));
    step.held_out = i % 2 == 1;
    if (problems.size() != before) continue;
    const std::int64_t at_once = micro_batch * workload.layout.data;
    if (global % at_once != 0 || row.count("# GPUs") != workload.layout.world_size()) {
      problems.push_back({table.file.string(), static_cast<int>(i) + 2, 0, "", "conflict",
                          fmt::format("a global batch that {} sequences at once divide, and {} GPUs", at_once,
                                      workload.layout.world_size()),
                          fmt::format("{} and {}", global, row.text("# GPUs")), ""});
      continue;
    }
    workload.batch = {micro_batch, global / at_once, sequence};
    steps.push_back(std::move(step));
  }
  if (problems.empty()) return steps;
  return Error{ErrorKind::BadInput, table.file.string(), "holds fields that cannot be read", std::move(problems)};
}

std::vector<std::optional<Duration>> simulate_steps(const std::vector<MeasuredStep>& steps,
                                                    const HardwareProfile& hardware, std::int64_t thread_count) {
  std::vector<std::optional<Duration>> times(steps.size());
  for_each_in_parallel(steps.size(), static_cast<unsigned>(thread_count),
                       [&](std::size_t i) { times[i] = simulate_step(steps[i], hardware); });
  return times;
}

}  // namespace moecast
