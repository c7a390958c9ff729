#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_document.h"
#include "base/result.h"
#include "sim/campaign/campaign_scenario.h"
#include "sim/scenario.h"
#include "sim/sweep/sweep_spec.h"

namespace moecast {

/// One point of the grid: for each axis the index of its value, or none where the axis does not apply. Its id is its
/// position in the list of all points.
using SweepPoint = std::vector<std::optional<std::uint32_t>>;

inline constexpr std::int64_t kMostSweepPoints = 2'000'000;

/// All points, the last axis fastest. BadInput if there are none, or more than kMostSweepPoints.
[[nodiscard]] Result<std::vector<SweepPoint>> sweep_points(const SweepSpec& spec);

/// The base with the point's values in it.
[[nodiscard]] Result<JsonDocument> point_document(const SweepSpec& spec, const SweepPoint& point);

/// A point, read: with the sweep's replicas and the point's seed. BadInput if it is no valid scenario.
using SweepScenario = std::variant<Scenario, CampaignScenario>;
[[nodiscard]] Result<SweepScenario> point_scenario(const SweepSpec& spec, const SweepPoint& point, std::int64_t id);

/// Fully resolved: `moecast simulate` of it gives the point's results again.
[[nodiscard]] nlohmann::ordered_json to_json(const SweepScenario& scenario);

/// Changes with everything that results depend on: the sweep, its base, and what base and axes name (profiles, models),
/// read. `salt` stands for the program.
[[nodiscard]] std::uint64_t sweep_hash(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                       std::string_view salt);

/// "interval 50, persist 4": the axes that apply.
[[nodiscard]] std::string point_text(const SweepSpec& spec, const SweepPoint& point);
/// The error with the point before its message.
[[nodiscard]] Error at_point(Error error, const SweepSpec& spec, const SweepPoint& point, std::int64_t id);

/// Reads every point, on `threads` threads, so that nothing is simulated before all are known to be good. BadInput with
/// the problems of the first points that have some. With `skip_invalid` always Ok.
[[nodiscard]] Status check_points(const SweepSpec& spec, const std::vector<SweepPoint>& points, unsigned threads);

}  // namespace moecast
