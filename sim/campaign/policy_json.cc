#include "sim/campaign/policy_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/checkpoint/dynamic_k.h"
#include "sim/campaign/policy.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxInterval = 1'000'000'000;
constexpr std::int64_t kMaxCopies = 1024;

/// Which kinds own which key: for messages alone, the readers below decide.
struct OwnedKey {
  std::string_view key;
  std::array<std::string_view, 5> owners;
};
constexpr std::array kOwnedKeys = {
    OwnedKey{"interval", {"blocking_full", "async_full", "pec", "pec_two_level", "peer_replicas"}},
    OwnedKey{"sharding", {"blocking_full", "async_full", "pec", "pec_two_level"}},
    OwnedKey{"snapshot_experts", {"pec_two_level"}},
    OwnedKey{"persist_experts", {"pec_two_level"}},
    OwnedKey{"allow_newer_experts", {"pec_two_level"}},
    OwnedKey{"experts", {"pec"}},
    OwnedKey{"selection", {"pec", "pec_two_level"}},
    OwnedKey{"components", {"pec", "pec_two_level"}},
    OwnedKey{"dynamic", {"pec", "pec_two_level"}},
    OwnedKey{"first_full", {"pec", "pec_two_level"}},
    OwnedKey{"copies", {"peer_replicas", "just_in_time", "sparse_window", "elastic"}},
    OwnedKey{"hidden", {"peer_replicas"}},
    OwnedKey{"storage_every", {"peer_replicas", "sparse_window"}},
    OwnedKey{"storage_interval", {"just_in_time", "elastic"}},
    OwnedKey{"window", {"sparse_window"}},
    OwnedKey{"stall_per_step", {"sparse_window"}},
    OwnedKey{"conversion_factor", {"sparse_window"}},
    OwnedKey{"replay_factor", {"sparse_window"}},
    OwnedKey{"reconfiguration", {"elastic"}},
    OwnedKey{"least_nodes", {"elastic"}},
};

PeerReplicaSettings read_peers(JsonReader& reader) {
  PeerReplicaSettings settings;
  settings.interval = reader.integer("interval", 1, kMaxInterval, settings.interval);
  settings.copies = reader.integer("copies", 1, kMaxCopies, settings.copies);
  settings.storage_every = reader.integer("storage_every", 0, kMaxInterval, settings.storage_every);
  settings.hidden = reader.number("hidden", 0, 1, settings.hidden);
  return settings;
}

JustInTimeSettings read_just_in_time(JsonReader& reader) {
  JustInTimeSettings settings;
  settings.copies = reader.integer("copies", 1, kMaxCopies, settings.copies);
  settings.storage_interval = reader.integer("storage_interval", 0, kMaxInterval, settings.storage_interval);
  return settings;
}

SparseWindowSettings read_sparse(JsonReader& reader) {
  SparseWindowSettings settings;
  settings.window = reader.integer("window", 1, kMaxInterval);
  settings.copies = reader.integer("copies", 1, kMaxCopies, settings.copies);
  settings.stall_per_step = reader.duration("stall_per_step", settings.stall_per_step);
  settings.conversion_factor = reader.number("conversion_factor", 0, 10, settings.conversion_factor);
  settings.replay_factor = reader.number("replay_factor", 0, 10, settings.replay_factor);
  settings.storage_every = reader.integer("storage_every", 0, kMaxInterval, settings.storage_every);
  return settings;
}

ElasticSettings read_elastic(JsonReader& reader) {
  ElasticSettings settings;
  settings.copies = reader.integer("copies", 1, kMaxCopies, settings.copies);
  settings.reconfiguration = reader.duration("reconfiguration");
  settings.storage_interval = reader.integer("storage_interval", 0, kMaxInterval, settings.storage_interval);
  settings.least_nodes = reader.number("least_nodes", 0, 1, settings.least_nodes);
  return settings;
}

/// Keys that other kinds own, each with its owners.
void name_owners(JsonReader& reader, std::string_view kind) {
  for (const OwnedKey& owned : kOwnedKeys) {
    const bool ours = std::find(owned.owners.begin(), owned.owners.end(), kind) != owned.owners.end();
    if (ours || reader.kind(owned.key).empty()) continue;
    std::vector<std::string_view> owners(owned.owners.begin(), owned.owners.end());
    std::erase(owners, "");
    reader.problem(owned.key, "unknown-key", fmt::format("only keys of \"{}\"", kind),
                   fmt::format("\"{}\", a key of {}", owned.key, fmt::join(owners, ", ")));
  }
}

}  // namespace

