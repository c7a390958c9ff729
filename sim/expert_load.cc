#include "sim/expert_load.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/operator_work.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMaxExponent = 10;

const EnumNames<LoadKind> kLoads = {
    {"uniform", LoadKind::Uniform}, {"zipf", LoadKind::Zipf}, {"measured", LoadKind::Measured}};

/// Does nothing but one exchange or the experts of one routing.
bool routes(const Operator& op) {
  return op.layer && (op.kind == OpKind::Dispatch || op.kind == OpKind::Combine || op.kind == OpKind::Expert);
}

/// Combine's gradients go the way of Dispatch.
bool goes_to_experts(const Operator& op) { return (op.kind == OpKind::Dispatch) != (op.phase == Phase::Backward); }

const MoeFfn& moe_of(const Workload& workload, LayerId layer) { return *workload.model.blocks[layer.index()].moe; }

void read_share(JsonReader& entry, const Workload& workload, RoutingLoad& routing) {
  std::optional<LayerId> layer;
  std::vector<std::int64_t> choices;  // of the layers that the entry could be of
  for (std::size_t i = 0; i < workload.model.blocks.size(); ++i) {
    if (workload.model.blocks[i].moe) choices.push_back(workload.model.blocks[i].moe->choice_count());
  }
  if (entry.has("layer")) {
    layer = LayerId(static_cast<std::int32_t>(entry.integer("layer", 0, std::ssize(workload.model.blocks) - 1)));
    const Block& block = workload.model.blocks[layer->index()];
    if (!block.moe) {
      entry.problem("layer", "conflict", "a layer with experts", std::to_string(layer->value()));
      return;
    }
    choices = {block.moe->choice_count()};
  }
  if (entry.has("dropped")) (void)entry.raw("dropped");  // a training's file says it too
  std::vector<double> shares = entry.numbers("share", 0, 1e18);
  for (const std::int64_t count : choices) {
    if (shares.empty() || std::ssize(shares) == count) continue;
    entry.problem("share", "wrong-length", fmt::format("one number for each of the {} experts", count),
                  std::to_string(shares.size()));
    return;
  }
  if (!shares.empty() && std::accumulate(shares.begin(), shares.end(), 0.0) <= 0) {
    entry.problem("share", "out-of-range", "a share above 0", "none");
  }
  if (!routing.shares.emplace(layer, std::move(shares)).second) {
    entry.problem("layer", "duplicate", "each layer once", layer ? std::to_string(layer->value()) : "none, twice");
  }
}

LoadDistribution distribution_of(const RoutingLoad& routing, LayerId layer) {
  LoadDistribution distribution{routing.kind, routing.exponent, {}};
  if (routing.kind != LoadKind::Measured) return distribution;
  auto found = routing.shares.find(layer);
  if (found == routing.shares.end()) found = routing.shares.find(std::nullopt);
  if (found == routing.shares.end()) return {};  // a layer that nobody measured
  distribution.shares = found->second;
  return distribution;
}

/// Without a capacity the choices of all members are those of one rank with all their tokens.
MemberLoad draw(const MoeFfn& moe, const std::vector<double>& shares, std::int64_t members, std::int64_t tokens,
                std::uint64_t seed, std::uint64_t stream) {
  const bool dropless = !moe.capacity_factor;
  const RoutedTokens routed = route_tokens({moe, 1, dropless ? members * tokens : tokens, shares, seed, stream});
  const double all = static_cast<double>(tokens * moe.gate.top_k);
  MemberLoad load;
  if (!dropless) {
    load.dropped =
        static_cast<double>(std::accumulate(routed.dropped.begin(), routed.dropped.end(), std::int64_t{0})) / all;
    return load;
  }
  load.rows.assign(static_cast<std::size_t>(members), 0);
  const std::size_t local = routed.sent.size() / load.rows.size();
  for (std::size_t e = 0; e < routed.sent.size(); ++e) load.rows[e / local] += static_cast<double>(routed.sent[e]);
  load.mean = static_cast<double>(moe.routed_rows(tokens));
  return load;
}

/// Charges one plan after another; what repeats is computed once.
class Charger {
 public:
  Charger(const ExpertLoads& loads, const Workload& workload, const HardwareProfile& hardware, PlanCosts& costs)
      : loads_(loads),
        workload_(workload),
        request_(request_of(workload)),
        work_(request_, 0),
        hardware_(hardware),
        costs_(costs) {}

  void charge(const Operator& op, OperatorCost& cost) {
    const auto found = loads_.find({op.layer.value(), op.second_routing});
    if (found == loads_.end() || found->second.rows.empty()) return;
    const MemberLoad& load = found->second;
    const bool computes = op.kind == OpKind::Expert;
    if (!computes && load.rows.size() == 1) return;  // a copy on its rank
    const auto [entry, is_new] = known_.try_emplace(
        {found->first, computes, computes ? op.phase : Phase::Forward, !computes && goes_to_experts(op)},
        static_cast<std::int32_t>(costs_.uneven.size()));
    if (is_new) costs_.uneven.push_back(computes ? times(op, load) : weights(goes_to_experts(op), load));
    cost.uneven = entry->second;
  }

