#include "sim/step_executor.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

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

StepExecutor::StepExecutor(std::span<const StepPlan> stages, const ParallelLayout& layout, PlanCosts costs,
                           ExecutionOptions options)
    : options_(std::move(options)),
      costs_(std::move(costs)),
      world_size_(static_cast<std::int32_t>(layout.world_size())),
      plan_(plan_meetings(stages, layout, costs_, options_.slowdown, options_.fold)),
      pool_(plan_.network.capacities) {
  ASSERT(options_.steps > 0 && options_.steps < 1 << 30, "{} steps", options_.steps);
  ASSERT(options_.slowdown.empty() || options_.slowdown.size() == static_cast<std::size_t>(world_size_),
         "{} slowdowns for {} ranks", options_.slowdown.size(), world_size_);
  for (const double slowdown : options_.slowdown) ASSERT(slowdown > 0, "slowdown {}", slowdown);
  ASSERT(costs_.interference.compute_beside_communication > 0 && costs_.interference.communication_beside_compute > 0);
  place_operators(stages);
  place_ranks(layout);
  all_ranks_.resize(static_cast<std::size_t>(world_size_));
  std::iota(all_ranks_.begin(), all_ranks_.end(), 0);
}

void StepExecutor::place_operators(std::span<const StepPlan> stages) {
  std::vector<std::int32_t> first_meeting;
  for (std::size_t i = 0; i < plan_.meetings.size(); ++i) {
    const MeetingOperator& from = plan_.meetings[i];
    first_meeting.push_back(static_cast<std::int32_t>(meetings_.size()) - from.first_group);
    for (std::int32_t group = 0; group < from.group_count; ++group) {
      const std::int32_t first = from.first_phase[static_cast<std::size_t>(group)];
      const std::int32_t end = from.first_phase[static_cast<std::size_t>(group) + 1];
      meetings_.push_back({static_cast<std::int32_t>(i), from.first_group + group, first, end, first});
    }
  }
  for (const StepPlan& stage : stages) {
    ASSERT(!stage.operators.empty(), "a stage without operators");
    first_operator_.push_back(static_cast<std::int32_t>(places_.size()));
    graphs_.push_back(make_plan_graph(stage));
    for (const Operator& op : stage.operators) {
      OperatorPlace place;
      place.lane = op.lane;
      place.meeting = plan_.meeting_of[places_.size()];
      if (place.meeting) place.first_meeting = first_meeting[static_cast<std::size_t>(*place.meeting)];
      place.receives =
          std::binary_search(plan_.receives.begin(), plan_.receives.end(), static_cast<std::int32_t>(places_.size()));
      places_.push_back(place);
    }
  }
  ASSERT(costs_.operators.size() == places_.size(), "{} operators, {} costs", places_.size(), costs_.operators.size());
}

void StepExecutor::place_ranks(const ParallelLayout& layout) {
  const auto stage_size = world_size_ / static_cast<std::int32_t>(graphs_.size());
  for (const std::int32_t rank : plan_.network.representative) {
    RankState placed;
    placed.stage = rank / stage_size;
    placed.expert_member = static_cast<std::int32_t>(layout.position(Group::Expert, Rank(rank)));
    placed.first_cell = cell_count_;
    cell_count_ += graphs_[static_cast<std::size_t>(placed.stage)].predecessor_count.size();
    fresh_ranks_.push_back(placed);
  }
}

// ---- A run ----

void StepExecutor::run(std::vector<Span>& spans) {
  execute();
  write(all_ranks_, spans);
}

void StepExecutor::run_classes(std::vector<Span>& spans) {
  execute();
  write(plan_.network.representative, spans);
}

void StepExecutor::execute() {
  reset();
  for (std::int32_t rank = 0; rank < class_count(); ++rank) begin_step(rank);
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
}

void StepExecutor::reset() {
  events_.clear();
  pool_.restart();
  touched_.clear();
  now_ = Instant{};
  period_.reset();
  ranks_ = fresh_ranks_;
  waiting_for_.resize(cell_count_);
  if (!plan_.receives.empty()) delivered_.assign(cell_count_, 0);
}

void StepExecutor::begin_step(std::int32_t rank) {
  RankState& beginning = state(rank);
  const PlanGraph& graph = graphs_[static_cast<std::size_t>(beginning.stage)];
  beginning.done_count = 0;
  std::copy(graph.predecessor_count.begin(), graph.predecessor_count.end(),
            waiting_for_.begin() + static_cast<std::ptrdiff_t>(beginning.first_cell));
  const std::size_t room = static_cast<std::size_t>(beginning.step + 1) * cell_count_;
  if (times_.size() < room) times_.resize(room);
  beginning.first_times = room - cell_count_ + beginning.first_cell;
  for (const std::int32_t op : graph.roots) begin(rank, first_operator(rank) + op);
}

