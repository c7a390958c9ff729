#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "models/timeline.h"
#include "sim/critical_path.h"
#include "sim/event_queue.h"
#include "sim/fluid_pool.h"
#include "sim/meeting_plan.h"
#include "sim/operator_cost.h"
#include "sim/plan_graph.h"

namespace moecast {

struct ExecutionOptions {
  std::int64_t steps = 1;
  std::vector<double> slowdown = {};  // time of a rank's compute operators / the profile's; empty: 1 for every rank
  bool fold = true;                   // simulate one rank for all that are alike; changes the cost, not the answer
};

/// Executes the step plans of all pipeline stages on all ranks of a node or a cluster in virtual time.
///
/// - A rank's lanes are first in, first out; an operator begins when its lane is free and its dependencies are done.
///   A rank begins a step as soon as it has ended the one before; ranks do not wait for each other between steps.
/// - A collective begins on a rank when the rank reaches it and opens when every rank of its group has: then its
///   latency passes, then its bytes move; an algorithm of several phases repeats that. It ends on all of them at once.
///   Its span contains the wait.
/// - A Send does not wait for its receiver; the n-th Receive ends when the bytes of the n-th Send have arrived.
/// - The bytes of one collective are one flow over all links that it loads (on a node: the ports of its ranks and the
///   switch), at most at the rate that it has alone; flows that meet share max-min fairly (sim/fluid_pool.h).
/// - Interference: a compute operator takes `compute_beside_communication` times as long while bytes move on its rank;
///   bytes move `communication_beside_compute` times as slowly (than alone) while a rank of the group computes. What is
///   left at a change goes on at the new rate. Waiting and latency disturb nothing.
/// - Ends are rounded up to whole nanoseconds, once, when they come.
/// - Ranks that nothing tells apart are one (sim/folding.h).
///
/// No clock, no random numbers, and the order of events inside one instant cannot show: same input, same bytes. After
/// the first run() nothing is allocated, if the result's memory is there.
class StepExecutor {
 public:
  /// `stages`: one plan for each pipeline stage of the layout, or one for all ranks.
  StepExecutor(std::span<const StepPlan> stages, const ParallelLayout& layout, PlanCosts costs,
               ExecutionOptions options = {});
  StepExecutor(const StepPlan& plan, const ParallelLayout& layout, PlanCosts costs, ExecutionOptions options = {})
      : StepExecutor(std::span(&plan, 1), layout, std::move(costs), std::move(options)) {}
  StepExecutor(const StepExecutor&) = delete;
  StepExecutor& operator=(const StepExecutor&) = delete;

  /// From time 0; replaces `spans` by those of the run, ordered by (step, rank, lane, start). Always the same answer.
  void run(std::vector<Span>& spans);
  /// The same of one rank for each class of ranks that are alike: the first of each, `multiplicity()` of them.
  void run_classes(std::vector<Span>& spans);

  /// Are there ranks that another one stands for?
  [[nodiscard]] bool folded() const { return class_count() < world_size_; }
  [[nodiscard]] std::int32_t class_count() const { return plan_.network.class_count(); }
  /// Ranks of which spans come out of run_classes(), and how many each stands for.
  [[nodiscard]] std::vector<std::pair<Rank, std::int64_t>> multiplicity() const;
  /// Why the last step of the last run took as long as it did: the chain of operators that ends it, from its beginning.
  [[nodiscard]] std::vector<PathStep> critical_path() const;
  /// Operators that ended on simulated ranks since construction: the cost of all runs so far.
  [[nodiscard]] std::int64_t ended_count() const { return ended_count_; }

 private:
  friend class PathWalker;
  struct OperatorPlace {
    Lane lane = Lane::Compute;
    std::optional<std::int32_t> meeting;  // into plan_.meetings; none: it runs on its rank alone
    std::int32_t first_meeting = 0;       // of the classes of groups that meet for it, less the first of them
    bool receives = false;
  };
  /// One collective of one class of groups.
  struct Meeting {
    std::int32_t of = 0;     // into plan_.meetings
    std::int32_t group = 0;  // class
    std::int32_t first_phase = 0, end_phase = 0, phase = 0;
    std::int32_t arrived_count = 0;
    std::int32_t computing_count = 0;  // members whose compute lane is busy; only while bytes move
    FlowId flow{};
  };
  /// A simulated rank. Beside its own lanes, what other stages send to it moves.
  static constexpr std::size_t kMovingCount = kLaneCount + 4;
  struct RankState {
    std::int32_t step = 0;
    std::int32_t stage = 0;
    std::int32_t expert_member = 0;                 // position in its expert group
    std::int32_t done_count = 0;                    // operators of this step
    std::size_t first_cell = 0;                     // of this rank's operators, in waiting_for_
    std::size_t first_times = 0;                    // of this rank and step, in times_
    std::array<std::int32_t, kLaneCount> active{};  // operator at work on a lane, if it runs on this rank alone
    bool computes = false;                          // active[Compute] is at work
    double left = 0;                                // of it, at `since`: nanoseconds on the undisturbed device
    Instant since{};
    std::optional<double> stretch;  // time per nanosecond of work since then; none: it has just begun
    EventHandle posted;
    std::array<std::int32_t, kMovingCount> moving{};  // meetings whose bytes move on this rank
    std::int32_t moving_count = 0;
    bool counted = false;  // in computing_count of the meetings in `moving`
    bool touched = false;
  };
  struct Times {
    Instant start{}, end{};
  };

