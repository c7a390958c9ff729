#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "base/assert.h"
#include "models/timeline.h"

namespace moecast {
namespace {

/// A stage on its way through its plan, operator by operator in plan order.
struct StageClock {
  std::size_t next = 0;
  std::array<Instant, kLaneCount> free{};
  std::vector<Instant> end;
  std::map<std::int32_t, std::size_t> received;  // messages taken, by sending stage
};

class Projector {
 public:
  Projector(std::span<const StepPlan> plans, std::span<const std::vector<Duration>> durations, std::vector<Span>& spans)
      : plans_(plans), durations_(durations), spans_(spans), clocks_(plans.size()) {
    ASSERT(durations.size() == plans.size(), "durations of {} stages, plans of {}", durations.size(), plans.size());
    for (std::size_t s = 0; s < plans.size(); ++s) {
      ASSERT(durations[s].size() == plans[s].operators.size(), "{} durations for {} operators", durations[s].size(),
             plans[s].operators.size());
      clocks_[s].end.resize(plans[s].operators.size());
    }
  }

  void run() {
    std::size_t left = 0;
    for (const StepPlan& plan : plans_) left += plan.operators.size();
    while (left > 0) {
      std::size_t moved = 0;
      for (std::size_t s = 0; s < plans_.size(); ++s) {
        while (clocks_[s].next < plans_[s].operators.size() && step(s)) ++moved;
      }
      ASSERT(moved > 0, "the stages wait for each other");
      left -= moved;
    }
  }

 private:
  /// The next operator of a stage; false if it is a Receive whose message has not been sent.
  bool step(std::size_t s) {
    StageClock& clock = clocks_[s];
    const Operator& op = plans_[s].operators[clock.next];
    Instant& lane = clock.free[static_cast<std::size_t>(op.lane)];
    Instant start = lane;
    for (const OpId dependency : op.dependencies) {
      ASSERT(dependency < op.id, "operator {} depends on {}", op.id.value(), dependency.value());
      start = std::max(start, clock.end[dependency.index()]);
    }
    Instant end = start + durations_[s][op.id.index()];
    if (op.kind == OpKind::Receive) {
      const std::int32_t peer = op.communication->peer_stage.value();
      const std::vector<Instant>& sent = sent_[{peer, static_cast<std::int32_t>(s)}];
      std::size_t& received = clock.received[peer];
      if (received == sent.size()) return false;
      end = std::max(start, sent[received++]);
    }
    if (op.kind == OpKind::Send)
      sent_[{static_cast<std::int32_t>(s), op.communication->peer_stage.value()}].push_back(end);
    lane = clock.end[op.id.index()] = end;
    spans_.push_back({op.id, Rank(static_cast<std::int32_t>(s)), op.lane, 0, start, end});
    ++clock.next;
    return true;
  }

  std::span<const StepPlan> plans_;
  std::span<const std::vector<Duration>> durations_;
  std::vector<Span>& spans_;
  std::vector<StageClock> clocks_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<Instant>> sent_;  // (from, to) -> ends of sends
};

}  // namespace

Timeline project_stages(std::span<const StepPlan> plans, std::span<const std::vector<Duration>> durations) {
  ASSERT(!plans.empty(), "no stages");
  Timeline timeline;
  timeline.source = "projected";
  timeline.plan = plans.front();
  timeline.later_stages.assign(plans.begin() + 1, plans.end());
  timeline.rank_count = static_cast<std::int64_t>(plans.size());
  Projector(plans, durations, timeline.spans).run();
  std::stable_sort(timeline.spans.begin(), timeline.spans.end(),
                   [](const Span& a, const Span& b) { return std::pair(a.rank, a.lane) < std::pair(b.rank, b.lane); });
  return timeline;
}

Timeline project(const StepPlan& plan, const std::vector<Duration>& durations) {
  return project_stages(std::span(&plan, 1), std::span(&durations, 1));
}

}  // namespace moecast