void StepExecutor::begin(std::int32_t rank, std::int32_t op) {
  times(rank, op).start = now_;
  const OperatorPlace& place = places_[static_cast<std::size_t>(op)];
  if (place.receives) {
    receive(rank, op);
    return;
  }
  if (place.meeting) {
    const MeetingOperator& from = plan_.meetings[static_cast<std::size_t>(*place.meeting)];
    const FoldedKind& met = plan_.network.kinds[static_cast<std::size_t>(from.kind)];
    arrive(place.first_meeting + met.group_of[static_cast<std::size_t>(rank)]);
    return;
  }
  if (place.lane == Lane::Compute) {
    begin_compute(rank, op);
    return;
  }
  const Duration fixed = costs_.operators[static_cast<std::size_t>(op)].fixed;
  if (fixed == Duration(0)) {
    ending_.emplace_back(rank, op);
    return;
  }
  const auto lane = static_cast<std::size_t>(place.lane);
  state(rank).active.at(lane) = op;
  events_.schedule(now_ + fixed, lane_done(rank, lane));
}

double StepExecutor::alone(std::int32_t rank, std::int32_t op) const {
  const OperatorCost& cost = costs_.operators[static_cast<std::size_t>(op)];
  Duration time = cost.fixed;
  if (cost.uneven) {
    const UnevenCost& uneven = costs_.uneven[static_cast<std::size_t>(*cost.uneven)];
    time = uneven.times[static_cast<std::size_t>(state(rank).expert_member)];
  }
  const auto nanoseconds = static_cast<double>(time.count());
  if (options_.slowdown.empty() || places_[static_cast<std::size_t>(op)].lane != Lane::Compute) return nanoseconds;
  const std::int32_t real = plan_.network.representative[static_cast<std::size_t>(rank)];
  return nanoseconds * options_.slowdown[static_cast<std::size_t>(real)];
}

void StepExecutor::begin_compute(std::int32_t rank, std::int32_t op) {
  const double work = alone(rank, op);
  if (work == 0) {
    ending_.emplace_back(rank, op);
    return;
  }
  RankState& worker = state(rank);
  worker.active[kCompute] = op;
  worker.computes = true;
  worker.stretch.reset();
  worker.left = work;
  touch(rank);
}

void StepExecutor::end(std::int32_t rank, std::int32_t op) {
  times(rank, op).end = now_;
  ++ended_count_;
  const std::int32_t first = first_operator(rank);
  const PlanGraph& graph = graphs_[static_cast<std::size_t>(state(rank).stage)];
  for (const std::int32_t successor : graph.successors_of(op - first)) {
    if (--waiting_for_[cell(rank, first + successor)] == 0) begin(rank, first + successor);
  }
  if (static_cast<std::size_t>(++state(rank).done_count) == graph.predecessor_count.size()) finished_.push_back(rank);
}

void StepExecutor::arrive(std::int32_t index) {
  Meeting& here = meeting(index);
  const bool sends = plan_.meetings[static_cast<std::size_t>(here.of)].receive.has_value();
  if (!sends && static_cast<std::size_t>(++here.arrived_count) < members(here).size()) return;
  here.arrived_count = 0;
  here.phase = here.first_phase;
  next_phase(index);
}

void StepExecutor::next_phase(std::int32_t index) {
  const Duration latency = phase(meeting(index)).latency;
  if (latency == Duration(0)) {
    open(index);
    return;
  }
  events_.schedule(now_ + latency, meeting_opens(index));
}

/// Bytes of the n-th Send came, or the n-th Receive begins: the later of the two ends it.
void StepExecutor::receive(std::int32_t rank, std::int32_t op) {
  std::int32_t& delivered = delivered_[cell(rank, op)];
  if (delivered > 0) {
    --delivered;
    ending_.emplace_back(rank, op);
  } else {
    delivered = -1;
  }
}

/// The bytes of a meeting begin to move; its ranks are as they were at the last refresh.
void StepExecutor::open(std::int32_t index) {
  Meeting& opening = meeting(index);
  const MeetingPhase& at = phase(opening);
  if (at.bytes == 0) {
    if (++opening.phase < opening.end_phase) {
      next_phase(index);
    } else {
      finish(opening);
    }
    return;
  }
  opening.computing_count = 0;
  for (const std::int32_t rank : members(opening)) {
    RankState& member = state(rank);
    member.moving.at(static_cast<std::size_t>(member.moving_count++)) = index;
    if (member.counted) ++opening.computing_count;
    touch(rank);
  }
  std::span<const ResourceUse> uses =
      kind(opening).patterns[static_cast<std::size_t>(at.pattern)].uses_of(opening.group);
  if (at.scale != 1) {
    uses_.assign(uses.begin(), uses.end());
    for (ResourceUse& use : uses_) use.coefficient *= at.scale;
    uses = uses_;
  }
  opening.flow = pool_.start({at.bytes, 1, at.rate, uses});
  if (meeting_of_flow_.size() <= opening.flow.index()) meeting_of_flow_.resize(opening.flow.index() + 1);
  meeting_of_flow_[opening.flow.index()] = index;
  stretch_flow(opening);
}

