#include "sim/campaign/campaign_json.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/campaign/policy_json.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxGpus = 10'000'000;
constexpr std::int64_t kMaxSteps = 1'000'000'000;

const EnumNames<SpareNodes::Kind> kSpareKinds = {
    {"none", SpareNodes::Kind::None}, {"hot", SpareNodes::Kind::Hot}, {"warm", SpareNodes::Kind::Warm}};
const EnumNames<FailureClock> kClocks = {{"wall", FailureClock::Wall}, {"fresh", FailureClock::Fresh}};

SpareNodes read_spares(JsonReader& cluster) {
  SpareNodes spares;
  spares.swap = TimeDistribution::constant(0);
  if (!cluster.has("spares")) return spares;
  JsonReader reader = cluster.object("spares");
  spares.kind = reader.choice("kind", kSpareKinds);
  if (spares.kind == SpareNodes::Kind::None) return spares;
  spares.count = reader.integer("count", 1, kMaxGpus);  // spares without nodes are no spares
  if (spares.kind == SpareNodes::Kind::Warm) spares.swap = read_distribution(reader, "swap");
  return spares;
}

CampaignCluster read_cluster(JsonReader& campaign) {
  JsonReader reader = campaign.object("cluster");
  CampaignCluster cluster;
  cluster.gpus = reader.integer("gpus", 1, kMaxGpus);
  cluster.gpus_per_node = reader.integer("gpus_per_node", 1, 1024, cluster.gpus_per_node);
  cluster.nodes_per_rack = reader.integer("nodes_per_rack", 1, 1024, cluster.nodes_per_rack);
  cluster.spares = read_spares(reader);
  cluster.price_per_gpu_hour = reader.number("price_per_gpu_hour", 0, 1e6, cluster.price_per_gpu_hour);
  return cluster;
}

CampaignTraining read_training(JsonReader& campaign) {
  JsonReader reader = campaign.object("training");
  CampaignTraining training;
  training.steps = reader.integer("steps", 1, kMaxSteps, 0);
  training.horizon = reader.duration("horizon", Duration::zero());
  training.step = reader.duration("step");
  training.forward_backward = reader.duration("forward_backward", training.step);
  if (!reader.has("steps") && !reader.has("horizon")) {
    reader.problem("", "missing-key", "\"steps\", \"horizon\" or both", "neither");
  }
  if (!reader.good()) return training;
  if (training.step <= Duration::zero()) reader.problem("step", "out-of-range", "a time above zero", "0 s");
  if (training.forward_backward > training.step) {
    reader.problem("forward_backward", "out-of-range", "at most the step's " + to_text(training.step),
                   to_text(training.forward_backward));
  }
  if (reader.good() && training.planned_steps() < 1) {
    reader.problem("horizon", "out-of-range", "at least one step", to_text(training.horizon));
  }
  if (reader.good() && training.planned_steps() > kMaxSteps) {
    reader.problem("horizon", "out-of-range", fmt::format("at most {} steps", kMaxSteps), to_text(training.horizon));
  }
  return training;
}

void check_divides(JsonReader& reader, std::string_view key, std::int64_t part, std::int64_t whole,
                   std::string_view what) {
  if (part > 0 && whole % part == 0) return;
  reader.problem(key, "out-of-range", fmt::format("a divisor of the {} {}", whole, what), std::to_string(part));
}

