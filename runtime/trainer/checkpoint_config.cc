#include "runtime/trainer/checkpoint_config.h"

#include <nlohmann/json.hpp>

namespace moecast {
namespace {

constexpr std::int64_t kMaxCopies = 1'000'000;

std::optional<Retention> read_retention(JsonReader& checkpoint) {
  if (checkpoint.kind("retention") == "string") {
    const EnumNames<bool> all = {{"all", true}};
    static_cast<void>(checkpoint.choice("retention", all));
    return std::nullopt;
  }
  JsonReader reader = checkpoint.object("retention", true);
  Retention retention;
  retention.versions = reader.integer("versions", 1, kMaxCopies, retention.versions);
  retention.unit_copies = reader.integer("unit_copies", 1, kMaxCopies, retention.unit_copies);
  return retention;
}

/// A component that is never saved cannot be trained on from.
void check_components(JsonReader& checkpoint, const ComponentRules& rules) {
  for (const PartRules& part : {rules.expert, rules.non_expert}) {
    for (const Component component :
         {Component::Weight, Component::Master, Component::FirstMoment, Component::SecondMoment}) {
      if (part.of(component) != ComponentRule::None) continue;
      return checkpoint.problem("policy", "conflict",
                                "components that are saved, all of them, so that training can go on",
                                "a component with the rule \"none\"");
    }
  }
}

}  // namespace

std::optional<CheckpointConfig> read_checkpoint_config(JsonReader& root, const MoeModel& model) {
  if (!root.has("checkpoint")) return std::nullopt;
  JsonReader reader = root.object("checkpoint");
  CheckpointConfig config;
  const std::size_t before = reader.problem_count();
  JsonReader policy = reader.object("policy");
  config.policy = read_checkpoint_policy(policy);
  if (reader.problem_count() == before) {
    check_checkpoint_policy(policy, config.policy, model);
    if (config.policy.is_partial()) check_components(reader, config.policy.components());
  }
  config.folder = reader.path("folder", config.folder);
  config.retention = read_retention(reader);
  if (reader.has("copy_rate")) {
    config.copy_rate = reader.bytes_per_second("copy_rate");
    if (config.copy_rate->value() <= 0) reader.problem("copy_rate", "out-of-range", "more than 0 B/s");
  }
  config.settle = reader.boolean("settle", config.settle);
  if (config.policy.kind == CheckpointKind::None) return std::nullopt;
  return config;
}

nlohmann::ordered_json to_json(const CheckpointConfig& config) {
  nlohmann::ordered_json json = {{"policy", to_json(config.policy)}};
  if (config.retention) {
    json["retention"] = {{"versions", config.retention->versions}, {"unit_copies", config.retention->unit_copies}};
  } else {
    json["retention"] = "all";
  }
  if (config.copy_rate) json["copy_rate"] = to_text(*config.copy_rate);
  json["settle"] = config.settle;
  return json;
}

}  // namespace moecast
