#include "tools/sweep_report.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/revision.h"
#include "tools/sweep_explanation.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

/// Six digits are more than a page shows.
Json short_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  const std::string text = fmt::format("{:.6g}", value);
  double out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out == std::floor(out) && std::fabs(out) < 1e15 ? Json(static_cast<std::int64_t>(out)) : Json(out);
}

Json axes_of(const SweepSpec& spec) {
  Json out = Json::array();
  for (const SweepAxis& axis : spec.axes) {
    Json labels = Json::array();
    for (std::uint32_t i = 0; i < axis.size(); ++i) labels.push_back(axis.label(i));
    out.push_back({{"name", axis.name()}, {"labels", labels}});
  }
  return out;
}

Json metrics_of(const SweepSpec& spec) {
  Json out = Json::array();
  for (const SweepMetric& metric : sweep_metrics(spec.kind)) {
    out.push_back({{"name", metric.name}, {"unit", name_of(metric.unit)}, {"help", metric.help}});
  }
  return out;
}

Json columns_of(const SweepResult& result, const std::vector<const SweepRow*>& rows) {
  Json point = Json::array(), is_feasible = Json::array();
  Json axes(result.spec.axes.size(), Json::array());
  Json values(sweep_metrics(result.spec.kind).size(), Json::array());
  for (const SweepRow* row : rows) {
    point.push_back(row->request.point);
    is_feasible.push_back(feasible(result.spec, *row) ? 1 : 0);
    const SweepPoint& choice = result.point(*row);
    for (std::size_t i = 0; i < axes.size(); ++i) axes[i].push_back(choice[i] ? Json(*choice[i]) : Json());
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i].push_back(row->valid() ? short_number(row->values[i]) : Json());
    }
  }
  return {{"point", point}, {"axes", axes}, {"feasible", is_feasible}, {"values", values}};
}

Json constraints_of(const SweepSpec& spec) {
  Json out = Json::array();
  for (const SweepConstraint& constraint : spec.constraints) {
    out.push_back({{"metric", constraint.metric}, {"limit", constraint.limit}, {"text", limit_text(spec, constraint)}});
  }
  return out;
}

/// The objective's position, those of metrics with an upper limit, and those of `names`.
std::vector<std::size_t> metric_list(const SweepSpec& spec, std::initializer_list<const char*> names,
                                     std::size_t most) {
  std::vector<std::size_t> out = {spec.objective.metric};
  const auto add = [&](std::size_t metric) {
    if (out.size() < most && std::find(out.begin(), out.end(), metric) == out.end()) out.push_back(metric);
  };
  for (const SweepConstraint& constraint : spec.constraints) {
    if (constraint.at_most) add(constraint.metric);
  }
  for (const char* name : names) {
    if (const std::optional<std::size_t> metric = find_sweep_metric(spec.kind, name)) add(*metric);
  }
  return out;
}

/// What the objective is drawn against: at most two metrics of which less is better, and that differ between points.
std::vector<std::size_t> front_metrics(const SweepSpec& spec, const std::vector<const SweepRow*>& rows) {
  std::vector<std::size_t> out =
      metric_list(spec, {"plt", "cost", "host_memory", "storage_written", "memory", "exposed", "step_time"}, 9);
  const auto is_constant = [&](std::size_t metric) {
    std::set<double> values;
    for (const SweepRow* row : rows) {
      if (row->valid() && std::isfinite(row->values[metric])) values.insert(row->values[metric]);
    }
    return values.size() < 2;
  };
  out.erase(std::remove_if(out.begin() + 1, out.end(), is_constant), out.end());
  out.erase(out.begin());
  out.resize(std::min<std::size_t>(2, out.size()));
  return out;
}

Json causes_of(const SweepSpec& spec) {
  if (spec.kind == SweepKind::Step) return nullptr;
  Json names = Json::array();
  for (std::size_t i = 0; i < kTimeCauseCount; ++i) names.push_back(name_of(static_cast<TimeCause>(i)));
  return {{"first", first_time_share()}, {"names", names}};
}

/// Axes by what they do around the best point, then the others in the order of the file.
Json axis_order(const SweepSpec& spec, const SweepEffects& effects) {
  std::vector<std::size_t> order;
  for (const AxisEffect& effect : effects.axes) order.push_back(effect.axis);
  for (std::size_t i = 0; i < spec.axes.size(); ++i) {
    if (std::find(order.begin(), order.end(), i) == order.end()) order.push_back(i);
  }
  return order;
}

std::vector<std::string> facts_of(const SweepResult& result, const SweepEffects& effects, std::size_t shown) {
  const SweepSpec& spec = result.spec;
  const std::size_t count = result.rows.newest().size();
  std::vector<std::string> out = {fmt::format("{} of {} points evaluated", count, result.points.size())};
  if (shown < count) out.push_back(fmt::format("the best {} are on this page", shown));
  if (spec.kind == SweepKind::Campaign)
    out.push_back(fmt::format("{} replicas a point, seed {}", spec.replicas, spec.seed));
  for (const SweepConstraint& constraint : spec.constraints) out.push_back(limit_text(spec, constraint));
  if (effects.invalid_count > 0) out.push_back(fmt::format("{} points are no valid scenario", effects.invalid_count));
  return out;
}

}  // namespace

Json sweep_report_json(const SweepResult& result) {
  const SweepSpec& spec = result.spec;
  std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(spec, result.points, rows);
  if (rows.size() > kMostReportRows) {
    std::sort(rows.begin(), rows.end(), [&](const SweepRow* a, const SweepRow* b) { return better(spec, *a, *b); });
    rows.resize(kMostReportRows);
    std::sort(rows.begin(), rows.end(), [](const SweepRow* a, const SweepRow* b) { return a->request < b->request; });
  }
  SweepExplanation words = explain(result);
  words.sentences.insert(words.sentences.end(), words.axes.begin(), words.axes.end());
  const auto best = std::find(rows.begin(), rows.end(), effects.best);
  return {
      {"name", spec.name},
      {"headline", words.headline},
      {"lead", spec.note},
      {"text", words.sentences},
      {"facts", facts_of(result, effects, rows.size())},
      {"objective", {{"metric", spec.objective.metric}, {"maximize", spec.objective.maximize}}},
      {"constraints", constraints_of(spec)},
      {"axes", axes_of(spec)},
      {"order", axis_order(spec, effects)},
      {"metrics", metrics_of(spec)},
      {"shown",
       metric_list(
           spec, {"goodput", "plt", "cost", "host_memory", "step_time", "tokens", "overlap", "exposed", "memory"}, 7)},
      {"fronts", front_metrics(spec, rows)},
      {"causes", causes_of(spec)},
      {"rows", columns_of(result, rows)},
      {"best", best == rows.end() ? Json() : Json(best - rows.begin())}};
}

}  // namespace moecast
