#include "sim/sweep/sweep_points.h"

#include <algorithm>
#include <map>
#include <mutex>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/overloaded.h"
#include "base/random.h"
#include "sim/campaign/campaign_json.h"
#include "sim/parallel.h"

namespace moecast {
namespace {

Status put_value(const SweepSpec& spec, const SweepAxis& axis, std::uint32_t value, JsonDocument& scenario) {
  for (const AxisTrack& track : axis.tracks) {
    const std::string origin = fmt::format("{}/{}", track.values, value);
    const Status status = scenario.put(track.pointer, spec.document, origin);
    if (status.ok()) continue;
    const JsonPlace place = spec.document.place(origin);
    return Error{ErrorKind::BadInput,
                 "",
                 "",
                 {{place.file, place.line, place.column, track.pointer, "bad-pointer", "a place in the scenario",
                   status.error().message, ""}}};
  }
  return {};
}

bool all_hold(const std::vector<SweepCondition>& conditions, const JsonDocument& scenario, const SweepSpec& spec) {
  return std::all_of(conditions.begin(), conditions.end(),
                     [&](const SweepCondition& condition) { return holds(condition, scenario, spec.document); });
}

bool has_conditions(const SweepSpec& spec) {
  return !spec.where.empty() ||
         std::any_of(spec.axes.begin(), spec.axes.end(), [](const SweepAxis& axis) { return !axis.when.empty(); });
}

/// Adds the points that begin as `point` does for the axes before `index`, where `scenario` (if conditions need it) has
/// those values.
Status extend(const SweepSpec& spec, std::size_t index, const JsonDocument* scenario, SweepPoint& point,
              std::vector<SweepPoint>& out) {
  if (index == spec.axes.size()) {
    if (scenario == nullptr || all_hold(spec.where, *scenario, spec)) out.push_back(point);
    return {};
  }
  const SweepAxis& axis = spec.axes[index];
  if (scenario != nullptr && !all_hold(axis.when, *scenario, spec)) {
    point[index].reset();
    return extend(spec, index + 1, scenario, point, out);
  }
  for (std::uint32_t value = 0; value < axis.size(); ++value) {
    point[index] = value;
    if (scenario == nullptr) {
      RETURN_IF_ERROR(extend(spec, index + 1, nullptr, point, out));
      continue;
    }
    JsonDocument next = scenario->clone();
    RETURN_IF_ERROR(put_value(spec, axis, value, next));
    RETURN_IF_ERROR(extend(spec, index + 1, &next, point, out));
  }
  return {};
}

std::uint64_t seed_of(const SweepSpec& spec, std::int64_t id) {
  const CounterRandom seeds(spec.seed, stream_of("sweep.point"));
  return seeds.bits(static_cast<std::uint64_t>(id), 0) >> 1;  // as a JSON integer
}

}  // namespace

Result<std::vector<SweepPoint>> sweep_points(const SweepSpec& spec) {
  double most = 1;
  for (const SweepAxis& axis : spec.axes) most *= static_cast<double>(axis.size());
  if (most > static_cast<double>(kMostSweepPoints)) {
    return Error{ErrorKind::BadInput, spec.document.file() + ": /axes",
                 fmt::format("expected at most {} points, found {:.0f}", kMostSweepPoints, most)};
  }
  std::vector<SweepPoint> out;
  SweepPoint point(spec.axes.size());
  RETURN_IF_ERROR(extend(spec, 0, has_conditions(spec) ? &spec.base : nullptr, point, out));
  if (out.empty()) {
    return Error{ErrorKind::BadInput, spec.document.file() + ": /where", "no point is left: the conditions drop all"};
  }
  return out;
}

Result<JsonDocument> point_document(const SweepSpec& spec, const SweepPoint& point) {
  JsonDocument scenario = spec.base.clone();
  for (std::size_t i = 0; i < point.size(); ++i) {
    if (point[i]) RETURN_IF_ERROR(put_value(spec, spec.axes[i], *point[i], scenario));
  }
  return scenario;
}

Result<SweepScenario> point_scenario(const SweepSpec& spec, const SweepPoint& point, std::int64_t id) {
  const Result<JsonDocument> document = point_document(spec, point);
  if (!document.ok()) return document.error();
  const std::string name = fmt::format("{}, point {}", spec.name, id);
  if (spec.kind == SweepKind::Step) {
    Result<Scenario> scenario = read_scenario(*document);
    if (!scenario.ok()) return scenario.error();
    scenario->name = name;
    scenario->expect.clear();
    return SweepScenario(std::move(scenario).value());
  }
  Result<CampaignFile> file = read_campaign(*document, spec.shared.get());
  if (!file.ok()) return file.error();
  file->scenario.name = name;
  if (!spec.common_failures) file->scenario.seed = seed_of(spec, id);
  return SweepScenario(std::move(file->scenario));
}

nlohmann::ordered_json to_json(const SweepScenario& scenario) {
  return std::visit(Overloaded{[](const Scenario& step) { return to_json(step); },
                               [](const CampaignScenario& campaign) {
                                 return to_json(CampaignFile{campaign, {}, {}});
                               }},
                    scenario);
}

std::uint64_t sweep_hash(const SweepSpec& spec, const std::vector<SweepPoint>& points, std::string_view salt) {
  std::string text = fmt::format("{}\n{}\n{}", salt, spec.document.json().dump(), spec.base.json().dump());
  std::vector<std::vector<bool>> seen;
  for (const SweepAxis& axis : spec.axes) seen.emplace_back(axis.size());
  for (std::size_t id = 0; id < points.size(); ++id) {
    bool is_new = id == 0;  // the first point with some value of an axis
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!points[id][i] || seen[i][*points[id][i]]) continue;
      seen[i][*points[id][i]] = is_new = true;
    }
    if (!is_new) continue;
    const Result<SweepScenario> scenario = point_scenario(spec, points[id], static_cast<std::int64_t>(id));
    text += scenario.ok() ? to_json(*scenario).dump() : scenario.error().text();
  }
  return stream_of(text);
}

