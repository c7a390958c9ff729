#include "runtime/lane_executor.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/executor_guard.h"
#include "runtime/prompt_wakeup.h"

namespace moecast {
namespace {

constexpr int kOriginEvent = 0;
int start_event(OpId op) { return 1 + 2 * op.value(); }
int end_event(OpId op) { return 2 + 2 * op.value(); }
Lane lane_at(std::size_t index) { return static_cast<Lane>(index); }

}  // namespace

LaneExecutor::~LaneExecutor() {
  stopping_ = true;
  for (LaneState& lane : lanes_) {
    lane.begun.fetch_add(1, std::memory_order_release);
    lane.begun.notify_all();
  }
  for (LaneState& lane : lanes_) {
    if (lane.worker.joinable()) lane.worker.join();
  }
}

Result<std::vector<Span>> LaneExecutor::run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                                 Rank rank) {
  prepare(Step{&plan, &runner, step, rank});
  if (backend_.asynchronous()) begin_streams();
  LaneState& compute = lanes_[lane_index(Lane::Compute)];
  for (LaneState& lane : lanes_) {
    if (&lane != &compute && !lane.operators.empty()) start_worker(lane);
  }
  run_lane(compute);
  for (LaneState& lane : lanes_) {
    if (&lane == &compute) continue;
    const std::uint32_t begun = lane.begun.load(std::memory_order_relaxed);  // only this thread changes it
    for (std::uint32_t seen = lane.finished.load(std::memory_order_acquire); seen != begun;
         seen = lane.finished.load(std::memory_order_acquire)) {
      lane.finished.wait(seen, std::memory_order_acquire);
    }
  }
  if (backend_.asynchronous()) RETURN_IF_ERROR(finish_streams());
  if (error_) return *error_;
  return collect_spans();
}

void LaneExecutor::prepare(const Step& step) {
  assert_plan_order(*step.plan);
  current_ = step;
  ++epoch_;
  failed_ = false;
  error_.reset();
  for (LaneState& lane : lanes_) {
    lane.operators.clear();
    lane.spans.clear();
    lane.waited_for.fill(0);
  }
  for (const Operator& op : step.plan->operators) lanes_[lane_index(op.lane)].operators.push_back(op.id);
  for (LaneState& lane : lanes_) lane.spans.reserve(lane.operators.size());
  if (done_capacity_ < step.plan->operators.size()) {
    done_capacity_ = step.plan->operators.size();
    done_ = std::make_unique<std::atomic<std::uint32_t>[]>(done_capacity_);  // zero: no run has this number
  }
}

/// The lanes are idle here, so event 0 happens as soon as it is recorded and ties event times to the clock.
void LaneExecutor::begin_streams() {
  const int events = 1 + 2 * static_cast<int>(current_.plan->operators.size());
  if (event_capacity_ < events) {
    backend_.reserve_events(events);
    event_capacity_ = events;
  }
  origin_ = clock_.now();
  backend_.record_event(Lane::Compute, kOriginEvent);
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (lane_at(i) != Lane::Compute && !lanes_[i].operators.empty()) backend_.wait_event(lane_at(i), kOriginEvent);
  }
}

void LaneExecutor::start_worker(LaneState& lane) {
  if (!lane.worker.joinable()) lane.worker = std::jthread([this, &lane] { work(lane); });
  lane.begun.fetch_add(1, std::memory_order_release);
  lane.begun.notify_one();
}

void LaneExecutor::work(LaneState& lane) {
  if (&lane == &lanes_[lane_index(Lane::Comm)]) ask_for_prompt_wakeups();
  for (std::uint32_t ended = lane.finished.load(std::memory_order_relaxed);; ++ended) {
    lane.begun.wait(ended, std::memory_order_acquire);
    if (stopping_) return;
    run_lane(lane);
    lane.finished.store(ended + 1, std::memory_order_release);
    lane.finished.notify_one();
  }
}

void LaneExecutor::run_lane(LaneState& lane) {
  for (const OpId id : lane.operators) {
    const Operator& op = current_.plan->operators[id.index()];
    for (const OpId dependency : op.dependencies) wait_until_done(dependency);
    if (failed_.load(std::memory_order_acquire)) return;
    if (!run_operator(lane, op)) return;
  }
}

bool LaneExecutor::run_operator(LaneState& lane, const Operator& op) {
  const bool streams = backend_.asynchronous();
  if (streams) {
    wait_on_device(lane, op);
    backend_.record_event(op.lane, start_event(op.id));
  }
  const Instant start = clock_.now();
  const Status status = run_guarded(*current_.runner, op, current_.rank);
  const Instant end = clock_.now();
  if (streams) backend_.record_event(op.lane, end_event(op.id));
  if (!status.ok()) {
    fail(status.error());
    return false;
  }
  lane.spans.push_back({op.id, current_.rank, op.lane, current_.step, start, end});
  set_done(op.id);
  return true;
}

void LaneExecutor::wait_until_done(OpId op) {
  const std::atomic<std::uint32_t>& done = done_[op.index()];
  for (std::uint32_t seen = done.load(std::memory_order_acquire); seen != epoch_;
       seen = done.load(std::memory_order_acquire)) {
    done.wait(seen, std::memory_order_acquire);
  }
}

void LaneExecutor::wait_on_device(LaneState& lane, const Operator& op) {
  std::array<std::int32_t, kLaneCount> needed{};  // by lane: largest id + 1, as lanes are first in, first out
  for (const OpId dependency : op.dependencies) {
    std::int32_t& last = needed[lane_index(current_.plan->operators[dependency.index()].lane)];
    last = std::max(last, dependency.value() + 1);
  }
  for (std::size_t i = 0; i < needed.size(); ++i) {
    if (i == lane_index(op.lane) || needed[i] <= lane.waited_for[i]) continue;
    backend_.wait_event(op.lane, end_event(OpId(needed[i] - 1)));
    lane.waited_for[i] = needed[i];
  }
}

void LaneExecutor::set_done(OpId op) {
  done_[op.index()].store(epoch_, std::memory_order_release);
  done_[op.index()].notify_all();
}

void LaneExecutor::fail(const Error& error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (error_) return;
    error_ = error;
  }
  failed_.store(true, std::memory_order_release);
  current_.runner->abandon(error);
  for (const Operator& op : current_.plan->operators) set_done(op.id);  // wakes every lane; failed_ stops it
}

/// Leaves every lane idle, whatever happened: nothing queued may still touch memory that the caller is about to free.
Status LaneExecutor::finish_streams() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (lane_at(i) == Lane::Compute || !lanes_[i].operators.empty()) backend_.synchronize(lane_at(i));
  }
  const Status device = backend_.check();
  if (error_) return *error_;
  if (!device.ok()) {
    Error error = device.error();
    if (error.place.empty()) error.place = fmt::format("rank {}", current_.rank.value());
    current_.runner->abandon(error);
    return error;
  }
  set_event_times();
  return {};
}

void LaneExecutor::set_event_times() {
  for (LaneState& lane : lanes_) {
    for (Span& span : lane.spans) {
      span.start = origin_ + backend_.elapsed(kOriginEvent, start_event(span.op));
      span.end = span.start + backend_.elapsed(start_event(span.op), end_event(span.op));
    }
  }
}

std::vector<Span> LaneExecutor::collect_spans() const {
  std::vector<Span> spans;
  spans.reserve(current_.plan->operators.size());
  for (const LaneState& lane : lanes_) spans.insert(spans.end(), lane.spans.begin(), lane.spans.end());
  return spans;
}

}  // namespace moecast
