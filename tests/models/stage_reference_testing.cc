#include "tests/models/stage_reference_testing.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include <gtest/gtest.h>

namespace moecast::testing_models {
namespace {

using Ends = std::vector<std::vector<std::int64_t>>;

class StageRun {
 public:
  StageRun(const std::vector<StepPlan>& plans, const std::function<std::int64_t(const Operator&)>& ticks)
      : plans_(plans), ticks_(ticks), stages_(plans.size()) {
    for (const StepPlan& plan : plans) ends_.emplace_back(plan.operators.size(), kNotYet);
    for (std::size_t s = 0; s < plans.size(); ++s) {
      for (const Operator& op : plans[s].operators) stages_[s].queue[lane(op)].push_back(op.id.index());
    }
  }

  Ends finish() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t s = 0; s < plans_.size(); ++s) {
        for (std::size_t lane = 0; lane < kLaneCount; ++lane) moved |= advance(s, lane);
      }
    }
    for (std::size_t s = 0; s < plans_.size(); ++s) {
      for (const Operator& op : plans_[s].operators) {
        EXPECT_NE(ends_[s][op.id.index()], kNotYet) << "stage " << s << " never ends " << op.name();
      }
    }
    return ends_;
  }

 private:
  static constexpr std::int64_t kNotYet = -1;
  struct Stage {
    std::array<std::vector<std::size_t>, kLaneCount> queue;
    std::array<std::size_t, kLaneCount> next{};
    std::array<std::int64_t, kLaneCount> free{};
    std::map<std::int32_t, std::vector<std::int64_t>> sent;  // by receiving stage: ends of sends
    std::map<std::int32_t, std::size_t> received;            // by sending stage
  };
  static std::size_t lane(const Operator& op) { return static_cast<std::size_t>(op.lane); }

  bool advance(std::size_t s, std::size_t lane) {
    Stage& stage = stages_[s];
    bool moved = false;
    while (stage.next[lane] < stage.queue[lane].size()) {
      const Operator& op = plans_[s].operators[stage.queue[lane][stage.next[lane]]];
      const std::optional<std::int64_t> end = end_of(s, op, stage.free[lane]);
      if (!end) break;
      ends_[s][op.id.index()] = stage.free[lane] = *end;
      ++stage.next[lane];
      moved = true;
    }
    return moved;
  }

  std::optional<std::int64_t> end_of(std::size_t s, const Operator& op, std::int64_t start) {
    for (const OpId dependency : op.dependencies) {
      const std::int64_t end = ends_[s][dependency.index()];
      if (end == kNotYet) return std::nullopt;
      start = std::max(start, end);
    }
    const auto self = static_cast<std::int32_t>(s);
    if (op.kind == OpKind::Receive) {
      const std::int32_t peer = *op.communication->peer_stage;
      const std::vector<std::int64_t>& sent = stages_[static_cast<std::size_t>(peer)].sent[self];
      std::size_t& received = stages_[s].received[peer];
      if (received == sent.size()) return std::nullopt;
      return std::max(start, sent[received++]);
    }
    const std::int64_t end = start + ticks_(op);
    if (op.kind == OpKind::Send) stages_[s].sent[*op.communication->peer_stage].push_back(end);
    return end;
  }

  const std::vector<StepPlan>& plans_;
  const std::function<std::int64_t(const Operator&)>& ticks_;
  std::vector<Stage> stages_;
  Ends ends_;
};

}  // namespace

Ends run_stages(const std::vector<StepPlan>& plans, const std::function<std::int64_t(const Operator&)>& ticks) {
  return StageRun(plans, ticks).finish();
}

std::int64_t stages_wall(const std::vector<StepPlan>& plans,
                         const std::function<std::int64_t(const Operator&)>& ticks) {
  std::int64_t wall = 0;
  for (const auto& ends : run_stages(plans, ticks)) {
    for (const std::int64_t end : ends) wall = std::max(wall, end);
  }
  return wall;
}

}  // namespace moecast::testing_models
