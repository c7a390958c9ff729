#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "sim/campaign/campaign.h"

namespace moecast {

/// A published value about a campaign, in "expect" of "campaign":
///
///   {"metric": "goodput", "value": 0.9, "bound": "at_least", "source": "..."}
///   {"metric": "interruptions", "value": 466, "tolerance": "10 %", "source": "..."}
///   {"metric": "failures", "value": 419, "within": "interval", "source": "..."}
///   {"metric": "checkpoint_stall_seconds", "relative_to": "blocking.json", "value": 0.018, "bound": "at_most", ...}
///
/// "tolerance" is relative ("10 %"); "bound" is "at_least" or "at_most"; "within": "interval" asks that the value lies
/// where the single replicas of the scenario lie with its confidence (mean +- quantile of the replicas).
struct CampaignExpectation {
  enum class Kind { Tolerance, AtLeast, AtMost, Interval };
  std::string metric;  // one of campaign_metrics()
  double value = 0;
  Kind kind = Kind::Tolerance;
  double tolerance = 0;  // relative
  std::string source;
  std::string note;
  /// The value is a ratio: ours to the mean of the same metric in another campaign file.
  std::optional<std::filesystem::path> relative_to = std::nullopt;
};

/// Name and value (of one replica) of what can be expected: goodput, running_share, failures, interruptions, plt,
/// stall_share, wall_hours, mtbf_hours, snapshot_experts ...
struct CampaignMetric {
  std::string_view name;
  double (*value)(const CampaignOutcome&);
};
[[nodiscard]] std::span<const CampaignMetric> campaign_metrics();

[[nodiscard]] std::vector<CampaignExpectation> read_campaign_expectations(JsonReader& campaign);
[[nodiscard]] nlohmann::ordered_json to_json(const CampaignExpectation& expectation);

/// Outcomes of the campaign files that expectations compare with.
using ComparedOutcomes = std::map<std::filesystem::path, std::vector<CampaignOutcome>>;

struct JudgedExpectation {
  CampaignExpectation expectation;
  double ours = 0;           // mean over the replicas
  double low = 0, high = 0;  // where single replicas lie, with the scenario's confidence
  bool pass = false;
};
[[nodiscard]] std::vector<JudgedExpectation> judge(const CampaignScenario& scenario,
                                                   const std::vector<CampaignExpectation>& expectations,
                                                   const std::vector<CampaignOutcome>& outcomes,
                                                   const ComparedOutcomes& others = {});
/// What is allowed, with where single replicas lie if that is what counts: "2 %", ">=", "in 420 .. 512".
[[nodiscard]] std::string allowed_text(const JudgedExpectation& judged);

}  // namespace moecast
