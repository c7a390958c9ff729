#include "sim/scenario.h"

#include <limits>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_reader.h"
#include "hwprofiles/profile_json.h"
#include "sim/operator_cost.h"
#include "sim/step_executor.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxSteps = 1'000'000;

/// What holds between the parts; called when each of them was read without a problem.
void check_together(JsonReader& reader, const Scenario& scenario) {
  const std::int64_t ranks = scenario.workload.layout.world_size();
  if (ranks > scenario.hardware.rank_count()) {
    reader.problem("workload", "conflict",
                   fmt::format("at most the {} ranks of {}", scenario.hardware.rank_count(), scenario.hardware.name),
                   std::to_string(ranks));
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
  scenario.expect = read_expectations(reader);
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
  if (scenario.expect.empty()) return json;
  json["expect"] = Json::array();
  for (const Expectation& expectation : scenario.expect) json["expect"].push_back(to_json(expectation));
  return json;
}

Result<Timeline> simulate(const Scenario& scenario) {
  const ParallelLayout& layout = scenario.workload.layout;
  Result<std::vector<StepPlan>> stages =
      build_stage_plans(request_of(scenario.workload, operator_time(layout, scenario.hardware)));
  RETURN_IF_ERROR(stages);
  return execute_stage_plans(std::move(stages).value(), layout, scenario.hardware,
                             {scenario.steps, scenario.slowdown, scenario.fold});
}

}  // namespace moecast
