#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "models/timeline.h"
#include "sim/event_queue.h"
#include "sim/fluid_pool.h"
#include "sim/operator_cost.h"
#include "sim/plan_graph.h"
#include "sim/rank_groups.h"

namespace moecast {

struct ExecutionOptions {
  std::int64_t steps = 1;
  std::vector<double> slowdown = {};  // time of a rank's compute operators / the profile's; empty: 1 for every rank
  bool fold = true;                   // simulate one rank for all when all are alike; changes the cost, not the answer
};

/// Executes a step plan on all ranks of one node in virtual time.
///
/// - A rank's lanes are first in, first out; an operator begins when its lane is free and its dependencies are done.
///   A rank begins a step as soon as it has ended the one before; ranks do not wait for each other between steps.
/// - A collective begins on a rank when the rank reaches it and opens when every rank of its group has: then its
///   latency passes, then its bytes move. It ends on all of them at once. Its span contains the wait.
/// - The bytes of one collective are one flow over the ports of its ranks and the switch, at most at the rate that it
///   has alone; flows that meet on a port or in the switch share max-min fairly (sim/fluid_pool.h).
/// - Interference: a compute operator takes `compute_beside_communication` times as long while bytes move on its rank;
///   bytes move `communication_beside_compute` times as slowly (than alone) while a rank of the group computes. What is
///   left at a change goes on at the new rate. Waiting and latency disturb nothing.
/// - Ends are rounded up to whole nanoseconds, once, when they come.
///
/// No clock, no random numbers, and the order of events inside one instant cannot show: same input, same bytes. After
/// the first run() nothing is allocated, if the result's memory is there.
class StepExecutor {
 public:
  /// One simulated rank for each of the layout, or one for all of them.
  StepExecutor(const StepPlan& plan, const ParallelLayout& layout, PlanCosts costs, ExecutionOptions options = {});
  StepExecutor(const StepExecutor&) = delete;
  StepExecutor& operator=(const StepExecutor&) = delete;

  /// From time 0; replaces `spans` by those of the run, ordered by (step, rank, lane, start). Always the same answer.
  void run(std::vector<Span>& spans);

  [[nodiscard]] bool folded() const { return folded_; }
  /// Operators that ended on simulated ranks since construction: the cost of all runs so far.
  [[nodiscard]] std::int64_t ended_count() const { return ended_count_; }

 private:
  struct OperatorPlace {
    Lane lane = Lane::Compute;
    const RankGroups* groups = nullptr;  // whose ranks meet for it; none: it runs on its rank alone
    std::int32_t first_meeting = 0;      // of its groups
  };
  /// One collective of one group.
  struct Meeting {
    std::int32_t op = 0;
    std::int32_t group = 0;
    std::int32_t arrived_count = 0;
    std::int32_t computing_count = 0;  // members whose compute lane is busy; only while bytes move
    FlowId flow{};
  };
  struct RankState {
    std::int32_t step = 0;
    std::int32_t done_count = 0;                    // operators of this step
    std::size_t first_times = 0;                    // of this rank and step, in times_
    std::array<std::int32_t, kLaneCount> active{};  // operator at work on a lane, if it runs on this rank alone
    bool computes = false;                          // active[Compute] is at work
    double left = 0;                                // of it, at `since`: nanoseconds on the undisturbed device
    Instant since{};
    std::optional<double> stretch;  // time per nanosecond of work since then; none: it has just begun
    EventHandle posted;
    std::array<std::int32_t, kLaneCount> moving{};  // meetings whose bytes move on this rank
    std::int32_t moving_count = 0;
    bool counted = false;  // in computing_count of the meetings in `moving`
    bool touched = false;
  };
  struct Times {
    Instant start{}, end{};
  };

  // Once.
  void place_operators(const StepPlan& plan, const ParallelLayout& layout);
  [[nodiscard]] std::vector<double> capacities() const;
  [[nodiscard]] bool all_alike() const;

  // At one instant: operators end and begin, meetings fill, steps follow one another.
  void reset();
  void begin_step(std::int32_t rank);
  void begin(std::int32_t rank, std::int32_t op);
  void end(std::int32_t rank, std::int32_t op);
  void arrive(std::int32_t meeting);
  void open(std::int32_t meeting);
  void close(std::int32_t meeting);
  void happen(const Event& event);
  void settle_instant();
  void begin_next_steps();

  // When all of that is done: rates follow.
  void touch(std::int32_t rank);
  void refresh();
  void stretch_compute(std::int32_t rank);
  void count_computing(RankState& rank);
  void stretch_flow(const Meeting& meeting);

  void write(std::vector<Span>& spans) const;
  [[nodiscard]] RankState& state(std::int32_t rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Meeting& meeting(std::int32_t index) { return meetings_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const OperatorCost& cost(std::int32_t op) const {
    return costs_.operators[static_cast<std::size_t>(op)];
  }
  [[nodiscard]] std::span<const std::int32_t> members(const Meeting& meeting) const;
  [[nodiscard]] std::size_t cell(std::int32_t rank, std::int32_t op) const {
    return static_cast<std::size_t>(rank) * op_count_ + static_cast<std::size_t>(op);
  }
  [[nodiscard]] Times& times(std::int32_t rank, std::int32_t op) {
    return times_[state(rank).first_times + static_cast<std::size_t>(op)];
  }

  // Constant after construction.
  ExecutionOptions options_;
  PlanCosts costs_;
  PlanGraph graph_;
  std::size_t op_count_ = 0;
  std::int32_t world_size_ = 1;
  bool folded_ = false;
  std::int32_t rank_count_ = 1;  // simulated
  std::vector<OperatorPlace> places_;
  std::array<std::optional<RankGroups>, 6> groups_;  // by Group, those that the plan uses

  // The state of a run.
  EventQueue events_;
  FluidPool pool_;
  Instant now_{};
  std::vector<RankState> ranks_;
  std::vector<Meeting> meetings_;
  std::vector<std::int32_t> waiting_for_;  // [rank][operator]: predecessors that are not done
  std::vector<Times> times_;               // [step][rank][operator]
  std::optional<Duration> period_;         // all ranks ended the first step together: the others are its copies
  std::vector<std::int32_t> meeting_of_flow_;
  std::int64_t ended_count_ = 0;

  // Work of the instant at hand.
  std::vector<std::pair<std::int32_t, std::int32_t>> ending_;  // (rank, operator)
  std::vector<std::int32_t> finished_;                         // ranks that have ended their step
  std::vector<std::int32_t> touched_;                          // ranks whose lanes or moving bytes changed
  std::vector<FlowId> completed_;
  std::vector<ResourceUse> uses_;
};

/// A timeline with the source "simulated: <hardware>, <n> ranks". The layout has at most hardware.node.ranks ranks.
[[nodiscard]] Timeline execute_step_plan(const StepPlan& plan, const ParallelLayout& layout,
                                         const HardwareProfile& hardware, ExecutionOptions options = {});

}  // namespace moecast
