#include "models/pipeline_order.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {
namespace {

using Kind = PipelinePass::Kind;
using Order = std::vector<PipelinePass>;

/// The k-th forward (or, counted the same way, backward) of a stage, all parts of p micro-batches before the next p.
PipelinePass pass_at(Kind kind, std::int64_t k, const ParallelLayout& layout) {
  const std::int64_t p = layout.pipeline, v = layout.virtual_stages;
  const std::int64_t part = k % (p * v) / p;
  return {kind, kind == Kind::Forward ? part : v - 1 - part, k / (p * v) * p + k % p};
}

Order one_forward_one_backward(const ParallelLayout& layout, std::int64_t total, std::int64_t warm_up) {
  Order order;
  std::int64_t backward = 0;
  for (std::int64_t k = 0; k < total; ++k) {
    order.push_back(pass_at(Kind::Forward, k, layout));
    if (k >= warm_up) order.push_back(pass_at(Kind::Backward, backward++, layout));
  }
  while (backward < total) order.push_back(pass_at(Kind::Backward, backward++, layout));
  return order;
}

/// Stage s: the weight gradients of a micro-batch follow on the backward of the one s later.
Order with_late_weight_gradients(const Order& base, std::int64_t delay, std::int64_t total) {
  Order order;
  std::int64_t done = 0;
  for (const PipelinePass& pass : base) {
    order.push_back(pass);
    if (pass.kind == Kind::Backward && pass.micro_batch >= delay) {
      order.push_back({Kind::WeightGradient, 0, done++});
    }
  }
  while (done < total) order.push_back({Kind::WeightGradient, 0, done++});
  return order;
}

}  // namespace

std::vector<PipelinePass> pipeline_order(const ParallelLayout& layout, std::int64_t stage,
                                         std::int64_t micro_batch_count) {
  const std::int64_t p = layout.pipeline, v = layout.virtual_stages, total = micro_batch_count * v;
  ASSERT(stage >= 0 && stage < p, "stage {} of {}", stage, p);
  ASSERT(v == 1 || micro_batch_count % p == 0, "{} micro-batches in groups of {}", micro_batch_count, p);
  const std::int64_t after = p - stage - 1;
  const std::int64_t warm_up = v > 1 ? 2 * after + (v - 1) * p : after;
  Order order = one_forward_one_backward(layout, total, std::min(warm_up, total));
  if (layout.pipeline_schedule != PipelineSchedule::ZeroBubble) return order;
  return with_late_weight_gradients(order, stage, total);
}

}  // namespace moecast
