#include "sim/meeting_plan.h"

#include <algorithm>
#include <bit>
#include <set>
#include <tuple>

#include "base/assert.h"
#include "sim/collectives.h"
#include "sim/group_traffic.h"

namespace moecast {
namespace {

/// Ranks that meet for an operator: a group, or a pair of stages.
struct KindKey {
  Group group = Group::World;
  std::int32_t from = 0, to = 0;  // stages of a point-to-point
  double port_load = 1;           // on one node: its collectives load ports differently

  friend auto operator<=>(const KindKey&, const KindKey&) = default;
};

bool spans_stages(Group group) { return group == Group::World || group == Group::Pipeline; }

class Planner {
 public:
  Planner(std::span<const StepPlan> stages, const ParallelLayout& layout, const PlanCosts& costs)
      : stages_(stages), layout_(layout), costs_(costs) {
    std::int32_t next = 0;
    for (const StepPlan& stage : stages) {
      first_operator_.push_back(next);
      next += static_cast<std::int32_t>(stage.operators.size());
    }
    plan_.meeting_of.resize(static_cast<std::size_t>(next));
    if (costs.topology) model_.emplace(*costs.topology, costs.algorithms);
  }

  MeetingPlan run(const std::vector<double>& slowdown, bool fold) && {
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      for (const Operator& op : stages_[stage].operators) place(static_cast<std::int32_t>(stage), op);
    }
    pair_receives();
    problem_.capacities = capacities();
    color_ranks(slowdown);
    plan_.network = fold_network(problem_, fold);
    for (MeetingOperator& meeting : plan_.meetings) cost_meeting(meeting);
    return std::move(plan_);
  }

 private:
  [[nodiscard]] std::int32_t stage_size() const {
    return static_cast<std::int32_t>(layout_.world_size()) / static_cast<std::int32_t>(stages_.size());
  }
  [[nodiscard]] std::int32_t index(std::int32_t stage, const Operator& op) const {
    return first_operator_[static_cast<std::size_t>(stage)] + op.id.value();
  }

  void place(std::int32_t stage, const Operator& op) {
    ASSERT(op.lane == Lane::Compute || op.work.empty(), "{} works on the {} lane", op.name(), to_text(op.lane));
    if (!op.communication) return;
    const Communication& call = *op.communication;
    const double load = costs_.topology ? 1 : costs_.operators[static_cast<std::size_t>(index(stage, op))].port_load;
    if (call.collective == Collective::PointToPoint && call.peer_stage) {
      const bool sends = op.lane == Lane::Send;
      auto& list = sends ? sends_[{stage, *call.peer_stage}] : receives_[{*call.peer_stage, stage}];
      list.push_back(index(stage, op));
      if (sends) add_meeting({Group::Pipeline, stage, *call.peer_stage, load}, stage, op);
      return;
    }
    if (layout_.group_size(call.group) <= 1) return;
    ASSERT(op.lane != Lane::Compute, "{} meets other ranks on the compute lane", op.name());
    if (stages_.size() > 1 && spans_stages(call.group) && stage > 0) {
      const std::size_t nth = spanning_count_[stage]++;
      ASSERT(nth < spanning_.size(), "{} has no counterpart in the first stage", op.name());
      plan_.meetings[static_cast<std::size_t>(spanning_[nth])].operators.push_back(index(stage, op));
      plan_.meeting_of[static_cast<std::size_t>(index(stage, op))] = spanning_[nth];
      return;
    }
    if (spans_stages(call.group)) spanning_.push_back(static_cast<std::int32_t>(plan_.meetings.size()));
    add_meeting({call.group, 0, 0, load}, stage, op);
  }

  void add_meeting(const KindKey& key, std::int32_t stage, const Operator& op) {
    const auto [found, is_new] = kinds_.try_emplace(key, static_cast<std::int32_t>(kinds_.size()));
    if (is_new) {
      const bool pair = key.from != key.to;
      problem_.kinds.push_back(
          {pair ? stage_pairs(layout_, key.from, key.to) : rank_groups(layout_, key.group), pair, {}});
      if (!costs_.topology)
        problem_.kinds.back().patterns.push_back(port_uses(problem_.kinds.back().groups, key.port_load));
      patterns_.emplace_back();
    }
    if (costs_.topology) add_patterns(found->second, stage, op.communication->collective);
    plan_.meeting_of[static_cast<std::size_t>(index(stage, op))] = static_cast<std::int32_t>(plan_.meetings.size());
    MeetingOperator meeting;
    meeting.kind = found->second;
    meeting.operators = {index(stage, op)};
    plan_.meetings.push_back(std::move(meeting));
    calls_.push_back(*op.communication);
    stage_of_.push_back(stage);
  }

