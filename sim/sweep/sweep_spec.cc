#include "sim/sweep/sweep_spec.h"

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/json_reader.h"
#include "base/nearest.h"
#include "sim/campaign/campaign_json.h"
#include "sim/scenario.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMostReplicas = 10'000'000;
constexpr std::int64_t kMaxSeed = std::numeric_limits<std::int64_t>::max();

const EnumNames<SweepSearch::Kind> kSearchKinds = {{"grid", SweepSearch::Kind::Grid},
                                                   {"golden_section", SweepSearch::Kind::GoldenSection},
                                                   {"coordinate_descent", SweepSearch::Kind::CoordinateDescent},
                                                   {"successive_halving", SweepSearch::Kind::SuccessiveHalving}};
const EnumNames<bool> kGoals = {{"max", true}, {"min", false}};
const EnumNames<bool> kFailures = {{"common", true}, {"own", false}};
const EnumNames<bool> kInvalid = {{"error", false}, {"skip", true}};

Result<JsonDocument> read_base(JsonReader& reader, const JsonDocument& document) {
  if (reader.kind("base") == "object") {
    static_cast<void>(reader.raw("base"));
    return document.part("/base");
  }
  return JsonDocument::read(reader.path("base"));
}

/// Everything that a metric's name says, or a problem.
std::size_t read_metric(JsonReader& reader, SweepKind kind) {
  const std::string name = reader.text("metric");
  if (const std::optional<std::size_t> found = find_sweep_metric(kind, name)) return *found;
  std::vector<std::string> names;
  for (const SweepMetric& metric : sweep_metrics(kind)) names.emplace_back(metric.name);
  reader.problem("metric", "unknown-value", fmt::format("one of {}", fmt::join(names, ", ")), name,
                 nearest_name(name, names));
  return 0;
}

SweepConstraint read_constraint(JsonReader& reader, SweepKind kind) {
  SweepConstraint out;
  out.metric = read_metric(reader, kind);
  const bool most = reader.has("at_most"), least = reader.has("at_least");
  if (most == least) {
    reader.problem("", "missing-key", "one of \"at_most\" and \"at_least\"", most ? "both" : "neither");
    return out;
  }
  out.at_most = most;
  const char* key = most ? "at_most" : "at_least";
  const Json value = reader.raw(key);
  const Result<double> limit =
      parse_limit(value.is_string() ? value.get<std::string>() : value.dump(), sweep_metrics(kind)[out.metric].unit);
  if (limit.ok()) {
    out.limit = *limit;
  } else {
    reader.problem(key, "bad-unit", limit.error().message, value.dump());
  }
  return out;
}

std::size_t read_axis_name(JsonReader& reader, const std::vector<SweepAxis>& axes) {
  const std::string name = reader.text("axis");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    for (const AxisTrack& track : axes[i].tracks) {
      if (track.name == name) return i;
      names.push_back(track.name);
    }
  }
  reader.problem("axis", "unknown-value", fmt::format("one of the axes {}", fmt::join(names, ", ")), name,
                 nearest_name(name, names));
  return 0;
}

SweepSearch read_search(JsonReader& root, const SweepSpec& spec) {
  SweepSearch search;
  if (!root.has("search")) return search;
  JsonReader reader = root.object("search");
  search.kind = reader.choice("kind", kSearchKinds);
  if (search.kind == SweepSearch::Kind::GoldenSection) search.axis = read_axis_name(reader, spec.axes);
  if (search.kind != SweepSearch::Kind::SuccessiveHalving) return search;
  search.first_replicas = reader.integer("first_replicas", 1, kMostReplicas, search.first_replicas);
  search.factor = reader.integer("factor", 2, 100, search.factor);
  if (spec.kind == SweepKind::Step) {
    reader.problem("kind", "conflict", "another search: steps have no replicas", "\"successive_halving\"");
  } else if (search.first_replicas > spec.replicas) {
    reader.problem("first_replicas", "out-of-range", fmt::format("at most the {} replicas of a point", spec.replicas),
                   std::to_string(search.first_replicas));
  }
  return search;
}

/// What the reader needs to know of the base before the rest.
SweepKind kind_of(const JsonDocument& base) {
  return base.json().is_object() && base.json().contains("campaign") ? SweepKind::Campaign : SweepKind::Step;
}

std::int64_t integer_at(const JsonDocument& base, const char* pointer, std::int64_t fallback) {
  const Json::json_pointer at(pointer);
  if (!base.json().contains(at) || !base.json().at(at).is_number_integer()) return fallback;
  return std::max<std::int64_t>(0, base.json().at(at).get<std::int64_t>());
}

void read_replicas(JsonReader& reader, SweepSpec& spec) {
  if (spec.kind == SweepKind::Step) return;
  const CampaignScenario defaults;
  spec.replicas =
      reader.integer("replicas", 1, kMostReplicas,
                     std::max<std::int64_t>(1, integer_at(spec.base, "/campaign/replicas", defaults.replicas)));
  spec.seed = static_cast<std::uint64_t>(reader.integer(
      "seed", 0, kMaxSeed, integer_at(spec.base, "/campaign/seed", static_cast<std::int64_t>(defaults.seed))));
  spec.common_failures = reader.choice("failures", kFailures, std::optional(spec.common_failures));
}

