#include "models/overlap.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "models/metrics.h"

namespace moecast {
namespace {

/// For each operator of a plan: the block in whose window it stands, if it computes there.
std::vector<std::optional<LayerId>> windows_of(const StepPlan& plan) {
  std::vector<std::optional<LayerId>> in_window(plan.operators.size());
  std::optional<LayerId> open;
  for (const Operator& op : plan.operators) {
    if (op.lane != Lane::Compute) continue;
    const bool forward = op.phase == Phase::Forward;
    if (op.kind == (forward ? OpKind::Decode : OpKind::Encode) && op.layer == open) open.reset();
    if (open && op.kind != OpKind::Expert && op.kind != OpKind::Gate && op.kind != OpKind::Encode) {
      in_window[op.id.index()] = open;
    }
    const bool backward = op.phase == Phase::Backward;
    if (forward && op.kind == OpKind::Encode && !op.second_routing) open = op.layer;
    if (backward && op.kind == OpKind::Decode) open = op.layer;
  }
  return in_window;
}

void add(Duration& to, Duration time, std::int64_t ranks) { to += ranks * time; }

OverlapWindow mean(OverlapWindow sums, std::int64_t rank_steps) {
  const std::int64_t all = sums.block_count;
  if (all == 0) return {};
  for (Duration* time : {&sums.window, &sums.experts, &sums.exchanges}) *time = Duration(time->count() / all);
  sums.block_count /= std::max<std::int64_t>(1, rank_steps);
  return sums;
}

}  // namespace

OverlapWindows overlap_windows(const Timeline& timeline) {
  std::vector<std::vector<std::optional<LayerId>>> in_window;
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    in_window.push_back(windows_of(timeline.plan_of_stage(stage)));
  }
  OverlapWindows sums;
  std::int64_t rank_steps = 0;
  const Span* before = nullptr;
  std::int64_t ranks = 1;
  for (const Span& span : timeline.spans) {
    if (before == nullptr || before->rank != span.rank || before->step != span.step) {
      ranks = rank_weight(timeline, span.rank);
      rank_steps += ranks;
    }
    before = &span;
    const std::int64_t stage = timeline.stage_of(span.rank);
    const Operator& op = timeline.plan_of_stage(stage).operators[span.op.index()];
    if (op.phase != Phase::Forward && op.phase != Phase::Backward) continue;
    OverlapWindow& sum = op.phase == Phase::Forward ? sums.forward : sums.backward;
    if (in_window[static_cast<std::size_t>(stage)][span.op.index()]) add(sum.window, span.duration(), ranks);
    if (op.kind == OpKind::Expert) add(sum.experts, span.duration(), ranks);
    if (op.kind == OpKind::Dispatch || op.kind == OpKind::Combine) add(sum.exchanges, span.duration(), ranks);
    if (op.kind == OpKind::Decode) sum.block_count += ranks;
  }
  return {mean(sums.forward, rank_steps), mean(sums.backward, rank_steps)};
}

}  // namespace moecast
