#include "runtime/executor_stream.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/executor_guard.h"

namespace moecast {
namespace {

constexpr int kOriginEvent = 0;
int start_event(OpId op) { return 1 + 2 * op.value(); }
int end_event(OpId op) { return 2 + 2 * op.value(); }
Lane lane_at(std::size_t index) { return static_cast<Lane>(index); }

}  // namespace

Result<std::vector<Span>> StreamExecutor::run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                                   Rank rank) {
  assert_plan_order(plan);
  begin(plan);
  RETURN_IF_ERROR(finish(runner, issue(plan, runner, rank), rank));
  return collect_spans(plan, step, rank);
}

/// The lanes are idle here, so event 0 happens as soon as it is recorded and ties event times to the clock.
void StreamExecutor::begin(const StepPlan& plan) {
  const int events = 1 + 2 * static_cast<int>(plan.operators.size());
  if (event_capacity_ < events) {
    backend_.reserve_events(events);
    event_capacity_ = events;
  }
  used_.fill(false);
  for (const Operator& op : plan.operators) used_[lane_index(op.lane)] = true;
  used_[lane_index(Lane::Compute)] = true;
  origin_ = clock_.now();
  backend_.record_event(Lane::Compute, kOriginEvent);
  for (std::size_t lane = 0; lane < used_.size(); ++lane) {
    if (used_[lane] && lane_at(lane) != Lane::Compute) backend_.wait_event(lane_at(lane), kOriginEvent);
  }
}

Status StreamExecutor::issue(const StepPlan& plan, OperatorRunner& runner, Rank rank) {
  WaitedFor waited{};
  for (const Operator& op : plan.operators) {
    wait_for_dependencies(plan, op, waited);
    backend_.record_event(op.lane, start_event(op.id));
    RETURN_IF_ERROR(run_guarded(runner, op, rank));
    backend_.record_event(op.lane, end_event(op.id));
  }
  return {};
}

void StreamExecutor::wait_for_dependencies(const StepPlan& plan, const Operator& op, WaitedFor& waited) {
  std::array<std::int32_t, kLaneCount> needed{};  // per lane: largest id + 1, as lanes are first in, first out
  for (const OpId dependency : op.dependencies) {
    std::int32_t& last = needed[lane_index(plan.operators[dependency.index()].lane)];
    last = std::max(last, dependency.value() + 1);
  }
  for (std::size_t lane = 0; lane < needed.size(); ++lane) {
    std::int32_t& known = waited[lane_index(op.lane)][lane];
    if (lane == lane_index(op.lane) || needed[lane] <= known) continue;
    backend_.wait_event(op.lane, end_event(OpId(needed[lane] - 1)));
    known = needed[lane];
  }
}

/// Leaves every lane idle, whatever happened: nothing queued may still touch memory that the caller is about to free.
Status StreamExecutor::finish(OperatorRunner& runner, const Status& issued, Rank rank) {
  if (!issued.ok()) runner.abandon(issued.error());
  for (std::size_t lane = 0; lane < used_.size(); ++lane) {
    if (used_[lane]) backend_.synchronize(lane_at(lane));
  }
  const Status device = backend_.check();
  RETURN_IF_ERROR(issued);
  if (device.ok()) return {};
  Error error = device.error();
  if (error.place.empty()) error.place = fmt::format("rank {}", rank.value());
  runner.abandon(error);
  return error;
}

std::vector<Span> StreamExecutor::collect_spans(const StepPlan& plan, std::int32_t step, Rank rank) {
  std::vector<Span> spans;
  spans.reserve(plan.operators.size());
  for (std::size_t lane = 0; lane < used_.size(); ++lane) {
    for (const Operator& op : plan.operators) {
      if (lane_index(op.lane) != lane) continue;
      const Instant start = origin_ + backend_.elapsed(kOriginEvent, start_event(op.id));
      spans.push_back(
          {op.id, rank, op.lane, step, start, start + backend_.elapsed(start_event(op.id), end_event(op.id))});
    }
  }
  return spans;
}

}  // namespace moecast