  /// On one node: the ports of the ranks, full duplex and loaded alike, and the switch.
  [[nodiscard]] GroupUses port_uses(const RankGroups& groups, double port_load) const {
    GroupUses uses;
    const auto switch_id = static_cast<std::int32_t>(layout_.world_size());
    for (std::int32_t g = 0; g < groups.group_count(); ++g) {
      for (const std::int32_t rank : groups.members_of(g)) uses.uses.push_back({ResourceId(rank), port_load});
      if (costs_.switch_bandwidth) uses.uses.push_back({ResourceId(switch_id), static_cast<double>(groups.size)});
      uses.first_use.push_back(static_cast<std::int32_t>(uses.uses.size()));
    }
    return uses;
  }

  /// Every pattern that an algorithm for the collective could take in these groups.
  void add_patterns(std::int32_t kind, std::int32_t stage, Collective collective) {
    if (!asked_.insert({kind, stage, collective}).second) return;
    GroupKind& of = problem_.kinds[static_cast<std::size_t>(kind)];
    const std::int32_t first = of.ordered ? 0 : of.groups.group_of[static_cast<std::size_t>(stage * stage_size())];
    const GroupShape shape = model_->shape(of.groups.members_of(first));
    for (const Pattern pattern : patterns_of(collective, shape, costs_.algorithms)) {
      std::vector<Pattern>& known = patterns_[static_cast<std::size_t>(kind)];
      if (std::find(known.begin(), known.end(), pattern) != known.end()) continue;
      known.push_back(pattern);
      if (!traffic_builder_) traffic_builder_.emplace(*costs_.topology);
      GroupUses uses;
      GroupTraffic traffic;
      for (std::int32_t g = 0; g < of.groups.group_count(); ++g) {
        traffic_builder_->build(pattern, of.groups.members_of(g), traffic);
        uses.uses.insert(uses.uses.end(), traffic.uses.begin(), traffic.uses.end());
        uses.first_use.push_back(static_cast<std::int32_t>(uses.uses.size()));
      }
      of.patterns.push_back(std::move(uses));
    }
  }

  void pair_receives() {
    for (const auto& [pair, receiving] : receives_) {
      const std::vector<std::int32_t>& sending = sends_[pair];
      ASSERT(sending.size() == receiving.size(), "{} sends from stage {} to {}, {} receives", sending.size(),
             pair.first, pair.second, receiving.size());
      for (std::size_t i = 0; i < sending.size(); ++i) {
        const std::int32_t meeting = plan_.meeting_of[static_cast<std::size_t>(sending[i])].value();
        plan_.meetings[static_cast<std::size_t>(meeting)].receive = receiving[i];
        plan_.receives.push_back(receiving[i]);
      }
    }
    std::sort(plan_.receives.begin(), plan_.receives.end());
    for (const auto& [pair, sending] : sends_) {
      ASSERT(receives_.contains(pair) || sending.empty(), "stage {} sends to {}, which does not receive", pair.first,
             pair.second);
    }
  }

  [[nodiscard]] std::vector<double> capacities() const {
    if (costs_.topology) {
      std::vector<double> result = costs_.topology->capacities();
      for (const auto& [resource, factor] : costs_.degraded) result.at(static_cast<std::size_t>(resource)) *= factor;
      return result;
    }
    std::vector<double> result(static_cast<std::size_t>(layout_.world_size()), costs_.port.value());
    if (costs_.switch_bandwidth) result.push_back(costs_.switch_bandwidth->value());
    return result;
  }

  void color_ranks(const std::vector<double>& slowdown) {
    for (std::int32_t rank = 0; rank < layout_.world_size(); ++rank) {
      const double factor = slowdown.empty() ? 1 : slowdown[static_cast<std::size_t>(rank)];
      problem_.rank_colors.push_back(std::bit_cast<std::uint64_t>(factor) * 31 +
                                     static_cast<std::uint64_t>(rank / stage_size()));
    }
  }

