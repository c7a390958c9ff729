#include "tools/sweep_result.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tools/revision.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

/// One row: as many values as there are columns.
Json row_json(const SweepResult& result, const SweepRow& row) {
  Json out = {{"point", row.request.point}};
  out.update(axes_json(result.spec, result.point(row)));
  out["replicas"] = row.request.replicas;
  out["feasible"] = feasible(result.spec, row);
  out["problem"] = row.valid() ? Json() : Json(row.problem);
  const std::span<const SweepMetric> metrics = sweep_metrics(result.spec.kind);
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    out[metrics[i].column()] = row.valid() ? number(row.values[i]) : Json();
  }
  return out;
}

/// RFC 4180.
std::string csv_cell(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  const auto text = value.get<std::string>();
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

Json track_json(const SweepSpec& spec, const AxisTrack& track) {
  const Json::json_pointer values(track.values);
  return {{"name", track.name},
          {"column", track.column()},
          {"pointer", track.pointer},
          {"labels", track.labels},
          {"values", spec.document.json().at(values)}};
}

Json axis_list(const SweepSpec& spec) {
  Json out = Json::array();
  for (const SweepAxis& axis : spec.axes) {
    for (const AxisTrack& track : axis.tracks) out.push_back(track_json(spec, track));
  }
  return out;
}

Json constraint_json(const SweepSpec& spec, const SweepConstraint& constraint) {
  return {{"metric", spec.metric(constraint.metric).name},
          {constraint.at_most ? "at_most" : "at_least", constraint.limit},
          {"text", limit_text(spec, constraint)}};
}

Json constraints_json(const SweepSpec& spec, const SweepEffects& effects) {
  Json out = Json::array();
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    Json each = constraint_json(spec, spec.constraints[i]);
    if (effects.best != nullptr) {
      const ConstraintEffect& effect = effects.constraints[i];
      each["binds"] = effect.binds();
      each["best_without"] = effect.without == nullptr ? Json() : Json(effect.without->request.point);
      each["gain_without"] = effect.gain;
    }
    out.push_back(each);
  }
  return out;
}

Json point_json(const SweepResult& result, const SweepRow* row) {
  return row == nullptr ? Json() : row_json(result, *row);
}

/// Of results.csv and results.jsonl: point, axes, replicas, feasible, problem, metrics.
std::vector<std::string> result_columns(const SweepSpec& spec) {
  std::vector<std::string> out = {"point"};
  for (const SweepAxis& axis : spec.axes) {
    for (const AxisTrack& track : axis.tracks) out.push_back(track.column());
  }
  for (const char* name : {"replicas", "feasible", "problem"}) out.emplace_back(name);
  for (const SweepMetric& metric : sweep_metrics(spec.kind)) out.push_back(metric.column());
  return out;
}

}  // namespace

Json axes_json(const SweepSpec& spec, const SweepPoint& point) {
  Json out = Json::object();
  for (std::size_t i = 0; i < spec.axes.size(); ++i) {
    for (const AxisTrack& track : spec.axes[i].tracks) {
      Json& cell = out[track.column()];
      if (!point[i]) continue;
      if (track.numbers.empty()) {
        cell = track.labels[*point[i]];
      } else {
        const double value = track.numbers[*point[i]];
        const bool whole = std::fabs(value) < 9e15 && value == std::floor(value);
        cell = whole ? Json(static_cast<std::int64_t>(value)) : Json(value);
      }
    }
  }
  return out;
}

std::string results_csv(const SweepResult& result) {
  std::string out;
  for (const std::string& column : result_columns(result.spec)) out += (out.empty() ? "" : ",") + csv_cell(column);
  out += '\n';
  for (const SweepRow* row : result.rows.newest()) {
    bool first = true;
    const Json json = row_json(result, *row);
    for (const auto& cell : json.items()) {
      if (!std::exchange(first, false)) out += ',';
      out += csv_cell(cell.value());
    }
    out += '\n';
  }
  return out;
}

