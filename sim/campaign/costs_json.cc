#include "sim/campaign/costs_json.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

const EnumNames<CheckpointLevel> kLevels = {{"memory", CheckpointLevel::Memory}, {"storage", CheckpointLevel::Storage}};

std::pair<Bytes, Bytes> read_parts(JsonReader& reader) {
  const Bytes non_expert = reader.bytes("non_expert");
  return {non_expert, reader.bytes("expert", Bytes(0))};
}

std::vector<RankShare> read_uneven(JsonReader& rank) {
  std::vector<RankShare> uneven;
  for (JsonReader& reader : rank.objects("uneven", true)) {
    const CheckpointLevel level = reader.choice("level", kLevels);
    const double share = reader.number("share", 0, 1);
    uneven.push_back({level, share, reader.bytes("bytes")});
  }
  return uneven;
}

BytesPerSecond read_rate(JsonReader& reader, std::string_view key,
                         std::optional<BytesPerSecond> fallback = std::nullopt) {
  const BytesPerSecond rate = reader.bytes_per_second(key, fallback);
  if (reader.good() && rate.value() <= 0) reader.problem(key, "out-of-range", "a rate above zero", to_text(rate));
  return rate.value() > 0 ? rate : BytesPerSecond(1);
}

/// Sizes of the plan, if there is one; they are only worked out when everything so far can be relied upon.
CheckpointCosts sizes_of(JsonReader& campaign, const CampaignSource& source, const PolicySettings& policy) {
  if (!source.workload || !campaign.good()) return {};
  Result<CheckpointCosts> sizes = source.results.sizes(*source.workload, policy);
  if (sizes.ok()) return std::move(sizes).value();
  campaign.problem("workload", "conflict", "a layout that checkpoint plans cover, or sizes in \"checkpoint\"",
                   sizes.error().message);
  return {};
}

void read_sizes(JsonReader& reader, CheckpointCosts& costs, bool planned) {
  if (reader.has("rank_bytes") || !planned) {
    JsonReader rank = reader.object("rank_bytes");
    std::tie(costs.rank_non_expert, costs.rank_expert) = read_parts(rank);
    costs.uneven = read_uneven(rank);
    costs.held.reset();
  }
  if (reader.has("total_bytes") || !planned) {
    JsonReader total = reader.object("total_bytes");
    std::tie(costs.total_non_expert, costs.total_expert) = read_parts(total);
  }
  if (!reader.has("held_bytes")) return;
  JsonReader held = reader.object("held_bytes");
  const auto [non_expert, expert] = read_parts(held);
  costs.held = {non_expert, expert};
}

std::string link_text(const NodeProfile& node) {
  if (!node.host_link) return "is not in the profile";
  return fmt::format("({}) is {}", pretty(node.host_link->bandwidth), node.host_link->shared ? "shared" : "apart");
}

/// ", pec_reported": a size without the preset's name says nothing.
std::string preset_text(const PolicySettings& policy) {
  const auto* settings = std::get_if<CheckpointPolicy>(&policy);
  if (settings == nullptr || !settings->is_partial()) return "";
  return fmt::format(", {}", preset_name(settings->partial.components));
}

void say(const CampaignSource& source, const PolicySettings& policy, const CheckpointCosts& costs,
         std::vector<std::string>& derived) {
  derived.push_back(fmt::format("bytes from the checkpoint plan of {}{}: job {} + experts {}; most of a rank {} + {}",
                                describe(*source.workload), preset_text(policy), pretty(costs.total_non_expert),
                                pretty(costs.total_expert), pretty(costs.rank_non_expert), pretty(costs.rank_expert)));
}

/// What the profile says of copies beside training; 0 without a simulated step.
double interference_of(const CampaignSource& source, const CheckpointCosts& costs, std::vector<std::string>& derived) {
  if (!source.step) return 0;
  const double share = snapshot_interference(source.step->communicating, *source.hardware, costs.snapshot_rate);
  derived.push_back(
      fmt::format("a snapshot makes training longer by {:.3g} % of its time: bytes move between ranks in "
                  "{:.3g} % of a step, the link to the host {}",
                  100 * share, 100 * source.step->communicating, link_text(source.hardware->node)));
  return share;
}

Json parts_json(Bytes non_expert, Bytes expert) {
  return {{"non_expert", to_text(non_expert)}, {"expert", to_text(expert)}};
}

}  // namespace

CheckpointCosts read_costs(JsonReader& campaign, const CampaignSource& source, const PolicySettings& policy,
                           std::vector<std::string>& derived) {
  if (!campaign.has("checkpoint")) return {};
  JsonReader reader = campaign.object("checkpoint");
  CheckpointCosts costs = sizes_of(campaign, source, policy);
  const CheckpointCosts planned = costs;
  read_sizes(reader, costs, source.workload || source.broken);
  if (source.workload && campaign.good() && costs == planned) say(source, policy, costs, derived);
  costs.snapshot_rate = read_rate(reader, "snapshot_rate");
  costs.memory_load_rate = read_rate(reader, "memory_load_rate", costs.snapshot_rate);
  costs.persist_rate = read_rate(reader, "persist_rate");
  costs.load_rate = read_rate(reader, "load_rate", costs.persist_rate);
  costs.peer_rate = read_rate(reader, "peer_rate", costs.persist_rate);
  if (reader.has("storage_write")) costs.storage_write = read_rate(reader, "storage_write");
  if (reader.has("storage_read")) costs.storage_read = read_rate(reader, "storage_read");
  costs.commit = reader.duration("commit", costs.commit);
  costs.snapshot_interference = reader.has("snapshot_interference") ? reader.number("snapshot_interference", 0, 1)
                                                                    : interference_of(source, costs, derived);
  costs.persist_interference = reader.number("persist_interference", 0, 1, costs.persist_interference);
  return costs;
}

Json to_json(const CheckpointCosts& costs) {
  Json json;
  json["rank_bytes"] = parts_json(costs.rank_non_expert, costs.rank_expert);
  for (const RankShare& entry : costs.uneven) {
    json["rank_bytes"]["uneven"].push_back(
        {{"level", name_of(kLevels, entry.level)}, {"share", entry.share}, {"bytes", to_text(entry.bytes)}});
  }
  json["total_bytes"] = parts_json(costs.total_non_expert, costs.total_expert);
  if (costs.held) json["held_bytes"] = parts_json(costs.held->non_expert, costs.held->expert);
  json["snapshot_rate"] = to_text(costs.snapshot_rate);
  json["memory_load_rate"] = to_text(costs.memory_load_rate);
  json["persist_rate"] = to_text(costs.persist_rate);
  json["load_rate"] = to_text(costs.load_rate);
  json["peer_rate"] = to_text(costs.peer_rate);
  if (costs.storage_write) json["storage_write"] = to_text(*costs.storage_write);
  if (costs.storage_read) json["storage_read"] = to_text(*costs.storage_read);
  json["commit"] = to_text(costs.commit);
  json["snapshot_interference"] = costs.snapshot_interference;
  json["persist_interference"] = costs.persist_interference;
  return json;
}

}  // namespace moecast
