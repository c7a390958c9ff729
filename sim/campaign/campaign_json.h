#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json_document.h"
#include "base/json_reader.h"
#include "base/result.h"
#include "sim/campaign/campaign_expectation.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/campaign/workload_results.h"

namespace moecast {

/// A campaign file: the scenario and what is published about it.
struct CampaignFile {
  CampaignScenario scenario;
  std::string note;  // for people
  std::vector<CampaignExpectation> expect;
};

/// Reads {"name": "...", "note": "...", "campaign": {...}}; the format is in README.md. BadInput with every problem in
/// the file and in those that it names. `shared`, if given, keeps what several campaigns of one workload have in
/// common.
[[nodiscard]] Result<CampaignFile> read_campaign(const JsonDocument& document, WorkloadResults* shared = nullptr);
[[nodiscard]] Result<CampaignFile> load_campaign(const std::filesystem::path& path);

/// Runs the campaigns that the file's expectations compare with.
[[nodiscard]] Result<ComparedOutcomes> run_compared(const CampaignFile& file, unsigned threads);

/// Fully resolved, reliability inline: reads back to the same scenario, to rounding.
[[nodiscard]] nlohmann::ordered_json to_json(const CampaignFile& file);

}  // namespace moecast
