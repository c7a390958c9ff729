#include "sim/fluid_pool.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

// Two flows are connected when they share a resource, directly or through others. Rates of one connected component do
// not depend on another (the max-min problem falls into blocks), so a change is followed through users and uses, and
// only what it reaches is solved again. Only the first end of each component waits in the event queue: every later end
// may still move.

namespace {

/// Ends further away than this count as never: 127 years, so that no sum of times overflows.
constexpr double kNeverSeconds = 4e9;

}  // namespace

FluidPool::FluidPool(std::vector<double> capacities) {
  for (const double capacity : capacities) {
    ASSERT(capacity >= 0, "capacity {}", capacity);
    resources_.emplace_back().capacity = capacity;
  }
}

FlowId FluidPool::start(const Flow& flow) {
  ASSERT(flow.size >= 0, "size {}", flow.size);
  if (free_flows_.empty()) {
    free_flows_.push_back(static_cast<std::int32_t>(flows_.size()));
    flows_.emplace_back();
  }
  const std::int32_t index = free_flows_.back();
  free_flows_.pop_back();
  ++flow_count_;
  State& added = state(index);
  added.uses.clear();
  for (const ResourceUse& use : flow.uses) {
    std::vector<User>& users = resources_.at(use.resource.index()).users;
    users.push_back({index, static_cast<std::int32_t>(added.uses.size())});
    added.uses.push_back({use, static_cast<std::int32_t>(users.size() - 1)});
  }
  added.weight = flow.weight;
  added.bound = flow.bound;
  added.remaining = flow.size;
  added.rate = 0;
  added.since = now_;
  added.end.reset();
  if (flow.size == 0) added.end = now_;
  added.posted.reset();
  added.alive = true;
  mark(index);
  return FlowId(index);
}

void FluidPool::stop(FlowId id) {
  State& stopped = alive(id);
  if (stopped.posted) ends_.cancel(*stopped.posted);
  remove(id.value());
}

void FluidPool::set_bound(FlowId id, double bound) {
  State& changed = alive(id);
  if (changed.bound == bound) return;
  changed.bound = bound;
  mark(id.value());
}

void FluidPool::set_capacity(ResourceId resource, double capacity) {
  ASSERT(capacity >= 0, "capacity {}", capacity);
  resources_.at(resource.index()).capacity = capacity;
  mark_users(resource);
}

void FluidPool::settle() {
  if (dirty_.empty()) return;
  const std::int64_t visited_before = visit_;
  for (const std::int32_t flow : dirty_) {
    State& changed = state(flow);
    changed.dirty = false;
    if (!changed.alive || changed.visit > visited_before) continue;
    collect_component(flow);
    solve_component();
    post_first_end();
  }
  dirty_.clear();
}

void FluidPool::advance(Instant to, std::vector<FlowId>& completed) {
  const std::optional<Instant> next = next_completion();
  ASSERT(to >= now_ && (!next || to <= *next), "advance to {} ns", to.time_since_epoch().count());
  now_ = to;
  const auto first = static_cast<std::ptrdiff_t>(completed.size());
  while (ends_.next_time() == to) {
    const auto seed = static_cast<std::int32_t>(ends_.pop().payload.subject);
    state(seed).posted.reset();
    collect_component(seed);
    for (const std::int32_t flow : component_) {
      if (state(flow).end == to) completed.push_back(FlowId(flow));
    }
  }
  std::sort(completed.begin() + first, completed.end());
  for (std::size_t i = static_cast<std::size_t>(first); i < completed.size(); ++i) remove(completed[i].value());
}

void FluidPool::restart() {
  ASSERT(flow_count_ == 0, "{} flows still move", flow_count_);
  for (const std::int32_t flow : dirty_) state(flow).dirty = false;
  dirty_.clear();
  ends_.clear();
  now_ = Instant{};
}

double FluidPool::rate(FlowId id) const {
  ASSERT(dirty_.empty(), "asked before settle()");
  return alive(id).rate;
}

double FluidPool::remaining(FlowId id) const {
  const State& flow = alive(id);
  return std::max(0.0, flow.remaining - flow.rate * seconds(now_ - flow.since));
}

FluidPool::State& FluidPool::alive(FlowId id) {
  State& flow = flows_.at(id.index());
  ASSERT(flow.alive, "flow {} has ended", id.value());
  return flow;
}

const FluidPool::State& FluidPool::alive(FlowId id) const {
  const State& flow = flows_.at(id.index());
  ASSERT(flow.alive, "flow {} has ended", id.value());
  return flow;
}

