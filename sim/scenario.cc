#include "sim/scenario.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/json_reader.h"
#include "base/nearest.h"
#include "hwprofiles/names.h"
#include "hwprofiles/profile_json.h"
#include "sim/bounds.h"
#include "sim/operator_cost.h"
#include "sim/step_executor.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxSteps = 1'000'000;
constexpr std::int64_t kMaxRanks = std::int64_t{1} << 30;

AlgorithmChoice read_algorithms(JsonReader& parent) {
  AlgorithmChoice choice;
  if (!parent.has("algorithms")) return choice;
  JsonReader reader = parent.object("algorithms");
  for (const Collective collective : all_collectives()) {
    const std::string key(to_text(collective));
    EnumNames<Algorithm> names;
    for (const Algorithm algorithm : algorithms_of(collective)) names.emplace_back(to_text(algorithm), algorithm);
    if (reader.has(key)) choice[collective] = reader.choice(key, names);
  }
  return choice;
}

std::vector<DegradedLink> read_degraded(JsonReader& parent, const HardwareProfile& hardware) {
  std::vector<DegradedLink> degraded;
  if (!hardware.cluster) {
    if (parent.has("degraded")) (void)parent.raw("degraded");  // read_cluster_keys says what is wrong with it
    return degraded;
  }
  for (JsonReader& reader : parent.objects("degraded", true)) {
    DegradedLink link{reader.text("part"), reader.integer("gpu", 0, hardware.rank_count() - 1),
                      reader.number("factor", 1e-6, 1)};
    std::vector<std::string> known;
    for (const ClusterPart& part : hardware.cluster->parts) known.push_back(part.name);
    if (std::find(known.begin(), known.end(), link.part) == known.end()) {
      reader.problem("part", "unknown-part", fmt::format("a part of the cluster: {}", fmt::join(known, ", ")),
                     link.part, nearest_name(link.part, known));
    }
    degraded.push_back(std::move(link));
  }
  return degraded;
}

/// The keys that only a cluster has.
void read_cluster_keys(JsonReader& reader, Scenario& scenario) {
  for (const std::string key : {"nodes", "algorithms", "degraded"}) {
    if (scenario.hardware.cluster || !reader.has(key) || !reader.good()) continue;
    reader.problem(key, "conflict",
                   fmt::format("a hardware profile with a cluster; {} is one node", scenario.hardware.name));
  }
  if (scenario.hardware.cluster && reader.has("nodes")) {
    const bool sound = problems_of(*scenario.hardware.cluster).empty();  // else its problems have been named
    scenario.hardware.cluster->node_count = reader.integer("nodes", 1, std::int64_t{1} << 20);
    for (const ClusterProblem& problem : problems_of(*scenario.hardware.cluster)) {
      if (!sound) break;
      reader.problem("nodes", problem.code, fmt::format("{} of {}", problem.expected, problem.part), problem.found);
    }
  }
  scenario.algorithms = read_algorithms(reader);
  scenario.degraded = read_degraded(reader, scenario.hardware);
}

/// "ranks": what the degrees are meant to multiply to.
void check_ranks(JsonReader& reader, const ParallelLayout& layout, std::int64_t ranks) {
  if (ranks == layout.world_size()) return;
  const std::int64_t others = layout.world_size() / layout.data;
  const std::string fits = ranks % others == 0 ? fmt::format("; data {} would fit", ranks / others) : "";
  reader.problem("workload", "conflict", fmt::format("degrees that multiply to {} ranks{}", ranks, fits),
                 fmt::format("data {} x context {} x tensor {} x pipeline {} = {}", layout.data, layout.context,
                             layout.tensor, layout.pipeline, layout.world_size()));
}

/// What holds between the parts; called when each of them was read without a problem.
void check_together(JsonReader& reader, const Scenario& scenario) {
  const std::int64_t ranks = scenario.workload.layout.world_size();
  if (ranks > scenario.hardware.rank_count()) {
    reader.problem("workload", "conflict",
                   fmt::format("at most the {} ranks of {}", scenario.hardware.rank_count(), scenario.hardware.name),
                   std::to_string(ranks));
  }
  if (scenario.workload.experts_on_host && !scenario.hardware.node.host_link) {
    reader.problem("hardware", "conflict", "a profile with a \"host_link\", through which experts come from the host",
                   scenario.hardware.name);
  }
  if (!scenario.slowdown.empty() && static_cast<std::int64_t>(scenario.slowdown.size()) != ranks) {
    reader.problem("slowdown", "wrong-length", fmt::format("one factor for each of the {} ranks", ranks),
                   std::to_string(scenario.slowdown.size()));
  }
}

}  // namespace

HardwareProfile read_hardware(JsonReader& parent, const JsonDocument& document) {
  if (parent.kind("hardware") != "string") {
    JsonReader inline_profile = parent.object("hardware");
    return read_profile(inline_profile);
  }
  const std::string place = document.place(parent.pointer() + "/hardware").file;
  Result<HardwareProfile> found = find_profile(parent.text("hardware"), std::filesystem::path(place).parent_path());
  if (found.ok()) return std::move(found).value();
  parent.problems_of("hardware", found.error());
  return {};
}

