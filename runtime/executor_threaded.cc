#include "runtime/executor_threaded.h"

#include "runtime/executor_guard.h"
#include "runtime/prompt_wakeup.h"

namespace moecast {

ThreadedExecutor::~ThreadedExecutor() {
  stopping_ = true;
  for (LaneState& lane : lanes_) {
    lane.begun.fetch_add(1, std::memory_order_release);
    lane.begun.notify_all();
  }
  for (LaneState& lane : lanes_) {
    if (lane.worker.joinable()) lane.worker.join();
  }
}

Result<std::vector<Span>> ThreadedExecutor::run_step(const StepPlan& plan, OperatorRunner& runner, std::int32_t step,
                                                     Rank rank) {
  prepare(Step{&plan, &runner, step, rank});
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
  if (error_) return *error_;
  return collect_spans();
}

void ThreadedExecutor::prepare(const Step& step) {
  assert_plan_order(*step.plan);
  current_ = step;
  ++epoch_;
  failed_ = false;
  error_.reset();
  for (LaneState& lane : lanes_) {
    lane.operators.clear();
    lane.spans.clear();
  }
  for (const Operator& op : step.plan->operators) lanes_[lane_index(op.lane)].operators.push_back(op.id);
  for (LaneState& lane : lanes_) lane.spans.reserve(lane.operators.size());
  if (done_capacity_ < step.plan->operators.size()) {
    done_capacity_ = step.plan->operators.size();
    done_ = std::make_unique<std::atomic<std::uint32_t>[]>(done_capacity_);  // zero: no run has this number
  }
}

void ThreadedExecutor::start_worker(LaneState& lane) {
  if (!lane.worker.joinable()) lane.worker = std::jthread([this, &lane] { work(lane); });
  lane.begun.fetch_add(1, std::memory_order_release);
  lane.begun.notify_one();
}

void ThreadedExecutor::work(LaneState& lane) {
  if (&lane == &lanes_[lane_index(Lane::Comm)]) ask_for_prompt_wakeups();
  for (std::uint32_t ended = lane.finished.load(std::memory_order_relaxed);; ++ended) {
    lane.begun.wait(ended, std::memory_order_acquire);
    if (stopping_) return;
    run_lane(lane);
    lane.finished.store(ended + 1, std::memory_order_release);
    lane.finished.notify_one();
  }
}

void ThreadedExecutor::run_lane(LaneState& lane) {
  for (const OpId id : lane.operators) {
    const Operator& op = current_.plan->operators[id.index()];
    wait_for_dependencies(op);
    if (failed_.load(std::memory_order_acquire)) return;
    if (!run_operator(lane, op)) return;
  }
}

bool ThreadedExecutor::run_operator(LaneState& lane, const Operator& op) {
  const Instant start = clock_.now();
  const Status status = run_guarded(*current_.runner, op, current_.rank);
  const Instant end = clock_.now();
  if (!status.ok()) {
    fail(status.error());
    return false;
  }
  set_done(op.id);
  lane.spans.push_back({op.id, current_.rank, op.lane, current_.step, start, end});
  return true;
}

void ThreadedExecutor::wait_for_dependencies(const Operator& op) {
  for (const OpId dependency : op.dependencies) {
    const std::atomic<std::uint32_t>& done = done_[dependency.index()];
    for (std::uint32_t seen = done.load(std::memory_order_acquire); seen != epoch_;
         seen = done.load(std::memory_order_acquire)) {
      done.wait(seen, std::memory_order_acquire);
    }
  }
}

void ThreadedExecutor::set_done(OpId op) {
  done_[op.index()].store(epoch_, std::memory_order_release);
  done_[op.index()].notify_all();
}

void ThreadedExecutor::fail(const Error& error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (error_) return;
    error_ = error;
  }
  failed_.store(true, std::memory_order_release);
  current_.runner->abandon(error);
  for (const Operator& op : current_.plan->operators) set_done(op.id);  // wakes every lane; failed_ stops it
}

std::vector<Span> ThreadedExecutor::collect_spans() const {
  std::vector<Span> spans;
  spans.reserve(current_.plan->operators.size());
  for (const LaneState& lane : lanes_) spans.insert(spans.end(), lane.spans.begin(), lane.spans.end());
  return spans;
}

}  // namespace moecast