std::string results_jsonl(const SweepResult& result) {
  std::string out;
  for (const SweepRow* row : result.rows.newest()) out += row_json(result, *row).dump() + '\n';
  return out;
}

Json sweep_json(const SweepSpec& spec) {
  Json out = spec.document.json();
  out["base"] = spec.base.json();
  // A range that was expanded is a list from here on.
  for (const SweepAxis& axis : spec.axes) {
    for (const AxisTrack& track : axis.tracks) {
      Json& each = out.at(Json::json_pointer(track.values.substr(0, track.values.rfind('/'))));
      each.erase("range");
      each.erase("log_range");
    }
  }
  return out;
}

Json summary_json(const SweepResult& result) {
  const SweepSpec& spec = result.spec;
  const std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(spec, result.points, rows);
  Json metrics = Json::array();
  for (const SweepMetric& metric : sweep_metrics(spec.kind)) {
    metrics.push_back({{"name", metric.name}, {"column", metric.column()}, {"help", metric.help}});
  }
  return {{"schema", "moecast.sweep/1"},
          {"name", spec.name},
          {"revision", revision()},
          {"kind", spec.kind == SweepKind::Step ? "step" : "campaign"},
          {"replicas", spec.replicas},
          {"seed", spec.seed},
          {"point_count", result.points.size()},
          {"evaluated_count", rows.size()},
          {"feasible_count", effects.feasible_count},
          {"invalid_count", effects.invalid_count},
          {"objective",
           {{"metric", spec.metric(spec.objective.metric).name}, {"goal", spec.objective.maximize ? "max" : "min"}}},
          {"best", point_json(result, effects.best)},
          {"second", point_json(result, effects.second)},
          {"constraints", constraints_json(spec, effects)},
          {"axes", axis_list(spec)},
          {"metrics", metrics}};
}

bool is_sweep_result(const fs::path& folder) {
  return fs::exists(folder / "sweep.json") && fs::exists(folder / "results.jsonl");
}

namespace {

/// One line of results.jsonl; false if it is none of this sweep's.
bool read_row(const SweepResult& result, const std::string& line, SweepRow& row) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return false;
  try {
    row.request = {json.at("point").get<std::int64_t>(), json.at("replicas").get<std::int64_t>()};
    if (!json.at("problem").is_null()) {
      row.problem = json.at("problem").get<std::string>();
    } else {
      for (const SweepMetric& metric : sweep_metrics(result.spec.kind)) {
        const Json& value = json.at(metric.column());
        row.values.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
      }
    }
  } catch (const Json::exception&) {
    return false;
  }
  return row.request.point >= 0 && row.request.point < std::ssize(result.points);
}

}  // namespace

Result<SweepResult> sweep_of(JsonDocument document) {
  Result<SweepSpec> spec = read_sweep(std::move(document));
  if (!spec.ok()) return spec.error();
  Result<std::vector<SweepPoint>> points = sweep_points(*spec);
  if (!points.ok()) return points.error();
  return SweepResult{std::move(spec).value(), std::move(points).value(), {}};
}

Result<SweepResult> load_sweep_result(const fs::path& folder) {
  Result<JsonDocument> document = JsonDocument::read(folder / "sweep.json");
  if (!document.ok()) return document.error();
  Result<SweepResult> sweep = sweep_of(std::move(document).value());
  if (!sweep.ok()) return sweep.error();
  SweepResult result = std::move(sweep).value();
  const Result<std::string> text = read_file(folder / "results.jsonl");
  if (!text.ok()) return text.error();
  std::int64_t line_number = 0;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    ++line_number;
    SweepRow row;
    if (!read_row(result, text->substr(at, end - at), row)) {
      return Error{ErrorKind::BadInput, fmt::format("{}:{}", (folder / "results.jsonl").string(), line_number),
                   "expected a row of the sweep in sweep.json, found other content"};
    }
    result.rows.add(std::move(row));
    at = end + 1;
  }
  return result;
}

}  // namespace moecast