ExpertPlacement read_experts(JsonReader& campaign, const CampaignCluster& cluster) {
  ExpertPlacement place;
  if (!campaign.has("experts")) return place;
  JsonReader reader = campaign.object("experts");
  place.experts_per_layer = reader.integer("per_layer", 1, 4096);
  place.layers = reader.integer("layers", 1, 10'000);
  place.expert_parallel = reader.integer("expert_parallel", 1, kMaxGpus, place.expert_parallel);
  place.pipeline = reader.integer("pipeline", 1, 10'000, place.pipeline);
  place.zipf = reader.number("zipf", 0, 10, place.zipf);
  if (!reader.good()) return place;
  check_divides(reader, "expert_parallel", place.expert_parallel, place.experts_per_layer, "experts of a layer");
  check_divides(reader, "pipeline", place.pipeline, place.layers, "layers with experts");
  check_divides(reader, "pipeline", place.pipeline, cluster.gpus, "GPUs");
  if (reader.good()) {
    check_divides(reader, "expert_parallel", place.expert_parallel, cluster.gpus / place.pipeline, "GPUs of a stage");
  }
  return place;
}

std::pair<Bytes, Bytes> read_parts(JsonReader& costs, std::string_view key) {
  JsonReader reader = costs.object(key);
  const Bytes non_expert = reader.bytes("non_expert");
  return {non_expert, reader.bytes("expert", Bytes(0))};
}

BytesPerSecond read_rate(JsonReader& reader, std::string_view key,
                         std::optional<BytesPerSecond> fallback = std::nullopt) {
  const BytesPerSecond rate = reader.bytes_per_second(key, fallback);
  if (reader.good() && rate.value() <= 0) reader.problem(key, "out-of-range", "a rate above zero", to_text(rate));
  return rate.value() > 0 ? rate : BytesPerSecond(1);
}

CheckpointCosts read_costs(JsonReader& campaign) {
  CheckpointCosts costs;
  if (!campaign.has("checkpoint")) return costs;
  JsonReader reader = campaign.object("checkpoint");
  std::tie(costs.rank_non_expert, costs.rank_expert) = read_parts(reader, "rank_bytes");
  std::tie(costs.total_non_expert, costs.total_expert) = read_parts(reader, "total_bytes");
  costs.snapshot_rate = read_rate(reader, "snapshot_rate");
  costs.memory_load_rate = read_rate(reader, "memory_load_rate", costs.snapshot_rate);
  costs.persist_rate = read_rate(reader, "persist_rate");
  costs.load_rate = read_rate(reader, "load_rate", costs.persist_rate);
  costs.peer_rate = read_rate(reader, "peer_rate", costs.persist_rate);
  if (reader.has("storage_write")) costs.storage_write = read_rate(reader, "storage_write");
  if (reader.has("storage_read")) costs.storage_read = read_rate(reader, "storage_read");
  costs.commit = reader.duration("commit", costs.commit);
  costs.snapshot_interference = reader.number("snapshot_interference", 0, 1, costs.snapshot_interference);
  costs.persist_interference = reader.number("persist_interference", 0, 1, costs.persist_interference);
  return costs;
}

ReliabilityProfile read_failures(JsonReader& campaign, const JsonDocument& document) {
  if (campaign.kind("reliability") != "string") {
    JsonReader reader = campaign.object("reliability");
    return read_reliability(reader);
  }
  const std::filesystem::path folder =
      std::filesystem::path(document.place("/campaign/reliability").file).parent_path();
  Result<ReliabilityProfile> found = find_reliability(campaign.text("reliability"), folder);
  if (found.ok()) return std::move(found).value();
  campaign.problems_of("reliability", found.error());
  return {};
}

/// What holds between the parts; called when each of them was read without a problem.
void check_together(JsonReader& campaign, const CampaignScenario& scenario) {
  const bool saves = !std::holds_alternative<CheckpointPolicy>(scenario.policy) ||
                     std::get<CheckpointPolicy>(scenario.policy).kind != CheckpointKind::None;
  if (saves && scenario.costs.snapshot_rate.value() <= 0) {
    campaign.problem("", "missing-key", "the key \"checkpoint\": sizes and rates of what the policy saves", "nothing");
  }
  check_policy(campaign, scenario);
  for (const FailureMode& mode : scenario.reliability.modes) {
    if (!mode.each || scenario.clock == FailureClock::Wall) continue;
    campaign.problem("clock", "conflict", "\"wall\": units of mode " + mode.name + " fail one by one", "\"fresh\"");
  }
  if (scenario.clock == FailureClock::Fresh && !scenario.reliability.recorded.empty()) {
    campaign.problem("clock", "conflict", "\"wall\" for a recorded log", "\"fresh\"");
  }
}

}  // namespace

Result<CampaignFile> read_campaign(const JsonDocument& document) {
  JsonReader reader(document);
  CampaignFile file;
  CampaignScenario& scenario = file.scenario;
  scenario.name = reader.text("name");
  file.note = reader.text("note", std::string());
  JsonReader campaign = reader.object("campaign");
  scenario.cluster = read_cluster(campaign);
  scenario.training = read_training(campaign);
  scenario.experts = read_experts(campaign, scenario.cluster);
  scenario.costs = read_costs(campaign);
  scenario.reliability = read_failures(campaign, document);
  scenario.clock = campaign.choice("clock", kClocks, std::optional(scenario.clock));
  scenario.policy = read_policy(campaign);
  scenario.replicas = campaign.integer("replicas", 1, 100'000'000, scenario.replicas);
  scenario.seed = static_cast<std::uint64_t>(
      campaign.integer("seed", 0, std::numeric_limits<std::int64_t>::max(), static_cast<std::int64_t>(scenario.seed)));
  scenario.confidence = campaign.number("confidence", 0.5, 0.9999, scenario.confidence);
  file.expect = read_campaign_expectations(campaign);
  if (reader.good()) check_together(campaign, scenario);
  RETURN_IF_ERROR(reader.finish());
  return file;
}

Result<CampaignFile> load_campaign(const std::filesystem::path& path) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  return read_campaign(*document);
}