PolicySettings read_policy(JsonReader& campaign) {
  JsonReader reader = campaign.object("policy");
  EnumNames<std::size_t> kinds;
  for (const PolicyKind& kind : policy_kinds()) kinds.emplace_back(kind.name, kinds.size() + 1);
  const std::size_t chosen = reader.choice("kind", kinds);
  if (chosen == 0) return CheckpointPolicy{};
  const std::string_view kind = kinds[chosen - 1].first;
  name_owners(reader, kind);
  if (kind == "peer_replicas") return read_peers(reader);
  if (kind == "just_in_time") return read_just_in_time(reader);
  if (kind == "sparse_window") return read_sparse(reader);
  if (kind == "elastic") return read_elastic(reader);
  return read_checkpoint_policy(reader);
}

namespace {

void check_partial(JsonReader& policy, const CheckpointPolicy& settings, const ExpertPlacement& place) {
  if (place.layers == 0) {
    policy.problem("kind", "conflict", "\"experts\" in \"campaign\": which there are and where they live", "none");
    return;
  }
  const bool two = settings.kind == CheckpointKind::PartialTwoLevel;
  if (settings.partial.experts.snapshot > place.experts_per_layer) {
    policy.problem(two ? "snapshot_experts" : "experts", "conflict",
                   fmt::format("at most the {} experts of a layer", place.experts_per_layer),
                   std::to_string(settings.partial.experts.snapshot));
    return;
  }
  if (settings.partial.allow_newer_experts) {
    policy.problem("allow_newer_experts", "conflict", "false: a campaign has no such experts", "true");
  }
  if (settings.partial.selection == SelectionKind::Full) {
    policy.problem("selection", "conflict", "a selection of some experts; \"async_full\" saves all", "\"full\"");
  }
  if (!settings.partial.dynamic || settings.partial.dynamic->split.empty()) return;
  const std::size_t levels = dynamic_levels(settings.partial.experts, place.experts_per_layer).size();
  if (settings.partial.dynamic->split.size() == levels) return;
  policy.problem("dynamic", "conflict", fmt::format("{} shares in \"split\", one for each K", levels),
                 std::to_string(settings.partial.dynamic->split.size()));
}

std::optional<std::int64_t> copies_of(const PolicySettings& settings) {
  struct Copies {
    std::optional<std::int64_t> operator()(const CheckpointPolicy&) const { return std::nullopt; }
    std::optional<std::int64_t> operator()(const PeerReplicaSettings& policy) const { return policy.copies; }
    std::optional<std::int64_t> operator()(const JustInTimeSettings& policy) const { return policy.copies; }
    std::optional<std::int64_t> operator()(const SparseWindowSettings& policy) const { return policy.copies; }
    std::optional<std::int64_t> operator()(const ElasticSettings& policy) const { return policy.copies; }
  };
  return std::visit(Copies{}, settings);
}

}  // namespace

void check_policy(JsonReader& campaign, const CampaignScenario& scenario) {
  JsonReader policy = campaign.object("policy");
  const std::optional<std::int64_t> copies = copies_of(scenario.policy);
  if (copies && *copies > scenario.cluster.nodes()) {
    policy.problem("copies", "conflict",
                   fmt::format("at most one copy on each of the {} nodes", scenario.cluster.nodes()),
                   std::to_string(*copies));
  }
  const auto* settings = std::get_if<CheckpointPolicy>(&scenario.policy);
  if (settings != nullptr && settings->is_partial()) check_partial(policy, *settings, scenario.experts);
  (void)policy.keys();  // read before
}

namespace {
struct Write {
  Json operator()(const CheckpointPolicy& policy) const { return to_json(policy); }
  Json operator()(const PeerReplicaSettings& policy) const {
    return {{"interval", policy.interval},
            {"copies", policy.copies},
            {"storage_every", policy.storage_every},
            {"hidden", policy.hidden}};
  }
  Json operator()(const JustInTimeSettings& policy) const {
    return {{"copies", policy.copies}, {"storage_interval", policy.storage_interval}};
  }
  Json operator()(const SparseWindowSettings& policy) const {
    return {{"window", policy.window},
            {"copies", policy.copies},
            {"stall_per_step", to_text(policy.stall_per_step)},
            {"conversion_factor", policy.conversion_factor},
            {"replay_factor", policy.replay_factor},
            {"storage_every", policy.storage_every}};
  }
  Json operator()(const ElasticSettings& policy) const {
    return {{"copies", policy.copies},
            {"reconfiguration", to_text(policy.reconfiguration)},
            {"storage_interval", policy.storage_interval},
            {"least_nodes", policy.least_nodes}};
  }
};
}  // namespace

Json to_json(const PolicySettings& settings) {
  Json json = {{"kind", policy_kind_of(settings).name}};
  json.update(std::visit(Write{}, settings));
  return json;
}

}  // namespace moecast