void FluidPool::mark(std::int32_t flow) {
  if (state(flow).dirty) return;
  state(flow).dirty = true;
  dirty_.push_back(flow);
}

void FluidPool::mark_users(ResourceId resource) {
  for (const User& user : resources_.at(resource.index()).users) mark(user.flow);
}

/// Takes the flow out of its resources; whoever shared one with it must be solved again.
void FluidPool::remove(std::int32_t flow) {
  State& removed = state(flow);
  for (const Use& use : removed.uses) {
    std::vector<User>& users = resources_[use.use.resource.index()].users;
    const User last = users.back();
    users[static_cast<std::size_t>(use.place)] = last;
    state(last.flow).uses[static_cast<std::size_t>(last.use)].place = use.place;
    users.pop_back();
    mark_users(use.use.resource);
  }
  removed.alive = false;
  --flow_count_;
  free_flows_.push_back(flow);
}

/// component_ = the flows that are connected to `seed`, ascending.
void FluidPool::collect_component(std::int32_t seed) {
  ++visit_;
  component_.assign(1, seed);
  state(seed).visit = visit_;
  for (std::size_t i = 0; i < component_.size(); ++i) {
    for (const Use& use : state(component_[i]).uses) {
      Resource& resource = resources_[use.use.resource.index()];
      if (resource.visit == visit_) continue;
      resource.visit = visit_;
      for (const User& user : resource.users) {
        if (state(user.flow).visit == visit_) continue;
        state(user.flow).visit = visit_;
        component_.push_back(user.flow);
      }
    }
  }
  std::sort(component_.begin(), component_.end());
}

/// What the solver gives to a component of one flow, without setting it up.
double FluidPool::rate_alone(const State& flow) const {
  double level = std::numeric_limits<double>::infinity();
  for (const Use& use : flow.uses) {
    level = std::min(level, resources_[use.use.resource.index()].capacity / (use.use.coefficient * flow.weight));
  }
  return flow.bound / flow.weight <= level ? flow.bound : std::min(flow.bound, flow.weight * level);
}

void FluidPool::solve_component() {
  solved_row_count_ += static_cast<std::int64_t>(component_.size());
  if (component_.size() == 1) {
    State& flow = state(component_.front());
    ASSERT(!flow.uses.empty() || flow.bound < std::numeric_limits<double>::infinity(), "a flow that nothing limits");
    set_rate(flow, rate_alone(flow));
    return;
  }
  ++visit_;  // resources are numbered in the order in which the rows name them
  local_capacities_.clear();
  local_rows_.clear();
  local_uses_.clear();
  for (const std::int32_t flow : component_) {
    State& row = state(flow);
    row.visit = visit_;
    local_rows_.push_back({row.weight, row.bound, static_cast<std::int32_t>(local_uses_.size()),
                           static_cast<std::int32_t>(row.uses.size())});
    for (const Use& use : row.uses) {
      Resource& resource = resources_[use.use.resource.index()];
      if (resource.visit != visit_) {
        resource.visit = visit_;
        resource.local = static_cast<std::int32_t>(local_capacities_.size());
        local_capacities_.push_back(resource.capacity);
      }
      local_uses_.push_back({ResourceId(resource.local), use.use.coefficient});
    }
  }
  const std::span<const double> rates = solver_.solve({local_capacities_, local_rows_, local_uses_});
  for (std::size_t i = 0; i < component_.size(); ++i) set_rate(state(component_[i]), rates[i]);
}

/// A flow whose rate stays keeps its end to the last bit.
void FluidPool::set_rate(State& flow, double rate) const {
  if (rate == flow.rate) return;
  flow.remaining = std::max(0.0, flow.remaining - flow.rate * seconds(now_ - flow.since));
  flow.since = now_;
  flow.rate = rate;
  flow.end.reset();
  const bool ends = flow.remaining == 0 || flow.remaining < kNeverSeconds * rate;
  if (ends) flow.end = now_ + duration_from_seconds(flow.remaining == 0 ? 0 : flow.remaining / rate);
}

void FluidPool::post_first_end() {
  std::optional<std::int32_t> first;
  for (const std::int32_t index : component_) {
    State& flow = state(index);
    if (flow.posted) ends_.cancel(*flow.posted);
    flow.posted.reset();
    if (flow.end && (!first || *flow.end < *state(*first).end)) first = index;
  }
  if (first) state(*first).posted = ends_.schedule(*state(*first).end, {0, static_cast<std::uint32_t>(*first)});
}

}  // namespace moecast
