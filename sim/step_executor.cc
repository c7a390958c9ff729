#include "sim/step_executor.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace moecast {
namespace {

constexpr std::size_t kCompute = static_cast<std::size_t>(Lane::Compute);

enum class EventKind : std::uint32_t { LaneDone, MeetingOpens };

EventPayload lane_done(std::int32_t rank, std::size_t lane) {
  return {static_cast<std::uint32_t>(EventKind::LaneDone),
          static_cast<std::uint32_t>(static_cast<std::size_t>(rank) * kLaneCount + lane)};
}
EventPayload meeting_opens(std::int32_t meeting) {
  return {static_cast<std::uint32_t>(EventKind::MeetingOpens), static_cast<std::uint32_t>(meeting)};
}

/// Rounded up, but a millionth of a nanosecond is rounding and not time.
Duration whole_nanoseconds(double nanoseconds) {
  return Duration(static_cast<std::int64_t>(std::ceil(nanoseconds - 1e-6)));
}

}  // namespace

// ---- Once ----

StepExecutor::StepExecutor(const StepPlan& plan, const ParallelLayout& layout, PlanCosts costs,
                           ExecutionOptions options)
    : options_(std::move(options)),
      costs_(std::move(costs)),
      graph_(make_plan_graph(plan)),
      op_count_(plan.operators.size()),
      world_size_(static_cast<std::int32_t>(layout.world_size())),
      folded_(options_.fold && all_alike()),
      rank_count_(folded_ ? 1 : world_size_),
      pool_(capacities()) {
  ASSERT(op_count_ > 0 && costs_.operators.size() == op_count_, "{} operators, {} costs", op_count_,
         costs_.operators.size());
  ASSERT(options_.steps > 0 && options_.steps < 1 << 30, "{} steps", options_.steps);
  ASSERT(options_.slowdown.empty() || options_.slowdown.size() == static_cast<std::size_t>(world_size_),
         "{} slowdowns for {} ranks", options_.slowdown.size(), world_size_);
  for (const double slowdown : options_.slowdown) ASSERT(slowdown > 0, "slowdown {}", slowdown);
  ASSERT(costs_.interference.compute_beside_communication > 0 && costs_.interference.communication_beside_compute > 0);
  place_operators(plan, layout);
}

bool StepExecutor::all_alike() const {
  const std::vector<double>& slowdown = options_.slowdown;
  return std::all_of(slowdown.begin(), slowdown.end(), [&](double value) { return value == slowdown.front(); });
}

/// Ports by rank, then the switch if it is a limit.
std::vector<double> StepExecutor::capacities() const {
  std::vector<double> result(static_cast<std::size_t>(rank_count_), costs_.port.value());
  if (costs_.switch_bandwidth) result.push_back(costs_.switch_bandwidth->value());
  return result;
}

void StepExecutor::place_operators(const StepPlan& plan, const ParallelLayout& layout) {
  for (const Operator& op : plan.operators) {
    OperatorPlace place{op.lane};
    ASSERT(op.lane == Lane::Compute || op.work.empty(), "{} works on the {} lane", op.name(), to_text(op.lane));
    if (op.communication && layout.group_size(op.communication->group) > 1) {
      ASSERT(op.lane != Lane::Compute, "{} meets other ranks on the compute lane", op.name());
      std::optional<RankGroups>& groups = groups_.at(static_cast<std::size_t>(op.communication->group));
      if (!groups) groups = folded_ ? folded_rank_groups() : rank_groups(layout, op.communication->group);
      place.groups = &*groups;
      place.first_meeting = static_cast<std::int32_t>(meetings_.size());
      for (std::int32_t group = 0; group < groups->group_count(); ++group) meetings_.push_back({op.id.value(), group});
    }
    places_.push_back(place);
  }
}

// ---- A run ----

void StepExecutor::run(std::vector<Span>& spans) {
  reset();
  for (std::int32_t rank = 0; rank < rank_count_; ++rank) begin_step(rank);
  for (;;) {
    settle_instant();
    if (period_) break;
    refresh();
    pool_.settle();
    const std::optional<Instant> event = events_.next_time();
    const std::optional<Instant> completion = pool_.next_completion();
    if (!event && !completion) break;
    now_ = std::min(event.value_or(Instant::max()), completion.value_or(Instant::max()));
    completed_.clear();
    pool_.advance(now_, completed_);
    for (const FlowId flow : completed_) close(meeting_of_flow_[flow.index()]);
    while (events_.next_time() == now_) happen(events_.pop());
  }
  for (const RankState& rank : ranks_) {
    ASSERT(period_ || rank.step == options_.steps, "the run stops in step {} of {}", rank.step, options_.steps);
  }
  write(spans);
}

