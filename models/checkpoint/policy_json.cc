#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/checkpoint/dynamic_k.h"
#include "models/checkpoint/expert_index.h"
#include "models/checkpoint/policy.h"
#include "models/checkpoint/selection.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxInterval = 1'000'000'000;
constexpr std::int64_t kMaxExperts = 4'096;

const EnumNames<CheckpointKind>& kinds() {
  static const EnumNames<CheckpointKind> names = [] {
    EnumNames<CheckpointKind> all;
    for (const CheckpointKind kind :
         {CheckpointKind::None, CheckpointKind::BlockingFull, CheckpointKind::AsynchronousFull,
          CheckpointKind::PartialOneLevel, CheckpointKind::PartialTwoLevel}) {
      all.emplace_back(to_text(kind), kind);
    }
    return all;
  }();
  return names;
}

const EnumNames<SelectionKind>& selections() {
  static const EnumNames<SelectionKind> names = [] {
    EnumNames<SelectionKind> all;
    for (const SelectionPolicy& policy : selection_policies()) all.emplace_back(policy.name, policy.kind);
    return all;
  }();
  return names;
}

const EnumNames<ComponentRule> kRules = {
    {"all", ComponentRule::All}, {"selected", ComponentRule::Selected}, {"none", ComponentRule::None}};
const EnumNames<ExpertSharding> kExpertShardings = {{"group_zero", ExpertSharding::GroupZero},
                                                    {"equal", ExpertSharding::Equal}};
const EnumNames<NonExpertSharding> kNonExpertShardings = {{"rank_zero", NonExpertSharding::RankZero},
                                                          {"equal", NonExpertSharding::Equal},
                                                          {"adaptive", NonExpertSharding::Adaptive}};

using RuleOf = ComponentRule PartRules::*;
const std::vector<std::pair<std::string_view, RuleOf>> kComponents = {{"weight", &PartRules::weight},
                                                                      {"master", &PartRules::master},
                                                                      {"first_moment", &PartRules::first_moment},
                                                                      {"second_moment", &PartRules::second_moment}};

PartRules read_rules(JsonReader& components, std::string_view part, PartRules rules, bool selectable) {
  JsonReader reader = components.object(part, true);
  for (const auto& [name, rule] : kComponents) {
    rules.*rule = reader.choice(name, kRules, std::optional(rules.*rule));
    if (rules.*rule == ComponentRule::Selected && !selectable) {
      reader.problem(name, "out-of-range", "\"all\" or \"none\" (selection is of experts)", "\"selected\"");
    }
  }
  return rules;
}

/// A preset's name, or {"expert": {"weight": "selected", ...}, "non_expert": {...}} with pec_full_state as default.
ComponentRules read_components(JsonReader& reader) {
  const ComponentRules defaults = {};
  if (reader.kind("components") != "object") {
    return reader.choice("components", component_presets(), std::optional(defaults));
  }
  JsonReader components = reader.object("components");
  ComponentRules rules;
  rules.expert = read_rules(components, "expert", defaults.expert, true);
  rules.non_expert = read_rules(components, "non_expert", defaults.non_expert, false);
  return rules;
}

std::optional<DynamicK> read_dynamic(JsonReader& policy) {
  if (!policy.has("dynamic")) return std::nullopt;
  JsonReader reader = policy.object("dynamic");
  DynamicK dynamic;
  dynamic.plt_budget = reader.number("plt_budget", 0, 1, dynamic.plt_budget);
  if (reader.has("split")) {
    dynamic.split = reader.numbers("split", 0, 1);
    const double sum = std::accumulate(dynamic.split.begin(), dynamic.split.end(), 0.0);
    if (sum > 1 + 1e-9)
      reader.problem("split", "out-of-range", "shares that add up to at most 1", fmt::format("{}", sum));
  }
  return dynamic;
}

PartialExperts read_partial(JsonReader& reader, bool two_levels) {
  PartialExperts partial;
  if (two_levels) {
    const std::size_t before = reader.problem_count();
    partial.experts.snapshot = reader.integer("snapshot_experts", 1, kMaxExperts);
    partial.experts.persist = reader.integer("persist_experts", 1, kMaxExperts);
    if (reader.problem_count() == before && partial.experts.persist > partial.experts.snapshot) {
      reader.problem("persist_experts", "out-of-range",
                     fmt::format("at most the {} experts that are snapshotted", partial.experts.snapshot),
                     std::to_string(partial.experts.persist));
    }
    partial.allow_newer_experts = reader.boolean("allow_newer_experts", partial.allow_newer_experts);
  } else {
    partial.experts.snapshot = partial.experts.persist = reader.integer("experts", 1, kMaxExperts);
  }
  partial.selection = reader.choice("selection", selections(), std::optional(partial.selection));
  if (partial.selection == SelectionKind::Random) {
    partial.seed = static_cast<std::uint64_t>(reader.integer("seed", 0, INT64_MAX, 0));
  }
  partial.components = read_components(reader);
  partial.dynamic = read_dynamic(reader);
  partial.first_full = reader.boolean("first_full", partial.first_full);
  return partial;
}

