#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/json_document.h"
#include "base/json_reader.h"
#include "hwprofiles/profile_json.h"
#include "hwprofiles/reliability.h"
#include "models/checkpoint/plan_document.h"
#include "models/moe_model_json.h"
#include "models/workload.h"
#include "runtime/trainer/train_config.h"
#include "sim/campaign/campaign_json.h"
#include "sim/scenario.h"
#include "sim/sweep/sweep_points.h"
#include "tests/tidy/tree_testing.h"

// Every JSON file that comes with moecast is what its folder says.

namespace moecast {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> json_under(const std::string& folder) {
  std::vector<fs::path> out;
  for (const fs::path& path : testing_tree::source_files_ending({".json"})) {
    if (path.generic_string().rfind(folder + "/", 0) == 0) out.push_back(testing_tree::source_folder() / path);
  }
  return out;
}

template <typename T>
std::string problem_of(const Result<T>& result) {
  return result.ok() ? std::string() : result.error().text();
}

/// Every point of a sweep is a scenario (but for those that it skips).
Status load_sweep(const fs::path& path) {
  Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  const Result<SweepSpec> spec = read_sweep(std::move(document).value());
  if (!spec.ok()) return spec.error();
  const Result<std::vector<SweepPoint>> points = sweep_points(*spec);
  return points.ok() ? check_points(*spec, *points, 2) : Status(points.error());
}

Status load_experiment(const fs::path& path) {
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  const auto& json = document->json();
  if (json.contains("training")) {
    const Result<TrainConfig> config = read_train_config(*document);
    if (!config.ok()) return config.error();
    if (!fs::exists(config->text)) return Error{ErrorKind::BadInput, path.string(), "the text is missing"};
    return {};
  }
  if (json.contains("checkpoint_plan")) {
    const Result<PlanDocument> plan = read_plan_document(*document);
    return plan.ok() ? Status() : Status(plan.error());
  }
  if (json.contains("axes")) return load_sweep(path);
  if (json.contains("campaign")) {
    const Result<CampaignFile> campaign = load_campaign(path);
    return campaign.ok() ? Status() : Status(campaign.error());
  }
  if (json.contains("hardware") && !json.contains("name")) return {};  // a part: those that extend it are loaded
  if (json.contains("hardware")) {
    const Result<Scenario> scenario = read_scenario(*document);
    return scenario.ok() ? Status() : Status(scenario.error());
  }
  JsonReader reader(*document);
  const Workload workload = read_workload(reader);
  static_cast<void>(workload);
  return reader.finish();
}

TEST(JsonFiles, EveryModelLoads) {
  const std::vector<fs::path> files = json_under("models/zoo");
  EXPECT_FALSE(files.empty());
  for (const fs::path& path : files) EXPECT_EQ(problem_of(load_moe_model(path)), "");
}

TEST(JsonFiles, EveryHardwareProfileLoads) {
  const std::vector<fs::path> files = json_under("hwprofiles");
  EXPECT_FALSE(files.empty());
  for (const fs::path& path : files) {
    const bool reliability = path.parent_path().filename() == "reliability";
    EXPECT_EQ(reliability ? problem_of(load_reliability(path)) : problem_of(load_profile(path)), "");
  }
}

TEST(JsonFiles, EveryExperimentLoads) {
  const std::vector<fs::path> files = json_under("experiments");
  EXPECT_FALSE(files.empty());
  for (const fs::path& path : files) {
    const Status status = load_experiment(path);
    EXPECT_TRUE(status.ok()) << status.error().text();
  }
}

}  // namespace
}  // namespace moecast