void StepExecutor::reset() {
  events_.clear();
  pool_.restart();
  touched_.clear();
  now_ = Instant{};
  period_.reset();
  ranks_.assign(static_cast<std::size_t>(rank_count_), {});
  waiting_for_.resize(static_cast<std::size_t>(rank_count_) * op_count_);
}

void StepExecutor::begin_step(std::int32_t rank) {
  RankState& beginning = state(rank);
  beginning.done_count = 0;
  std::copy(graph_.predecessor_count.begin(), graph_.predecessor_count.end(),
            waiting_for_.begin() + static_cast<std::ptrdiff_t>(cell(rank, 0)));
  const std::size_t room = static_cast<std::size_t>(beginning.step + 1) * waiting_for_.size();
  if (times_.size() < room) times_.resize(room);
  beginning.first_times = room - waiting_for_.size() + cell(rank, 0);
  for (const std::int32_t op : graph_.roots) begin(rank, op);
}

void StepExecutor::begin(std::int32_t rank, std::int32_t op) {
  times(rank, op).start = now_;
  const OperatorPlace& place = places_[static_cast<std::size_t>(op)];
  if (place.groups != nullptr) {
    arrive(place.first_meeting + place.groups->group_of[static_cast<std::size_t>(rank)]);
    return;
  }
  const Duration fixed = cost(op).fixed;
  if (fixed == Duration(0)) {
    ending_.emplace_back(rank, op);
    return;
  }
  RankState& worker = state(rank);
  const auto lane = static_cast<std::size_t>(place.lane);
  worker.active.at(lane) = op;
  if (lane != kCompute) {
    events_.schedule(now_ + fixed, lane_done(rank, lane));
    return;
  }
  worker.computes = true;
  worker.stretch.reset();
  worker.left = static_cast<double>(fixed.count());
  if (!options_.slowdown.empty()) worker.left *= options_.slowdown[static_cast<std::size_t>(rank)];
  touch(rank);
}

void StepExecutor::end(std::int32_t rank, std::int32_t op) {
  times(rank, op).end = now_;
  ++ended_count_;
  for (const std::int32_t successor : graph_.successors_of(op)) {
    if (--waiting_for_[cell(rank, successor)] == 0) begin(rank, successor);
  }
  if (static_cast<std::size_t>(++state(rank).done_count) == op_count_) finished_.push_back(rank);
}

void StepExecutor::arrive(std::int32_t index) {
  Meeting& meeting_here = meeting(index);
  if (static_cast<std::size_t>(++meeting_here.arrived_count) < members(meeting_here).size()) return;
  meeting_here.arrived_count = 0;
  const Duration latency = cost(meeting_here.op).fixed;
  if (latency == Duration(0)) {
    open(index);
    return;
  }
  events_.schedule(now_ + latency, meeting_opens(index));
}

/// The bytes of a meeting begin to move; its ranks are as they were at the last refresh.
void StepExecutor::open(std::int32_t index) {
  Meeting& opening = meeting(index);
  const OperatorCost& bytes = cost(opening.op);
  if (bytes.port_bytes == 0) {
    for (const std::int32_t rank : members(opening)) ending_.emplace_back(rank, opening.op);
    return;
  }
  uses_.clear();
  opening.computing_count = 0;
  for (const std::int32_t rank : members(opening)) {
    RankState& member = state(rank);
    member.moving.at(static_cast<std::size_t>(member.moving_count++)) = index;
    if (member.counted) ++opening.computing_count;
    touch(rank);
    uses_.push_back({ResourceId(rank), bytes.port_load});
  }
  const std::size_t through_switch = folded_ ? static_cast<std::size_t>(world_size_) : members(opening).size();
  if (costs_.switch_bandwidth) uses_.push_back({ResourceId(rank_count_), static_cast<double>(through_switch)});
  opening.flow = pool_.start({bytes.port_bytes, 1, bytes.rate, uses_});
  if (meeting_of_flow_.size() <= opening.flow.index()) meeting_of_flow_.resize(opening.flow.index() + 1);
  meeting_of_flow_[opening.flow.index()] = index;
  stretch_flow(opening);
}

void StepExecutor::close(std::int32_t index) {
  const Meeting& closing = meeting(index);
  for (const std::int32_t rank : members(closing)) {
    RankState& member = state(rank);
    const auto last = member.moving.begin() + member.moving_count--;
    std::remove(member.moving.begin(), last, index);
    touch(rank);
    ending_.emplace_back(rank, closing.op);
  }
}

