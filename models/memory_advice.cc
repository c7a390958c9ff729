#include "models/memory_advice.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

namespace moecast {
namespace {

/// A workload and in words how it differs.
struct Variant {
  Workload workload;
  std::string change;
};
using Variants = std::vector<Variant>;

constexpr std::int64_t kFactors[] = {2, 4, 8};

/// Trades replicas for another degree: the ranks stay, and so do the step's tokens, as every replica takes more
/// micro-batches.
std::optional<Workload> fewer_replicas(Workload workload, std::int64_t factor) {
  if (workload.layout.data % factor != 0) return std::nullopt;
  workload.layout.data /= factor;
  workload.batch.micro_batch_count *= factor;
  return workload;
}

void add_degrees(const Workload& from, Variants& variants) {
  for (const std::int64_t factor : kFactors) {
    std::optional<Workload> fewer = fewer_replicas(from, factor);
    if (!fewer) continue;
    Workload tensor = *fewer;
    tensor.layout.tensor *= factor;
    tensor.layout.sequence_parallel = true;
    variants.push_back(
        {tensor, fmt::format("tensor {} with sequence_parallel, data {}", tensor.layout.tensor, tensor.layout.data)});
    fewer->layout.pipeline *= factor;
    variants.push_back({*fewer, fmt::format("pipeline {}, data {}", fewer->layout.pipeline, fewer->layout.data)});
  }
  for (const std::int64_t factor : kFactors) {
    Workload expert = from;
    expert.layout.expert *= factor;
    variants.push_back({expert, fmt::format("expert {}", expert.layout.expert)});
  }
}

/// One change each, gentle ones first.
Variants single_changes(const Workload& from) {
  Variants variants;
  for (int stage = from.layout.zero_stage + 1; stage <= 3; ++stage) {
    Workload sharded = from;
    sharded.layout.zero_stage = stage;
    variants.push_back({sharded, fmt::format("zero_stage {}", stage)});
  }
  if (from.layout.recomputation != Recomputation::Full) {
    Workload again = from;
    again.layout.recomputation = Recomputation::Full;
    variants.push_back({again, "recomputation full"});
  }
  if (from.batch.micro_batch % 2 == 0) {
    Workload smaller = from;
    smaller.batch.micro_batch /= 2;
    smaller.batch.micro_batch_count *= 2;
    variants.push_back({smaller, fmt::format("micro_batch {}", smaller.batch.micro_batch)});
  }
  add_degrees(from, variants);
  return variants;
}

/// A slot that is open would need operator times; memory does not depend on it.
StepPlanRequest memory_request(const Workload& workload) { return request_of(workload); }

std::vector<MemoryOption> that_fit(const Variants& variants, Bytes available, std::size_t count) {
  std::vector<MemoryOption> options;
  for (const Variant& variant : variants) {
    if (options.size() == count) break;
    const StepPlanRequest request = memory_request(variant.workload);
    if (!check_plan(request).ok()) continue;
    const StageMemory memory = largest_memory(request);
    if (memory.total() <= available) options.push_back({variant.change, memory});
  }
  return options;
}

}  // namespace

std::vector<MemoryOption> fitting_changes(const Workload& workload, Bytes available, std::size_t count) {
  Variants variants = {{workload, ""}};
  for (int depth = 1; depth <= 3; ++depth) {
    Variants next;
    for (const Variant& variant : variants) {
      for (Variant& change : single_changes(variant.workload)) {
        if (!variant.change.empty()) change.change = variant.change + ", " + change.change;
        next.push_back(std::move(change));
      }
    }
    std::vector<MemoryOption> options = that_fit(next, available, count);
    if (!options.empty()) return options;
    variants = std::move(next);
  }
  return {};
}

}  // namespace moecast
