#include "sim/critical_path.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/assert.h"
#include "sim/step_executor.h"

namespace moecast {
namespace {

/// [operator]: those that it follows.
std::vector<std::vector<std::int32_t>> predecessors_of(const PlanGraph& graph) {
  std::vector<std::vector<std::int32_t>> predecessors(graph.predecessor_count.size());
  for (std::size_t op = 0; op < predecessors.size(); ++op) {
    for (const std::int32_t successor : graph.successors_of(static_cast<std::int32_t>(op))) {
      predecessors[static_cast<std::size_t>(successor)].push_back(static_cast<std::int32_t>(op));
    }
  }
  return predecessors;
}

}  // namespace

/// Walks back through the last step that was simulated, from the operator that ended last.
class PathWalker {
 public:
  explicit PathWalker(const StepExecutor& executor) : of_(executor) {
    step_ = of_.period_ ? 0 : of_.options_.steps - 1;
    for (const PlanGraph& graph : of_.graphs_) predecessors_.push_back(predecessors_of(graph));
    for (std::size_t i = 0; i < of_.plan_.meetings.size(); ++i) {
      if (of_.plan_.meetings[i].receive) sender_[*of_.plan_.meetings[i].receive] = static_cast<std::int32_t>(i);
    }
  }

  std::vector<PathStep> run() {
    std::vector<PathStep> path;
    find_last();
    for (bool more = true; more;) {
      path.push_back({of_.state(rank_).stage, OpId(op_ - of_.first_operator(rank_)), representative()});
      more = back(path.back());
    }
    std::reverse(path.begin(), path.end());
    return path;
  }

 private:
  [[nodiscard]] const StepExecutor::Times& times(std::int32_t rank, std::int32_t op) const {
    return of_.times_[static_cast<std::size_t>(step_) * of_.cell_count_ + of_.cell(rank, op)];
  }
  [[nodiscard]] Rank representative() const {
    return Rank(of_.plan_.network.representative[static_cast<std::size_t>(rank_)]);
  }
  [[nodiscard]] Lane lane(std::int32_t op) const { return of_.places_[static_cast<std::size_t>(op)].lane; }

  void find_last() {
    Instant last = Instant::min();
    for (std::int32_t rank = 0; rank < of_.class_count(); ++rank) {
      const auto count = predecessors_[static_cast<std::size_t>(of_.state(rank).stage)].size();
      for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t op = of_.first_operator(rank) + static_cast<std::int32_t>(i);
        if (times(rank, op).end <= last) continue;
        last = times(rank, op).end;
        rank_ = rank;
        op_ = op;
      }
    }
  }

  /// Completes what the step says of the operator at hand, and goes to the one before it; false at the beginning.
  bool back(PathStep& at) {
    const StepExecutor::OperatorPlace& place = of_.places_[static_cast<std::size_t>(op_)];
    if (place.receives) {
      const MeetingOperator& from = of_.plan_.meetings[static_cast<std::size_t>(sender_.at(op_))];
      const FoldedKind& pairs = of_.plan_.network.kinds[static_cast<std::size_t>(from.kind)];
      const std::int32_t sender = pairs.members_of(pairs.group_of[static_cast<std::size_t>(rank_)]).front();
      if (times(sender, from.operators.front()).end == times(rank_, op_).end) {
        at.waited_for = WaitedFor::Message;
        rank_ = sender;
        op_ = from.operators.front();
        return true;
      }
    } else if (place.meeting) {
      meet(at, place);
    } else {
      at.time = times(rank_, op_).end - times(rank_, op_).start;
      at.alone = Duration(std::llround(of_.alone(rank_, op_)));
    }
    return to_predecessor(at);
  }

  /// Of a collective: to its last member, and what passed since that one came.
  void meet(PathStep& at, const StepExecutor::OperatorPlace& place) {
    const Instant end = times(rank_, op_).end;
    const MeetingOperator& of = of_.plan_.meetings[static_cast<std::size_t>(*place.meeting)];
    const FoldedKind& kind = of_.plan_.network.kinds[static_cast<std::size_t>(of.kind)];
    const std::int32_t group = kind.group_of[static_cast<std::size_t>(rank_)];
    if (!of.receive) {
      for (const std::int32_t member : kind.members_of(group)) {
        const auto stage = static_cast<std::size_t>(of_.state(member).stage);
        const std::int32_t op = of.operators.size() > 1 ? of.operators[stage] : of.operators.front();
        if (times(member, op).start <= times(rank_, op_).start) continue;
        at.late_peer = true;
        rank_ = member;
        op_ = op;
      }
    }
    at.stage = of_.state(rank_).stage;
    at.op = OpId(op_ - of_.first_operator(rank_));
    at.rank = representative();
    at.time = end - times(rank_, op_).start;
    const std::int32_t first = of.first_phase[static_cast<std::size_t>(group - of.first_group)];
    const std::int32_t last = of.first_phase[static_cast<std::size_t>(group - of.first_group) + 1];
    for (std::int32_t i = first; i < last; ++i) {
      const MeetingPhase& phase = of_.plan_.phases[static_cast<std::size_t>(i)];
      at.alone += phase.latency;
      if (phase.bytes > 0) at.alone += duration_from_seconds(phase.bytes / phase.rate);
    }
  }

  bool to_predecessor(PathStep& at) {
    const std::int32_t first = of_.first_operator(rank_);
    const auto& all = predecessors_[static_cast<std::size_t>(of_.state(rank_).stage)];
    std::int32_t latest = -1;
    for (const std::int32_t local : all[static_cast<std::size_t>(op_ - first)]) {
      const std::int32_t candidate = first + local;
      if (latest >= 0) {  // of two that ended together, the one that it reads
        const Instant known = times(rank_, latest).end, other = times(rank_, candidate).end;
        if (other < known || (other == known && lane(candidate) == lane(op_))) continue;
      }
      latest = candidate;
    }
    if (latest < 0) return false;
    at.waited_for = lane(latest) == lane(op_) ? WaitedFor::Lane : WaitedFor::Dependency;
    op_ = latest;
    return true;
  }

  const StepExecutor& of_;
  std::int64_t step_ = 0;
  std::vector<std::vector<std::vector<std::int32_t>>> predecessors_;  // by stage
  std::map<std::int32_t, std::int32_t> sender_;                       // of a Receive: its Send, into meetings
  std::int32_t rank_ = 0, op_ = 0;                                    // class, operator through the stages
};

std::vector<PathStep> StepExecutor::critical_path() const {
  ASSERT(!times_.empty(), "asked before a run");
  return PathWalker(*this).run();
}

std::vector<PathShare> path_shares(const std::vector<PathStep>& path, const Timeline& timeline) {
  std::map<std::pair<OpKind, Phase>, PathShare> by_kind;
  for (const PathStep& step : path) {
    const Operator& op = timeline.plan_of_stage(step.stage).operators[step.op.index()];
    PathShare& share = by_kind[{op.kind, op.phase}];
    share.kind = op.kind;
    share.phase = op.phase;
    ++share.count;
    share.time += step.time;
    share.alone += step.alone;
    ++share.waited_for[static_cast<std::size_t>(step.waited_for)];
    share.late_peers += step.late_peer;
  }
  std::vector<PathShare> shares;
  for (const auto& [key, share] : by_kind) shares.push_back(share);
  std::stable_sort(shares.begin(), shares.end(), [](const auto& a, const auto& b) { return a.time > b.time; });
  return shares;
}

}  // namespace moecast