Result<Scenario> read_scenario(const JsonDocument& document, std::optional<HardwareProfile> profile) {
  JsonReader reader(document);
  Scenario scenario;
  scenario.name = reader.text("name");
  scenario.note = reader.text("note", "");
  scenario.workload = read_workload(reader);
  if (profile) {
    (void)reader.raw("hardware");  // set aside
    scenario.hardware = *std::move(profile);
  } else {
    scenario.hardware = read_hardware(reader, document);
  }
  scenario.steps = reader.integer("steps", 1, kMaxSteps, scenario.steps);
  scenario.seed = static_cast<std::uint64_t>(reader.integer("seed", 0, std::numeric_limits<std::int64_t>::max(), 0));
  if (reader.has("slowdown")) scenario.slowdown = reader.numbers("slowdown", 0.01, 100);
  scenario.routing = read_routing(reader, scenario.workload);
  scenario.expect = read_expectations(reader);
  read_cluster_keys(reader, scenario);
  const std::optional<std::int64_t> ranks =
      reader.has("ranks") ? std::optional(reader.integer("ranks", 1, kMaxRanks)) : std::nullopt;
  if (reader.good() && ranks) check_ranks(reader, scenario.workload.layout, *ranks);
  if (reader.good()) check_together(reader, scenario);
  RETURN_IF_ERROR(reader.finish());
  return scenario;
}

Json to_json(const Scenario& scenario) {
  Json json = {{"name", scenario.name}};
  if (!scenario.note.empty()) json["note"] = scenario.note;
  json["workload"] = to_json(scenario.workload);
  json["hardware"] = to_json(scenario.hardware);
  json["steps"] = scenario.steps;
  json["seed"] = scenario.seed;
  if (!scenario.slowdown.empty()) json["slowdown"] = scenario.slowdown;
  if (scenario.routing) json["routing"] = to_json(*scenario.routing);
  for (const auto& [collective, algorithm] : scenario.algorithms) {
    json["algorithms"][std::string(to_text(collective))] = to_text(algorithm);
  }
  for (const DegradedLink& link : scenario.degraded) {
    json["degraded"].push_back({{"part", link.part}, {"gpu", link.gpu}, {"factor", link.factor}});
  }
  if (scenario.expect.empty()) return json;
  json["expect"] = Json::array();
  for (const Expectation& expectation : scenario.expect) json["expect"].push_back(to_json(expectation));
  return json;
}

namespace {

ExpertLoads loads_of(const Scenario& scenario) {
  if (!scenario.routing) return {};
  return draw_loads(*scenario.routing, scenario.workload, scenario.seed);
}

PlanCosts costs_of(const Scenario& scenario, std::span<const StepPlan> stages, const ExpertLoads& loads) {
  PlanCosts costs = plan_costs(stages, scenario.workload.layout, scenario.hardware);
  costs.algorithms = scenario.algorithms;
  for (const DegradedLink& link : scenario.degraded) {
    const auto part = std::find_if(scenario.hardware.cluster->parts.begin(), scenario.hardware.cluster->parts.end(),
                                   [&](const ClusterPart& candidate) { return candidate.name == link.part; });
    const auto index = static_cast<std::size_t>(part - scenario.hardware.cluster->parts.begin());
    costs.degraded.emplace_back(costs.topology->uplink(index, link.gpu), link.factor);
    costs.degraded.emplace_back(costs.topology->downlink(index, link.gpu), link.factor);
  }
  charge_loads(loads, stages, scenario.workload, scenario.hardware, costs);
  return costs;
}

Result<Timeline> execute(const Scenario& scenario, const ExpertLoads& loads, std::vector<PathStep>* critical_path) {
  const ParallelLayout& layout = scenario.workload.layout;
  Result<std::vector<StepPlan>> stages =
      build_stage_plans(request_of(scenario.workload, operator_time(layout, scenario.hardware, scenario.algorithms)));
  RETURN_IF_ERROR(stages);
  PlanCosts costs = costs_of(scenario, *stages, loads);
  return execute_stage_plans(std::move(stages).value(), layout, scenario.hardware, std::move(costs),
                             {scenario.steps, scenario.slowdown, scenario.fold}, critical_path);
}

}  // namespace

Result<Timeline> simulate(const Scenario& scenario, std::vector<PathStep>* critical_path) {
  const ExpertLoads loads = loads_of(scenario);
  Result<Timeline> timeline = execute(scenario, loads, critical_path);
  RETURN_IF_ERROR(timeline);
  RETURN_IF_ERROR(check_bounds(*timeline, scenario.workload.layout, scenario.hardware, loads));
  return timeline;
}

Result<Timeline> simulate_unbounded(const Scenario& scenario) { return execute(scenario, loads_of(scenario), nullptr); }

}  // namespace moecast