namespace {

Json cluster_json(const CampaignCluster& cluster) {
  Json json = {{"gpus", cluster.gpus},
               {"gpus_per_node", cluster.gpus_per_node},
               {"nodes_per_rack", cluster.nodes_per_rack},
               {"spares", {{"kind", name_of(kSpareKinds, cluster.spares.kind)}}},
               {"price_per_gpu_hour", cluster.price_per_gpu_hour}};
  if (cluster.spares.kind != SpareNodes::Kind::None) json["spares"]["count"] = cluster.spares.count;
  if (cluster.spares.kind == SpareNodes::Kind::Warm) json["spares"]["swap"] = to_json(cluster.spares.swap);
  return json;
}

Json costs_json(const CheckpointCosts& costs) {
  Json json;
  json["rank_bytes"] = {{"non_expert", to_text(costs.rank_non_expert)}, {"expert", to_text(costs.rank_expert)}};
  json["total_bytes"] = {{"non_expert", to_text(costs.total_non_expert)}, {"expert", to_text(costs.total_expert)}};
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

}  // namespace

Json to_json(const CampaignFile& file) {
  const CampaignScenario& scenario = file.scenario;
  Json json = {{"name", scenario.name}};
  if (!file.note.empty()) json["note"] = file.note;
  Json& campaign = json["campaign"];
  campaign["cluster"] = cluster_json(scenario.cluster);
  Json& training = campaign["training"];
  if (scenario.training.steps > 0) training["steps"] = scenario.training.steps;
  if (scenario.training.horizon > Duration::zero()) training["horizon"] = to_text(scenario.training.horizon);
  training["step"] = to_text(scenario.training.step);
  training["forward_backward"] = to_text(scenario.training.forward_backward);
  if (const ExpertPlacement& place = scenario.experts; place.layers > 0) {
    campaign["experts"] = {{"per_layer", place.experts_per_layer},
                           {"layers", place.layers},
                           {"expert_parallel", place.expert_parallel},
                           {"pipeline", place.pipeline},
                           {"zipf", place.zipf}};
  }
  if (scenario.costs.snapshot_rate.value() > 0) campaign["checkpoint"] = costs_json(scenario.costs);
  campaign["reliability"] = to_json(scenario.reliability);
  campaign["clock"] = name_of(kClocks, scenario.clock);
  campaign["policy"] = to_json(scenario.policy);
  campaign["replicas"] = scenario.replicas;
  campaign["seed"] = scenario.seed;
  campaign["confidence"] = scenario.confidence;
  for (const CampaignExpectation& expectation : file.expect) campaign["expect"].push_back(to_json(expectation));
  return json;
}

}  // namespace moecast