std::string point_text(const SweepSpec& spec, const SweepPoint& point) {
  std::string out;
  for (std::size_t i = 0; i < point.size(); ++i) {
    if (!point[i]) continue;
    for (const AxisTrack& track : spec.axes[i].tracks) {
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", track.name, track.labels[*point[i]]);
    }
  }
  return out;
}

Error at_point(Error error, const SweepSpec& spec, const SweepPoint& point, std::int64_t id) {
  error.message =
      fmt::format("point {} ({}){}{}", id, point_text(spec, point), error.message.empty() ? ":" : ": ", error.message);
  return error;
}

Status check_points(const SweepSpec& spec, const std::vector<SweepPoint>& points, unsigned threads) {
  if (spec.skip_invalid) return {};
  constexpr std::size_t kMostShown = 20;
  std::mutex mutex;
  std::map<std::int64_t, Error> errors;  // by point, so that what is shown does not depend on the threads
  for_each_in_parallel(points.size(), threads, [&](std::size_t i) {
    const auto id = static_cast<std::int64_t>(i);
    const Result<SweepScenario> scenario = point_scenario(spec, points[i], id);
    if (scenario.ok()) return;
    const std::scoped_lock lock(mutex);
    errors.emplace(id, scenario.error());
    if (errors.size() > kMostShown) errors.erase(std::prev(errors.end()));
  });
  if (errors.empty()) return {};
  const auto& [first, error_of_first] = *errors.begin();
  Error out = at_point(error_of_first, spec, points[static_cast<std::size_t>(first)], first);
  for (const auto& [id, error] : errors) {
    for (const Problem& problem : error.problems) {
      const bool known = std::any_of(out.problems.begin(), out.problems.end(),
                                     [&](const Problem& other) { return other.text() == problem.text(); });
      if (!known) out.problems.push_back(problem);
    }
  }
  return out;
}

}  // namespace moecast