/// Columns of the results that are not axes.
std::set<std::string> column_names(SweepKind kind) {
  std::set<std::string> out = {"point", "replicas", "feasible", "problem"};
  for (const SweepMetric& metric : sweep_metrics(kind)) out.insert(metric.column());
  return out;
}

/// The base with every default and everything that it names.
Result<Json> resolved(const JsonDocument& base, SweepKind kind) {
  if (kind == SweepKind::Campaign) {
    const Result<CampaignFile> file = read_campaign(base);
    if (!file.ok()) return file.error();
    return to_json(*file);
  }
  const Result<Scenario> scenario = read_scenario(base);
  if (!scenario.ok()) return scenario.error();
  return to_json(*scenario);
}

/// The longest part of `pointer` at which the document has a text, so that the rest leads nowhere; "" if there is none.
std::string text_on_the_way(const Json& json, const std::string& pointer) {
  for (std::size_t end = pointer.rfind('/'); end != std::string::npos && end > 0; end = pointer.rfind('/', end - 1)) {
    const Json::json_pointer at(pointer.substr(0, end));
    if (json.contains(at)) return json.at(at).is_string() ? pointer.substr(0, end) : std::string();
  }
  return "";
}

/// Replaces names of profiles and models by what they name where an axis goes into it.
Status inline_names(SweepSpec& spec) {
  for (const SweepAxis& axis : spec.axes) {
    for (const AxisTrack& track : axis.tracks) {
      const std::string at = text_on_the_way(spec.base.json(), track.pointer);
      if (at.empty()) continue;
      const Result<Json> full = resolved(spec.base, spec.kind);
      if (!full.ok()) return full.error();
      const Json::json_pointer pointer(at);
      if (full->contains(pointer) && full->at(pointer).is_object()) {
        RETURN_IF_ERROR(spec.base.put_computed(at, full->at(pointer), at));
        continue;
      }
      const JsonPlace place = spec.document.place(track.values);
      return Error{ErrorKind::BadInput,
                   "",
                   "",
                   {{place.file, place.line, place.column, track.pointer, "bad-pointer",
                     fmt::format("a place in the base, where {} is a text", at), track.pointer, ""}}};
    }
  }
  return {};
}

Status expand_ranges(JsonDocument& document, const std::vector<ExpandedRange>& expanded) {
  for (const ExpandedRange& range : expanded) {
    RETURN_IF_ERROR(document.put_computed(range.values, Json::parse(range.text), range.origin));
  }
  return {};
}

}  // namespace

std::string limit_text(const SweepSpec& spec, const SweepConstraint& constraint) {
  const SweepMetric& metric = spec.metric(constraint.metric);
  return fmt::format("{} {} {}", metric.name, constraint.at_most ? "at most" : "at least",
                     pretty_metric(constraint.limit, metric.unit));
}

Result<SweepSpec> read_sweep(JsonDocument document) {
  std::vector<ExpandedRange> expanded;
  JsonReader reader(document);
  const std::string name = reader.text("name");
  const std::string note = reader.text("note", std::string());
  if (!reader.has("base")) {
    static_cast<void>(reader.text("base"));
    return reader.finish().error();
  }
  Result<JsonDocument> base = read_base(reader, document);
  if (!base.ok()) {
    reader.problems_of("base", base.error());
    return reader.finish().error();
  }
  SweepSpec spec{.name = name,
                 .note = note,
                 .kind = kind_of(*base),
                 .document = document.clone(),
                 .base = std::move(base).value(),
                 .axes = {},
                 .where = {},
                 .objective = {},
                 .constraints = {},
                 .search = {}};
  spec.axes = read_axes(reader, column_names(spec.kind), expanded);
  spec.where = read_conditions(reader, "where");
  read_replicas(reader, spec);
  spec.skip_invalid = reader.choice("invalid", kInvalid, std::optional(spec.skip_invalid));
  JsonReader objective = reader.object("objective");
  spec.objective = {read_metric(objective, spec.kind), objective.choice("goal", kGoals)};
  for (JsonReader& each : reader.objects("constraints", true)) {
    spec.constraints.push_back(read_constraint(each, spec.kind));
  }
  spec.search = read_search(reader, spec);
  RETURN_IF_ERROR(reader.finish());
  RETURN_IF_ERROR(expand_ranges(spec.document, expanded));
  RETURN_IF_ERROR(inline_names(spec));
  if (spec.kind == SweepKind::Campaign) {
    RETURN_IF_ERROR(spec.base.set("/campaign/replicas", std::to_string(spec.replicas)));
    RETURN_IF_ERROR(spec.base.set("/campaign/seed", std::to_string(spec.seed)));
  }
  return spec;
}

}  // namespace moecast
