#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "base/assert.h"
#include "base/units.h"
#include "sim/event_queue.h"
#include "sim/sharing.h"

namespace moecast {

using FlowId = Id<struct FlowTag>;  // given out again after the flow has ended

/// Something that moves `size` units over shared resources: bytes of a transfer, of a copy, of a write.
struct Flow {
  double size = 0;    // >= 0
  double weight = 1;  // as in SharingRow
  double bound = std::numeric_limits<double>::infinity();
  std::span<const ResourceUse> uses;  // each resource at most once; copied
};

/// Flows in virtual time. Between two changes every flow moves at its max-min fair rate (sim/sharing.h); a change
/// re-solves only the flows that are connected to it by shared resources.
///
/// What remains of a flow is a real number and is never rounded; its end is, up to whole nanoseconds, once, when it
/// comes. So rounding cannot add up, and a lone flow takes exactly ceil(size / rate).
///
/// Use: start, stop and set_... any number of times, settle() once, then ask next_completion(), then advance().
class FluidPool {
 public:
  explicit FluidPool(std::vector<double> capacities);  // units per second, by ResourceId

  FlowId start(const Flow& flow);
  /// Takes away a flow that has not ended.
  void stop(FlowId id);
  void set_bound(FlowId id, double bound);
  void set_capacity(ResourceId resource, double capacity);

  /// Gives rates to what changed since the last call.
  void settle();
  /// When the next flow ends, if nothing changes before; none if no flow ever does. Only when settled.
  [[nodiscard]] std::optional<Instant> next_completion() const {
    ASSERT(dirty_.empty(), "asked before settle()");
    return ends_.next_time();
  }
  /// Moves to `to`, not beyond next_completion(); appends the flows that end there, ascending, and forgets them.
  void advance(Instant to, std::vector<FlowId>& completed);

  /// Starts again at time 0; all flows have ended. Storage stays.
  void restart();

  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] std::size_t flow_count() const { return flow_count_; }
  [[nodiscard]] double rate(FlowId id) const;       // units per second; only when settled
  [[nodiscard]] double remaining(FlowId id) const;  // units, at now()
  /// Flows whose rate was computed since construction: the cost of all changes so far.
  [[nodiscard]] std::int64_t solved_row_count() const { return solved_row_count_; }

 private:
  struct Use {
    ResourceUse use;
    std::int32_t place = 0;  // of this flow in the resource's users
  };
  struct User {
    std::int32_t flow = 0;
    std::int32_t use = 0;  // index in the flow's uses
  };
  struct Resource {
    double capacity = 0;
    std::vector<User> users;
    std::int64_t visit = 0;
    std::int32_t local = 0;  // its number in the component at hand
  };
  struct State {
    std::vector<Use> uses;
    double weight = 1;
    double bound = 0;
    double remaining = 0;  // at `since`
    double rate = 0;       // from `since` on
    Instant since{};
    std::optional<Instant> end;  // none while it stands still
    std::optional<EventHandle> posted;
    bool alive = false;
    bool dirty = false;
    std::int64_t visit = 0;
  };

  [[nodiscard]] State& state(std::int32_t flow) { return flows_[static_cast<std::size_t>(flow)]; }
  [[nodiscard]] State& alive(FlowId id);
  [[nodiscard]] const State& alive(FlowId id) const;
  void mark(std::int32_t flow);
  void mark_users(ResourceId resource);
  void remove(std::int32_t flow);
  void collect_component(std::int32_t seed);
  [[nodiscard]] double rate_alone(const State& flow) const;
  void solve_component();
  void set_rate(State& flow, double rate) const;
  void post_first_end();

  std::vector<Resource> resources_;
  std::vector<State> flows_;
  std::vector<std::int32_t> free_flows_;
  std::size_t flow_count_ = 0;
  std::vector<std::int32_t> dirty_;
  EventQueue ends_;  // the first end of every connected component, posted at the flow that it belongs to
  Instant now_{};
  std::int64_t visit_ = 0;
  std::int64_t solved_row_count_ = 0;

  // Working memory of one component.
  MaxMinSolver solver_;
  std::vector<std::int32_t> component_;
  std::vector<double> local_capacities_;
  std::vector<SharingRow> local_rows_;
  std::vector<ResourceUse> local_uses_;
};

}  // namespace moecast