  /// Classes of groups of the operator's stage are consecutive: stages are ranges of ranks.
  void cost_meeting(MeetingOperator& meeting) {
    const auto at = static_cast<std::size_t>(&meeting - plan_.meetings.data());
    const FoldedKind& kind = plan_.network.kinds[static_cast<std::size_t>(meeting.kind)];
    const RankGroups& groups = problem_.kinds[static_cast<std::size_t>(meeting.kind)].groups;
    const bool all = calls_[at].peer_stage || spans_stages(calls_[at].group) || stages_.size() == 1;
    const auto in_stage = [&](std::int32_t group) {
      return all || groups.members_of(group).front() / stage_size() == stage_of_[at];
    };
    const auto& representative = kind.representative;
    const auto first = std::find_if(representative.begin(), representative.end(), in_stage);
    meeting.first_group = static_cast<std::int32_t>(first - representative.begin());
    meeting.first_phase = {static_cast<std::int32_t>(plan_.phases.size())};
    for (auto group = first; group != representative.end() && in_stage(*group); ++group) {
      add_phases(at, meeting, groups.members_of(*group));
      meeting.first_phase.push_back(static_cast<std::int32_t>(plan_.phases.size()));
    }
    meeting.group_count = static_cast<std::int32_t>(meeting.first_phase.size()) - 1;
  }

  void add_phases(std::size_t at, const MeetingOperator& meeting, std::span<const std::int32_t> members) {
    if (!costs_.topology) {
      const OperatorCost& cost = costs_.operators[static_cast<std::size_t>(meeting.operators.front())];
      plan_.phases.push_back({0, cost.fixed, cost.port_bytes, cost.rate, 1});
      return;
    }
    const Communication& call = calls_[at];
    const auto [found, is_new] =
        known_costs_.try_emplace({meeting.kind, members.front(), call.collective, call.buffer.count()});
    if (is_new) {
      auto shape = shapes_.find({meeting.kind, members.front()});
      if (shape == shapes_.end()) {
        shape = shapes_.emplace(std::pair(meeting.kind, members.front()), model_->shape(members)).first;
      }
      const std::vector<Pattern>& patterns = patterns_[static_cast<std::size_t>(meeting.kind)];
      for (const CollectivePhase& phase : model_->cost(call.collective, call.buffer, shape->second).phases) {
        const auto pattern = std::find(patterns.begin(), patterns.end(), phase.pattern);
        ASSERT(pattern != patterns.end(), "an unlike group of {} members", members.size());
        found->second.push_back({static_cast<std::int32_t>(pattern - patterns.begin()), phase.latency, phase.bytes,
                                 phase.rate, phase.scale});
      }
    }
    plan_.phases.insert(plan_.phases.end(), found->second.begin(), found->second.end());
  }

  std::span<const StepPlan> stages_;
  const ParallelLayout& layout_;
  const PlanCosts& costs_;
  std::optional<CollectiveModel> model_;
  std::optional<TrafficBuilder> traffic_builder_;
  std::vector<std::int32_t> first_operator_;
  FoldingProblem problem_;
  std::map<KindKey, std::int32_t> kinds_;
  std::set<std::tuple<std::int32_t, std::int32_t, Collective>> asked_;  // kinds, stages, collectives seen so far
  std::vector<std::vector<Pattern>> patterns_;                          // by kind
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::int32_t>> sends_, receives_;  // by (from, to)
  std::vector<std::int32_t> spanning_;                  // meetings of the first stage that all stages have
  std::map<std::int32_t, std::size_t> spanning_count_;  // by stage: how many of them it has named
  std::vector<Communication> calls_;                    // by meeting
  std::vector<std::int32_t> stage_of_;                  // by meeting
  std::map<std::pair<std::int32_t, std::int32_t>, GroupShape> shapes_;  // by kind and first member
  std::map<std::tuple<std::int32_t, std::int32_t, Collective, std::int64_t>, std::vector<MeetingPhase>> known_costs_;
  MeetingPlan plan_;
};

}  // namespace

MeetingPlan plan_meetings(std::span<const StepPlan> stages, const ParallelLayout& layout, const PlanCosts& costs,
                          const std::vector<double>& slowdown, bool fold) {
  return Planner(stages, layout, costs).run(slowdown, fold);
}

}  // namespace moecast