 private:
  static UnevenCost weights(bool to_experts, const MemberLoad& load) {
    const std::vector<double> alike(load.rows.size(), 1);
    return to_experts ? UnevenCost{{alike, load.rows}, {}} : UnevenCost{{load.rows, alike}, {}};
  }

  UnevenCost times(const Operator& op, const MemberLoad& load) {
    const MoeFfn& moe = moe_of(workload_, op.layer.value());
    ExpertShare share = work_.share(moe, 0, 1);
    UnevenCost uneven;
    Operator of_member = op;
    for (const double rows : load.rows) {
      share.rows = rows / static_cast<double>(share.groups);
      of_member.work = work_.expert(op.phase, moe, share, splits_expert_weights(request_));
      uneven.times.push_back(hardware_.device.time(of_member));
    }
    return uneven;
  }

  const ExpertLoads& loads_;
  const Workload& workload_;
  StepPlanRequest request_;
  OperatorWork work_;
  const HardwareProfile& hardware_;
  PlanCosts& costs_;
  std::map<std::tuple<RoutingId, bool, Phase, bool>, std::int32_t> known_;
};

}  // namespace

double MemberLoad::heaviest() const { return rows.empty() ? 1 : *std::max_element(rows.begin(), rows.end()) / mean; }

std::optional<RoutingLoad> read_routing(JsonReader& scenario, const Workload& workload) {
  if (!scenario.has("routing")) return std::nullopt;
  JsonReader reader = scenario.object("routing");
  RoutingLoad routing;
  routing.kind = reader.choice("load", kLoads);
  if (routing.kind == LoadKind::Zipf) routing.exponent = reader.number("exponent", 0, kMaxExponent, routing.exponent);
  if (routing.kind == LoadKind::Measured) {
    for (JsonReader& entry : reader.objects("expert_load")) read_share(entry, workload, routing);
  }
  const auto& blocks = workload.model.blocks;
  if (!blocks.empty() && std::none_of(blocks.begin(), blocks.end(), [](const Block& b) { return b.moe.has_value(); })) {
    scenario.problem("routing", "conflict", "a model with experts", workload.model.name);
  }
  return routing;
}

Json to_json(const RoutingLoad& routing) {
  Json json = {{"load", name_of(kLoads, routing.kind)}};
  if (routing.kind == LoadKind::Zipf) json["exponent"] = routing.exponent;
  for (const auto& [layer, share] : routing.shares) {
    Json entry = Json::object();
    if (layer) entry["layer"] = layer->value();
    entry["share"] = share;
    json["expert_load"].push_back(std::move(entry));
  }
  return json;
}

ExpertLoads draw_loads(const RoutingLoad& routing, const Workload& workload, std::uint64_t seed) {
  const StepPlanRequest request = request_of(workload);
  const std::int64_t tokens = OperatorWork(request, 0).routed_tokens();
  ExpertLoads loads;
  for (std::size_t i = 0; i < workload.model.blocks.size(); ++i) {
    if (!workload.model.blocks[i].moe) continue;
    const MoeFfn& moe = *workload.model.blocks[i].moe;
    const LayerId layer(static_cast<std::int32_t>(i));
    const std::vector<double> shares =
        expert_shares(distribution_of(routing, layer), moe.choice_count(), seed, static_cast<std::uint64_t>(i));
    for (std::int64_t routing_index = 0; routing_index < moe.routing_count(); ++routing_index) {
      const auto stream = static_cast<std::uint64_t>(2 * std::ssize(workload.model.blocks)) + 2 * i +
                          static_cast<std::uint64_t>(routing_index);
      loads.emplace(RoutingId(layer, routing_index > 0),
                    draw(moe, shares, workload.layout.expert, tokens, seed, stream));
    }
  }
  return loads;
}

void charge_loads(const ExpertLoads& loads, std::span<const StepPlan> stages, const Workload& workload,
                  const HardwareProfile& hardware, PlanCosts& costs) {
  Charger charger(loads, workload, hardware, costs);
  std::size_t next = 0;
  for (const StepPlan& stage : stages) {
    for (const Operator& op : stage.operators) {
      if (routes(op)) charger.charge(op, costs.operators[next]);
      ++next;
    }
  }
}

std::string describe(const RoutingLoad& routing, const ExpertLoads& loads) {
  std::string text(name_of(kLoads, routing.kind));
  if (routing.kind == LoadKind::Zipf) text += fmt::format(" {:.3g}", routing.exponent);
  if (loads.empty()) return text;
  const auto heaviest = std::max_element(loads.begin(), loads.end(), [](const auto& a, const auto& b) {
    return a.second.heaviest() < b.second.heaviest();
  });
  if (!heaviest->second.rows.empty()) {
    text += fmt::format(": the busiest rank gets {:.2f} times the mean (layer {})", heaviest->second.heaviest(),
                        heaviest->first.first.value());
  }
  double dropped = 0;
  for (const auto& [id, load] : loads) dropped += load.dropped / static_cast<double>(loads.size());
  if (dropped > 0)
    text += fmt::format("{} {:.1f} % of choices dropped", text.find(':') < text.size() ? "," : ":", 100 * dropped);
  return text;
}

}  // namespace moecast