void StepExecutor::happen(const Event& event) {
  if (static_cast<EventKind>(event.payload.kind) == EventKind::MeetingOpens) {
    open(static_cast<std::int32_t>(event.payload.subject));
    return;
  }
  const auto rank = static_cast<std::int32_t>(event.payload.subject / kLaneCount);
  const std::size_t lane = event.payload.subject % kLaneCount;
  RankState& worker = state(rank);
  if (lane == kCompute) {
    worker.computes = false;
    touch(rank);
  }
  ending_.emplace_back(rank, worker.active.at(lane));
}

/// Until nothing more happens now.
void StepExecutor::settle_instant() {
  while (!ending_.empty() || !finished_.empty()) {
    while (!ending_.empty()) {
      const auto [rank, op] = ending_.back();
      ending_.pop_back();
      end(rank, op);
    }
    begin_next_steps();
  }
}

/// The end of every rank's first step at one instant is a point like the start: nothing moves, nothing waits. What
/// follows is a copy.
void StepExecutor::begin_next_steps() {
  const bool all = finished_.size() == static_cast<std::size_t>(rank_count_);
  for (const std::int32_t rank : finished_) ++state(rank).step;
  const bool first = all && std::all_of(ranks_.begin(), ranks_.end(), [](const RankState& r) { return r.step == 1; });
  if (first) period_ = now_ - Instant{};
  for (const std::int32_t rank : finished_) {
    if (!period_ && state(rank).step < options_.steps) begin_step(rank);
  }
  finished_.clear();
}

// ---- Rates ----

void StepExecutor::touch(std::int32_t rank) {
  if (state(rank).touched) return;
  state(rank).touched = true;
  touched_.push_back(rank);
}

void StepExecutor::refresh() {
  for (const std::int32_t rank : touched_) {
    RankState& changed = state(rank);
    changed.touched = false;
    if (changed.computes) stretch_compute(rank);
    if (changed.computes != changed.counted) count_computing(changed);
  }
  touched_.clear();
}

void StepExecutor::stretch_compute(std::int32_t rank) {
  RankState& worker = state(rank);
  const double stretch = worker.moving_count > 0 ? costs_.interference.compute_beside_communication : 1;
  if (worker.stretch == stretch) return;
  if (worker.stretch) {
    events_.cancel(worker.posted);
    worker.left = std::max(0.0, worker.left - static_cast<double>((now_ - worker.since).count()) / *worker.stretch);
  }
  worker.since = now_;
  worker.stretch = stretch;
  worker.posted = events_.schedule(now_ + whole_nanoseconds(worker.left * stretch), lane_done(rank, kCompute));
}

void StepExecutor::count_computing(RankState& rank) {
  rank.counted = rank.computes;
  for (std::int32_t i = 0; i < rank.moving_count; ++i) {
    Meeting& beside = meeting(rank.moving.at(static_cast<std::size_t>(i)));
    beside.computing_count += rank.counted ? 1 : -1;
    stretch_flow(beside);
  }
}

void StepExecutor::stretch_flow(const Meeting& moving) {
  const double stretch = moving.computing_count > 0 ? costs_.interference.communication_beside_compute : 1;
  pool_.set_bound(moving.flow, cost(moving.op).rate / stretch);
}

// ---- What came out ----

void StepExecutor::write(std::vector<Span>& spans) const {
  spans.resize(static_cast<std::size_t>(options_.steps) * static_cast<std::size_t>(world_size_) * op_count_);
  auto next = spans.begin();
  for (std::int32_t step = 0; step < options_.steps; ++step) {
    const Duration shift = period_ ? *period_ * step : Duration(0);
    const std::size_t first = period_ ? 0 : static_cast<std::size_t>(step) * waiting_for_.size();
    for (std::int32_t rank = 0; rank < world_size_; ++rank) {
      for (const std::int32_t op : graph_.in_lane_order) {
        const Times& at = times_[first + cell(folded_ ? 0 : rank, op)];
        const Lane lane = places_[static_cast<std::size_t>(op)].lane;
        *next++ = {OpId(op), Rank(rank), lane, step, at.start + shift, at.end + shift};
      }
    }
  }
}

std::span<const std::int32_t> StepExecutor::members(const Meeting& of) const {
  return places_[static_cast<std::size_t>(of.op)].groups->members_of(of.group);
}

Timeline execute_step_plan(const StepPlan& plan, const ParallelLayout& layout, const HardwareProfile& hardware,
                           ExecutionOptions options) {
  ASSERT(layout.world_size() <= hardware.node.ranks, "{} ranks on a node of {}", layout.world_size(),
         hardware.node.ranks);
  Timeline timeline{
      fmt::format("simulated: {}, {} ranks", hardware.name, layout.world_size()), plan, layout.world_size(), {}};
  StepExecutor(plan, layout, plan_costs(plan, layout, hardware), std::move(options)).run(timeline.spans);
  return timeline;
}

}  // namespace moecast
