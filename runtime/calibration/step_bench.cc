#include "runtime/calibration/step_bench.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "base/statistics.h"
#include "hwprofiles/scale.h"
#include "runtime/trainer/rank_trainer.h"

namespace moecast {
namespace {

constexpr std::int64_t kColdSteps = 3;

TokenBatch random_batch(const Workload& workload, Rank rank) {
  const CounterRandom random(1, stream_of("calibration tokens"));
  TokenBatch batch;
  for (std::int64_t i = 0; i < workload.batch.tokens(); ++i) {
    const auto token = random.below(workload.model.vocabulary, rank.index(), static_cast<std::uint64_t>(i));
    batch.ids.push_back(static_cast<std::int32_t>(token));
    batch.targets.push_back(static_cast<std::int32_t>((token + 1) % workload.model.vocabulary));
  }
  return batch;
}

/// Time alone of an operator's kernels by class, seconds.
struct AloneTimes {
  double products = 0;
  double memory = 0;
};

AloneTimes alone_times(const Operator& op, const DeviceProfile& device) {
  AloneTimes times;
  for (const Work& work : op.work) {
    (std::holds_alternative<MemoryWork>(work) ? times.memory : times.products) += seconds(device.time(work));
  }
  return times;
}

}  // namespace

Workload reference_workload(std::int64_t ranks, DType compute, bool accelerator) {
  Workload workload;
  MoeModel& model = workload.model;
  model.name = "calibration-reference";
  model.d_model = accelerator ? 1280 : 160;
  model.vocabulary = accelerator ? 20480 : 320;
  model.max_sequence = accelerator ? 768 : 96;
  model.attention = accelerator ? Attention{20, 20, 64} : Attention{5, 5, 32};
  const std::int64_t width = accelerator ? 3584 : 448;
  MoeFfn moe;
  moe.expert_count = 2 * ranks;
  moe.expert_width = width;
  moe.gate.top_k = 2;
  moe.capacity_factor = 1.25;
  model.blocks = {Block{width, std::nullopt}, Block{0, moe}};
  workload.layout.data = workload.layout.expert = ranks;
  workload.batch = {4, 1, model.max_sequence};
  workload.bytes_per_element = bytes_per_element(compute);
  return workload;
}

Result<std::vector<double>> bench_step(const Workload& workload, const StepPlan& plan, Rank rank, Backend& backend,
                                       const Groups& groups, std::int64_t step_count) {
  const SteadyClock clock;
  auto trainer = RankTrainer::make({workload, rank, backend, groups, clock});
  if (!trainer.ok()) return trainer.error();
  const TokenBatch batch = random_batch(workload, rank);
  std::vector<double> means(plan.operators.size(), 0.0);
  for (std::int64_t step = 0; step < kColdSteps + step_count; ++step) {
    AdamWStep optimizer;
    optimizer.learning_rate = 1e-4;
    optimizer.step = step + 1;
    const auto outcome = (*trainer)->run(plan, batch, step, optimizer);
    if (!outcome.ok()) return outcome.error();
    if (step < kColdSteps) continue;
    for (const Span& span : outcome->spans) {
      means[span.op.index()] += seconds(span.duration()) / static_cast<double>(step_count);
    }
  }
  return means;
}

InStep fit_in_step(const StepPlan& plan, std::int64_t ranks, const std::vector<double>& times,
                   const HardwareProfile& profile) {
  ASSERT(times.size() == plan.operators.size(), "{} times, {} operators", times.size(), plan.operators.size());
  // Minimise sum (a p + b m - t)^2 / t over the compute operators: p, m alone, t in the step.
  double pp = 0, pm = 0, mm = 0, pt = 0, mt = 0;
  std::vector<double> collectives;
  for (const Operator& op : plan.operators) {
    const double time = times[op.id.index()];
    if (time <= 0) continue;
    if (op.communication) {
      const double alone = seconds(profile.time(*op.communication, ranks));
      if (op.communication->collective == Collective::AllToAll && alone > 0) collectives.push_back(time / alone);
      continue;
    }
    const AloneTimes alone = alone_times(op, profile.device);
    pp += alone.products * alone.products / time;
    pm += alone.products * alone.memory / time;
    mm += alone.memory * alone.memory / time;
    pt += alone.products;
    mt += alone.memory;
  }
  const double determinant = pp * mm - pm * pm;
  InStep in_step;
  if (determinant > 0) {
    in_step.products = (pt * mm - mt * pm) / determinant;
    in_step.memory = (mt * pp - pt * pm) / determinant;
  }
  if (!collectives.empty()) in_step.communication = median(collectives);
  for (double* ratio : {&in_step.products, &in_step.memory, &in_step.communication}) {
    *ratio = std::clamp(*ratio, 0.5, 20.0);  // beyond that it is no ratio but an accident
  }
  return in_step;
}

void apply(const InStep& in_step, HardwareProfile& profile) {
  DeviceProfile& device = profile.device;
  scale(in_step.products, device.gemm);
  scale(in_step.products, device.grouped_gemm);
  scale(in_step.products, device.attention_forward);
  scale(in_step.products, device.attention_backward);
  for (auto& [kernel, cost] : device.memory_kernels) scale(in_step.memory, cost);
  scale(in_step.communication, profile.node.all_to_all);
  scale(in_step.communication, profile.node.all_reduce);
}

}  // namespace moecast