Sharding read_sharding(JsonReader& policy) {
  JsonReader reader = policy.object("sharding", true);
  Sharding sharding;
  sharding.expert = reader.choice("expert", kExpertShardings, std::optional(sharding.expert));
  sharding.non_expert = reader.choice("non_expert", kNonExpertShardings, std::optional(sharding.non_expert));
  return sharding;
}

/// What does not fit a model: at which key, what was expected, what was found.
struct Misfit {
  std::string key, expected, found;
};

std::vector<Misfit> misfits(const CheckpointPolicy& policy, const MoeModel& model) {
  if (!policy.is_partial()) return {};
  const ExpertIndex experts(model);
  if (experts.layer_count() == 0) return {{"kind", "a model with MoE layers", "none"}};
  const auto smallest = std::min_element(experts.layers().begin(), experts.layers().end(),
                                         [](const auto& a, const auto& b) { return a.expert_count < b.expert_count; });
  std::vector<Misfit> found;
  const bool two_levels = policy.kind == CheckpointKind::PartialTwoLevel;
  const auto check = [&](const char* key, std::int64_t count) {
    if (count <= smallest->expert_count) return;
    found.push_back({key,
                     fmt::format("at most the {} experts of block {}", smallest->expert_count, smallest->block.value()),
                     std::to_string(count)});
  };
  check(two_levels ? "snapshot_experts" : "experts", policy.partial.experts.snapshot);
  if (two_levels) check("persist_experts", policy.partial.experts.persist);
  if (found.empty() && policy.partial.dynamic && !policy.partial.dynamic->split.empty()) {
    const std::size_t levels = dynamic_levels(policy.partial.experts, smallest->expert_count).size();
    if (policy.partial.dynamic->split.size() != levels) {
      found.push_back({"dynamic",
                       fmt::format("{} shares in \"split\", one for each K below {}", levels, smallest->expert_count),
                       std::to_string(policy.partial.dynamic->split.size())});
    }
  }
  return found;
}

Json rules_json(const PartRules& rules) {
  Json json;
  for (const auto& [name, rule] : kComponents) json[std::string(name)] = name_of(kRules, rules.*rule);
  return json;
}

Json components_json(const ComponentRules& rules) {
  const std::string_view preset = preset_name(rules);
  if (preset != "custom") return preset;
  return {{"expert", rules_json(rules.expert)}, {"non_expert", rules_json(rules.non_expert)}};
}

void add_partial(Json& json, const PartialExperts& partial, bool two_levels) {
  if (two_levels) {
    json["snapshot_experts"] = partial.experts.snapshot;
    json["persist_experts"] = partial.experts.persist;
    json["allow_newer_experts"] = partial.allow_newer_experts;
  } else {
    json["experts"] = partial.experts.snapshot;
  }
  json["selection"] = to_text(partial.selection);
  if (partial.selection == SelectionKind::Random) json["seed"] = partial.seed;
  json["components"] = components_json(partial.components);
  if (partial.dynamic) {
    json["dynamic"] = {{"plt_budget", partial.dynamic->plt_budget}};
    if (!partial.dynamic->split.empty()) json["dynamic"]["split"] = partial.dynamic->split;
  }
  json["first_full"] = partial.first_full;
}

}  // namespace

CheckpointPolicy read_checkpoint_policy(JsonReader& reader) {
  CheckpointPolicy policy;
  policy.kind = reader.choice<CheckpointKind>("kind", kinds());
  if (policy.kind == CheckpointKind::None) return policy;
  policy.interval = reader.integer("interval", 1, kMaxInterval);
  policy.sharding = read_sharding(reader);
  if (policy.is_partial()) policy.partial = read_partial(reader, policy.kind == CheckpointKind::PartialTwoLevel);
  return policy;
}

void check_checkpoint_policy(JsonReader& reader, const CheckpointPolicy& policy, const MoeModel& model) {
  for (Misfit& misfit : misfits(policy, model)) {
    reader.problem(misfit.key, "conflict", std::move(misfit.expected), std::move(misfit.found));
  }
}

Status check_checkpoint_policy(const CheckpointPolicy& policy, const MoeModel& model) {
  std::string text;
  for (const Misfit& misfit : misfits(policy, model)) {
    text +=
        fmt::format("{}{}: expected {}, found {}", text.empty() ? "" : "; ", misfit.key, misfit.expected, misfit.found);
  }
  if (text.empty()) return {};
  return Error{ErrorKind::BadInput, "checkpoint", text};
}

Json to_json(const CheckpointPolicy& policy) {
  Json json;
  json["kind"] = to_text(policy.kind);
  if (policy.kind == CheckpointKind::None) return json;
  json["interval"] = policy.interval;
  if (policy.is_partial()) add_partial(json, policy.partial, policy.kind == CheckpointKind::PartialTwoLevel);
  json["sharding"] = {{"expert", name_of(kExpertShardings, policy.sharding.expert)},
                      {"non_expert", name_of(kNonExpertShardings, policy.sharding.non_expert)}};
  return json;
}

}  // namespace moecast