void StepExecutor::close(std::int32_t index) {
  Meeting& closing = meeting(index);
  for (const std::int32_t rank : members(closing)) {
    RankState& member = state(rank);
    const auto last = member.moving.begin() + member.moving_count--;
    std::remove(member.moving.begin(), last, index);
    touch(rank);
  }
  if (++closing.phase < closing.end_phase) {
    next_phase(index);
  } else {
    finish(closing);
  }
}

void StepExecutor::finish(const Meeting& ended) {
  const MeetingOperator& from = plan_.meetings[static_cast<std::size_t>(ended.of)];
  if (from.receive) {
    const std::int32_t sender = members(ended).front(), receiver = members(ended).back();
    ending_.emplace_back(sender, from.operators.front());
    std::int32_t& delivered = delivered_[cell(receiver, *from.receive)];
    if (++delivered == 0) ending_.emplace_back(receiver, *from.receive);
    return;
  }
  for (const std::int32_t rank : members(ended)) {
    const std::size_t stage = from.operators.size() > 1 ? static_cast<std::size_t>(state(rank).stage) : 0;
    ending_.emplace_back(rank, from.operators[stage]);
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
  const bool all = finished_.size() == ranks_.size();
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
  pool_.set_bound(moving.flow, phase(moving).rate / stretch);
}

// ---- What came out ----

void StepExecutor::write(std::span<const std::int32_t> ranks, std::vector<Span>& spans) const {
  std::size_t count = 0;
  for (const std::int32_t rank : ranks) {
    const std::int32_t simulated = plan_.network.class_of_rank[static_cast<std::size_t>(rank)];
    count += graphs_[static_cast<std::size_t>(state(simulated).stage)].predecessor_count.size();
  }
  spans.resize(static_cast<std::size_t>(options_.steps) * count);
  auto next = spans.begin();
  for (std::int32_t step = 0; step < options_.steps; ++step) {
    const Duration shift = period_ ? *period_ * step : Duration(0);
    const std::size_t first = period_ ? 0 : static_cast<std::size_t>(step) * cell_count_;
    for (const std::int32_t rank : ranks) {
      const RankState& from = state(plan_.network.class_of_rank[static_cast<std::size_t>(rank)]);
      const OperatorPlace* places =
          &places_[static_cast<std::size_t>(first_operator_[static_cast<std::size_t>(from.stage)])];
      for (const std::int32_t op : graphs_[static_cast<std::size_t>(from.stage)].in_lane_order) {
        const Times& at = times_[first + from.first_cell + static_cast<std::size_t>(op)];
        *next++ = {OpId(op), Rank(rank), places[op].lane, step, at.start + shift, at.end + shift};
      }
    }
  }
}

std::vector<std::pair<Rank, std::int64_t>> StepExecutor::multiplicity() const {
  std::vector<std::pair<Rank, std::int64_t>> result;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    result.emplace_back(Rank(plan_.network.representative[i]), plan_.network.size[i]);
  }
  return result;
}

Timeline execute_stage_plans(std::vector<StepPlan> stages, const ParallelLayout& layout,
                             const HardwareProfile& hardware, PlanCosts costs, ExecutionOptions options,
                             std::vector<PathStep>* critical_path) {
  ASSERT(layout.world_size() <= hardware.rank_count(), "{} ranks on {} GPUs", layout.world_size(),
         hardware.rank_count());
  Timeline timeline;
  timeline.source = fmt::format("simulated: {}, {} ranks", hardware.name, layout.world_size());
  timeline.rank_count = layout.world_size();
  StepExecutor executor(stages, layout, std::move(costs), std::move(options));
  if (hardware.cluster) {
    executor.run_classes(timeline.spans);
    if (executor.folded()) timeline.stands_for = executor.multiplicity();
  } else {
    executor.run(timeline.spans);
  }
  if (critical_path != nullptr) *critical_path = executor.critical_path();
  timeline.plan = std::move(stages.front());
  timeline.later_stages.assign(std::make_move_iterator(stages.begin() + 1), std::make_move_iterator(stages.end()));
  return timeline;
}

Timeline execute_step_plan(const StepPlan& plan, const ParallelLayout& layout, const HardwareProfile& hardware,
                           ExecutionOptions options) {
  PlanCosts costs = plan_costs(std::span(&plan, 1), layout, hardware);
  return execute_stage_plans({plan}, layout, hardware, std::move(costs), std::move(options));
}

}  // namespace moecast