  // Once.
  void place_operators(std::span<const StepPlan> stages);
  void place_ranks(const ParallelLayout& layout);

  // At one instant: operators end and begin, meetings fill, steps follow one another.
  void reset();
  void begin_step(std::int32_t rank);
  void begin(std::int32_t rank, std::int32_t op);
  void begin_compute(std::int32_t rank, std::int32_t op);
  /// Nanoseconds of an operator that runs on its rank alone, undisturbed.
  [[nodiscard]] double alone(std::int32_t rank, std::int32_t op) const;
  void end(std::int32_t rank, std::int32_t op);
  void arrive(std::int32_t meeting);
  void next_phase(std::int32_t meeting);
  void receive(std::int32_t rank, std::int32_t op);
  void finish(const Meeting& meeting);
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

  void execute();
  void write(std::span<const std::int32_t> ranks, std::vector<Span>& spans) const;
  [[nodiscard]] RankState& state(std::int32_t rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] const RankState& state(std::int32_t rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Meeting& meeting(std::int32_t index) { return meetings_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const MeetingPhase& phase(const Meeting& of) const {
    return plan_.phases[static_cast<std::size_t>(of.phase)];
  }
  [[nodiscard]] const FoldedKind& kind(const Meeting& of) const {
    return plan_.network.kinds[static_cast<std::size_t>(plan_.meetings[static_cast<std::size_t>(of.of)].kind)];
  }
  [[nodiscard]] std::span<const std::int32_t> members(const Meeting& of) const { return kind(of).members_of(of.group); }
  [[nodiscard]] std::int32_t first_operator(std::int32_t rank) const {
    return first_operator_[static_cast<std::size_t>(state(rank).stage)];
  }
  /// Of an operator, numbered through the stages, on a rank of its stage.
  [[nodiscard]] std::size_t cell(std::int32_t rank, std::int32_t op) const {
    return state(rank).first_cell + static_cast<std::size_t>(op - first_operator(rank));
  }
  [[nodiscard]] Times& times(std::int32_t rank, std::int32_t op) {
    return times_[state(rank).first_times + static_cast<std::size_t>(op - first_operator(rank))];
  }

  // Constant after construction.
  ExecutionOptions options_;
  PlanCosts costs_;
  std::int32_t world_size_ = 1;
  MeetingPlan plan_;
  std::vector<PlanGraph> graphs_;             // by stage
  std::vector<std::int32_t> first_operator_;  // by stage
  std::vector<OperatorPlace> places_;
  std::size_t cell_count_ = 0;  // operators of all simulated ranks
  std::vector<RankState> fresh_ranks_;
  std::vector<std::int32_t> all_ranks_;

  // The state of a run.
  EventQueue events_;
  FluidPool pool_;
  Instant now_{};
  std::vector<RankState> ranks_;
  std::vector<Meeting> meetings_;
  std::vector<std::int32_t> waiting_for_;  // [rank][operator]: predecessors that are not done
  std::vector<std::int32_t> delivered_;    // [rank][operator]: bytes for a Receive that has not begun; -1: it waits
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

/// A timeline with the source "simulated: <hardware>, <n> ranks". The layout has at most hardware.rank_count() ranks.
/// On a cluster it holds one rank for each class of ranks that are alike (Timeline::stands_for).
[[nodiscard]] Timeline execute_step_plan(const StepPlan& plan, const ParallelLayout& layout,
                                         const HardwareProfile& hardware, ExecutionOptions options = {});
/// One plan for each pipeline stage; `costs` as plan_costs() made them, or changed. `critical_path`, if not null, gets
/// StepExecutor::critical_path().
[[nodiscard]] Timeline execute_stage_plans(std::vector<StepPlan> stages, const ParallelLayout& layout,
                                           const HardwareProfile& hardware, PlanCosts costs,
                                           ExecutionOptions options = {},
                                           std::vector<PathStep>* critical_path = nullptr);

}  // namespace moecast
