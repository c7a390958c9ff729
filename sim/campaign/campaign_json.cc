#include "sim/campaign/campaign_json.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/campaign/costs_json.h"
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

CampaignCluster read_cluster(JsonReader& campaign, const CampaignSource& source) {
  JsonReader reader = campaign.object("cluster", source.workload || source.broken);
  CampaignCluster cluster;
  std::optional<std::int64_t> ranks;
  if (source.workload) ranks = source.workload->layout.world_size();
  cluster.gpus = reader.integer("gpus", 1, kMaxGpus, source.broken ? std::optional(ranks.value_or(1)) : ranks);
  if (ranks && cluster.gpus != *ranks) {
    reader.problem("gpus", "conflict", fmt::format("the {} ranks of the workload", *ranks),
                   std::to_string(cluster.gpus));
  }
  cluster.gpus_per_node = reader.integer("gpus_per_node", 1, 1024, cluster.gpus_per_node);
  cluster.nodes_per_rack = reader.integer("nodes_per_rack", 1, 1024, cluster.nodes_per_rack);
  cluster.spares = read_spares(reader);
  cluster.price_per_gpu_hour = reader.number("price_per_gpu_hour", 0, 1e6, cluster.price_per_gpu_hour);
  return cluster;
}

/// The step and its forward and backward: as stated, else as simulated; a stated step keeps the simulated proportion.
void read_step(JsonReader& reader, const CampaignSource& source, CampaignTraining& training,
               std::vector<std::string>& derived) {
  const std::optional<StepTimes>& simulated = source.step;
  std::optional<Duration> fallback;
  if (simulated) fallback = simulated->step;
  if (source.broken) fallback = std::chrono::seconds(1);
  training.step = reader.duration("step", fallback);
  Duration beside = training.step;
  if (simulated) {
    beside =
        duration_from_seconds(seconds(training.step) * seconds(simulated->forward_backward) / seconds(simulated->step));
  }
  training.forward_backward = reader.duration("forward_backward", std::min(beside, training.step));
  if (!simulated || !reader.good()) return;
  derived.push_back(fmt::format("one step of {} simulated on {}: {}, forward and backward {}",
                                describe(*source.workload), source.hardware->name, pretty(simulated->step),
                                pretty(simulated->forward_backward)));
}

CampaignTraining read_training(JsonReader& campaign, const CampaignSource& source, std::vector<std::string>& derived) {
  JsonReader reader = campaign.object("training");
  CampaignTraining training;
  training.steps = reader.integer("steps", 1, kMaxSteps, 0);
  training.horizon = reader.duration("horizon", Duration::zero());
  read_step(reader, source, training, derived);
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

ExpertPlacement read_experts(JsonReader& campaign, const CampaignCluster& cluster, const CampaignSource& source) {
  std::optional<ExpertPlacement> planned;
  if (source.workload) planned = expert_placement(*source.workload);
  ExpertPlacement place = planned.value_or(ExpertPlacement{});
  if (!campaign.has("experts")) return place;
  JsonReader reader = campaign.object("experts");
  const auto fallback = [&](std::int64_t value) { return planned ? std::optional(value) : std::nullopt; };
  place.experts_per_layer = reader.integer("per_layer", 1, 4096, fallback(place.experts_per_layer));
  place.layers = reader.integer("layers", 1, 10'000, fallback(place.layers));
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

Result<CampaignFile> read_campaign(const JsonDocument& document, WorkloadResults* shared) {
  WorkloadResults own;
  JsonReader reader(document);
  CampaignFile file;
  CampaignScenario& scenario = file.scenario;
  scenario.name = reader.text("name");
  file.note = reader.text("note", std::string());
  JsonReader campaign = reader.object("campaign");
  const CampaignSource source = read_source(campaign, document, shared != nullptr ? *shared : own);
  scenario.cluster = read_cluster(campaign, source);
  scenario.training = read_training(campaign, source, scenario.derived);
  scenario.experts = read_experts(campaign, scenario.cluster, source);
  scenario.policy = read_policy(campaign);
  scenario.costs = read_costs(campaign, source, scenario.policy, scenario.derived);
  scenario.reliability = read_failures(campaign, document);
  scenario.clock = campaign.choice("clock", kClocks, std::optional(scenario.clock));
  scenario.replicas = campaign.integer("replicas", 1, 100'000'000, scenario.replicas);
  scenario.seed = static_cast<std::uint64_t>(
      campaign.integer("seed", 0, std::numeric_limits<std::int64_t>::max(), static_cast<std::int64_t>(scenario.seed)));
  scenario.confidence = campaign.number("confidence", 0.5, 0.9999, scenario.confidence);
  if (campaign.has("derived")) scenario.derived = campaign.texts("derived");
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

Result<ComparedOutcomes> run_compared(const CampaignFile& file, unsigned threads) {
  ComparedOutcomes out;
  for (const CampaignExpectation& expectation : file.expect) {
    if (!expectation.relative_to || out.contains(*expectation.relative_to)) continue;
    const Result<CampaignFile> other = load_campaign(*expectation.relative_to);
    RETURN_IF_ERROR(other);
    out[*expectation.relative_to] = run_replicas(other->scenario, threads);
  }
  return out;
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
  if (scenario.costs.snapshot_rate.value() > 0) campaign["checkpoint"] = to_json(scenario.costs);
  campaign["reliability"] = to_json(scenario.reliability);
  campaign["clock"] = name_of(kClocks, scenario.clock);
  campaign["policy"] = to_json(scenario.policy);
  campaign["replicas"] = scenario.replicas;
  campaign["seed"] = scenario.seed;
  campaign["confidence"] = scenario.confidence;
  if (!scenario.derived.empty()) campaign["derived"] = scenario.derived;
  for (const CampaignExpectation& expectation : file.expect) campaign["expect"].push_back(to_json(expectation));
  return json;
}

}  // namespace moecast
