#include "sim/meeting_plan.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <set>
#include <tuple>

#include "base/assert.h"
#include "sim/binding_links.h"
#include "sim/collectives.h"
#include "sim/group_traffic.h"

namespace moecast {
namespace {

/// Ranks that meet for an operator: a group, or a pair of stages.
struct KindKey {
  Group group = Group::World;
  std::int32_t from = 0, to = 0;  // stages of a point-to-point

  friend auto operator<=>(const KindKey&, const KindKey&) = default;
};

/// What tells the loads of a kind's collectives apart.
struct PatternKey {
  Pattern pattern = Pattern::Direct;
  double port_load = 1;  // on one node: its collectives load ports differently
  std::optional<std::int32_t> uneven = std::nullopt;

  friend bool operator==(const PatternKey&, const PatternKey&) = default;
};

/// On one node, where one capacity stands for both directions: what of an uneven all-to-all passes a member's port, in
/// units of a balanced one.
std::vector<double> port_parts(const MemberWeights& weights) {
  const auto sum = [](const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); };
  const double sent = sum(weights.sent), received = sum(weights.received);
  const auto n = static_cast<double>(weights.sent.size());
  std::vector<double> parts;
  for (std::size_t i = 0; i < weights.sent.size(); ++i) {
    const double out = weights.sent[i] * (received - weights.received[i]);
    const double in = weights.received[i] * (sent - weights.sent[i]);
    parts.push_back(std::max(out, in) / (sent * received) * n * n / (n - 1));
  }
  return parts;
}

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
    capacities_ = capacities();
    numbers_.resize(capacities_.size(), kUnused);
    binds_.resize(capacities_.size(), true);
    if (costs.topology) binds_ = binding_links(*costs.topology, costs.degraded);
  }

  MeetingPlan run(const std::vector<double>& slowdown, bool fold) && {
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      for (const Operator& op : stages_[stage].operators) place(static_cast<std::int32_t>(stage), op);
    }
    pair_receives();
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
    if (call.collective == Collective::PointToPoint && call.peer_stage) {
      const bool sends = op.lane == Lane::Send;
      auto& list = sends ? sends_[{stage, *call.peer_stage}] : receives_[{*call.peer_stage, stage}];
      list.push_back(index(stage, op));
      if (sends) add_meeting({Group::Pipeline, stage, *call.peer_stage}, stage, op);
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
    add_meeting({call.group, 0, 0}, stage, op);
  }

  void add_meeting(const KindKey& key, std::int32_t stage, const Operator& op) {
    const auto [found, is_new] = kinds_.try_emplace(key, static_cast<std::int32_t>(kinds_.size()));
    if (is_new) {
      const bool pair = key.from != key.to;
      problem_.kinds.push_back(
          {pair ? stage_pairs(layout_, key.from, key.to) : rank_groups(layout_, key.group), pair, {}});
      patterns_.emplace_back();
    }
    add_patterns(found->second, stage, op);
    plan_.meeting_of[static_cast<std::size_t>(index(stage, op))] = static_cast<std::int32_t>(plan_.meetings.size());
    MeetingOperator meeting;
    meeting.kind = found->second;
    meeting.operators = {index(stage, op)};
    plan_.meetings.push_back(std::move(meeting));
    calls_.push_back(*op.communication);
    stage_of_.push_back(stage);
  }

  [[nodiscard]] const OperatorCost& cost_of(std::int32_t stage, const Operator& op) const {
    return costs_.operators[static_cast<std::size_t>(index(stage, op))];
  }
  [[nodiscard]] const MemberWeights& weights(std::int32_t uneven) const {
    return costs_.uneven[static_cast<std::size_t>(uneven)].weights;
  }

  /// Of a resource that can be short.
  void add_use(std::int32_t resource, double load, GroupUses& uses) {
    const auto at = static_cast<std::size_t>(resource);
    if (!binds_[at]) return;
    if (numbers_[at] == kUnused) {
      numbers_[at] = static_cast<std::int32_t>(problem_.capacities.size());
      problem_.capacities.push_back(capacities_[at]);
    }
    uses.uses.push_back({ResourceId(numbers_[at]), load});
  }

  /// On one node: the ports of the ranks, full duplex and loaded alike, and the switch.
  void add_port_uses(std::span<const std::int32_t> members, const PatternKey& key, GroupUses& uses) {
    const auto switch_id = static_cast<std::int32_t>(layout_.world_size());
    const std::vector<double> parts =
        key.uneven ? port_parts(weights(*key.uneven)) : std::vector<double>(members.size(), 1);
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (parts[i] > 0) add_use(members[i], parts[i] * key.port_load, uses);
    }
    if (costs_.switch_bandwidth) add_use(switch_id, std::accumulate(parts.begin(), parts.end(), 0.0), uses);
  }

  /// Every pattern that an algorithm for the operator's collective could take in these groups.
  void add_patterns(std::int32_t kind, std::int32_t stage, const Operator& op) {
    const Collective collective = op.communication->collective;
    const OperatorCost& cost = cost_of(stage, op);
    const double port_load = costs_.topology ? 1 : cost.port_load;
    if (!asked_.insert({kind, stage, collective, port_load, cost.uneven.value_or(-1)}).second) return;
    const GroupKind& of = problem_.kinds[static_cast<std::size_t>(kind)];
    std::vector<Pattern> patterns = {Pattern::Direct};
    if (costs_.topology) {
      const std::int32_t first = of.ordered ? 0 : of.groups.group_of[static_cast<std::size_t>(stage * stage_size())];
      patterns = patterns_of(collective, model_->shape(of.groups.members_of(first), {}), costs_.algorithms);
    }
    for (const Pattern pattern : patterns) add_pattern(kind, stage, {pattern, port_load, cost.uneven});
  }

  void add_pattern(std::int32_t kind, std::int32_t stage, const PatternKey& key) {
    std::vector<PatternKey>& known = patterns_[static_cast<std::size_t>(kind)];
    if (std::find(known.begin(), known.end(), key) != known.end()) return;
    known.push_back(key);
    GroupKind& of = problem_.kinds[static_cast<std::size_t>(kind)];
    GroupUses uses;
    GroupTraffic traffic;
    for (std::int32_t g = 0; g < of.groups.group_count(); ++g) {
      const std::span<const std::int32_t> members = of.groups.members_of(g);
      const bool runs = !key.uneven || members.front() / stage_size() == stage;  // a layer is of one stage
      if (runs && !costs_.topology) add_port_uses(members, key, uses);
      if (runs && costs_.topology) {
        if (key.uneven) {
          model_->traffic_builder().build_uneven(key.pattern, members, weights(*key.uneven), traffic);
        } else {
          model_->traffic_builder().build(key.pattern, members, traffic);
        }
        for (const ResourceUse& use : traffic.uses) add_use(use.resource.value(), use.coefficient, uses);
      }
      uses.first_use.push_back(static_cast<std::int32_t>(uses.uses.size()));
    }
    of.patterns.push_back(std::move(uses));
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

  /// By resource of the topology or port; those that flows use are numbered anew in the problem.
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
      std::uint64_t color = std::bit_cast<std::uint64_t>(factor) * 31 + static_cast<std::uint64_t>(rank / stage_size());
      if (!costs_.uneven.empty()) {  // members of an expert group differ
        color = color * 1'000'003 + static_cast<std::uint64_t>(layout_.position(Group::Expert, Rank(rank)));
      }
      problem_.rank_colors.push_back(color);
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

  [[nodiscard]] std::int32_t place_of(std::int32_t kind, const PatternKey& key) const {
    const std::vector<PatternKey>& known = patterns_[static_cast<std::size_t>(kind)];
    const auto found = std::find(known.begin(), known.end(), key);
    ASSERT(found != known.end(), "a pattern that no group like this has");
    return static_cast<std::int32_t>(found - known.begin());
  }

  /// With the patterns that collectives in these groups may take.
  [[nodiscard]] GroupShape shape_of(std::int32_t kind, std::span<const std::int32_t> members) {
    std::vector<Pattern> patterns;
    for (const PatternKey& key : patterns_[static_cast<std::size_t>(kind)]) patterns.push_back(key.pattern);
    std::sort(patterns.begin(), patterns.end());
    patterns.erase(std::unique(patterns.begin(), patterns.end()), patterns.end());
    return model_->shape(members, patterns);
  }

  void add_phases(std::size_t at, const MeetingOperator& meeting, std::span<const std::int32_t> members) {
    const OperatorCost& cost = costs_.operators[static_cast<std::size_t>(meeting.operators.front())];
    if (!costs_.topology) {
      double most = 1;
      if (cost.uneven) {
        const std::vector<double> parts = port_parts(weights(*cost.uneven));
        most = *std::max_element(parts.begin(), parts.end());
      }
      const std::int32_t pattern = place_of(meeting.kind, {Pattern::Direct, cost.port_load, cost.uneven});
      plan_.phases.push_back({pattern, cost.fixed, cost.port_bytes, cost.rate / most, 1});
      return;
    }
    const Communication& call = calls_[at];
    const auto [found, is_new] = known_costs_.try_emplace(
        {meeting.kind, members.front(), call.collective, call.buffer.count(), cost.uneven.value_or(-1)});
    if (is_new) {
      auto shape = shapes_.find({meeting.kind, members.front()});
      if (shape == shapes_.end()) {
        shape = shapes_.emplace(std::pair(meeting.kind, members.front()), shape_of(meeting.kind, members)).first;
      }
      const CollectiveCost alone =
          cost.uneven ? model_->uneven_all_to_all(call.buffer, shape->second, members, weights(*cost.uneven))
                      : model_->cost(call.collective, call.buffer, shape->second);
      for (const CollectivePhase& phase : alone.phases) {
        found->second.push_back({place_of(meeting.kind, {phase.pattern, 1, cost.uneven}), phase.latency, phase.bytes,
                                 phase.rate, phase.scale});
      }
    }
    plan_.phases.insert(plan_.phases.end(), found->second.begin(), found->second.end());
  }

  std::span<const StepPlan> stages_;
  const ParallelLayout& layout_;
  const PlanCosts& costs_;
  std::optional<CollectiveModel> model_;
  static constexpr std::int32_t kUnused = -1;
  std::vector<double> capacities_;     // by resource
  std::vector<bool> binds_;            // by resource: it can be short
  std::vector<std::int32_t> numbers_;  // by resource: in the problem
  std::vector<std::int32_t> first_operator_;
  FoldingProblem problem_;
  std::map<KindKey, std::int32_t> kinds_;
  /// Kinds, stages, collectives, port loads and unevennesses seen so far.
  std::set<std::tuple<std::int32_t, std::int32_t, Collective, double, std::int32_t>> asked_;
  std::vector<std::vector<PatternKey>> patterns_;                                                // by kind
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::int32_t>> sends_, receives_;  // by (from, to)
  std::vector<std::int32_t> spanning_;                  // meetings of the first stage that all stages have
  std::map<std::int32_t, std::size_t> spanning_count_;  // by stage: how many of them it has named
  std::vector<Communication> calls_;                    // by meeting
  std::vector<std::int32_t> stage_of_;                  // by meeting
  std::map<std::pair<std::int32_t, std::int32_t>, GroupShape> shapes_;  // by kind and first member
  /// By kind, first member, collective, buffer and unevenness.
  std::map<std::tuple<std::int32_t, std::int32_t, Collective, std::int64_t, std::int32_t>, std::vector<MeetingPhase>>
      known_costs_;
  MeetingPlan plan_;
};

}  // namespace

MeetingPlan plan_meetings(std::span<const StepPlan> stages, const ParallelLayout& layout, const PlanCosts& costs,
                          const std::vector<double>& slowdown, bool fold) {
  return Planner(stages, layout, costs).run(slowdown, fold);
}

}  // namespace moecast
