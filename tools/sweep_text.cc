#include "tools/sweep_text.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/table.h"

namespace moecast {
namespace {

constexpr std::size_t kShownRows = 5;

const SweepMetric& objective_of(const SweepSpec& spec) { return spec.metric(spec.objective.metric); }
double objective_value(const SweepSpec& spec, const SweepRow& row) { return row.values[spec.objective.metric]; }
std::string shown(const SweepSpec& spec, const SweepRow& row, std::size_t metric) {
  return pretty_metric(row.values[metric], spec.metric(metric).unit);
}

/// Metrics beside the objective that the table shows: those of the constraints, then the usual ones.
std::vector<std::size_t> shown_metrics(const SweepSpec& spec) {
  std::vector<std::size_t> out = {spec.objective.metric};
  const auto add = [&](std::size_t metric) {
    if (std::find(out.begin(), out.end(), metric) == out.end()) out.push_back(metric);
  };
  for (const SweepConstraint& constraint : spec.constraints) add(constraint.metric);
  for (const char* name : {"goodput", "plt", "cost", "step_time", "overlap", "exposed"}) {
    const std::optional<std::size_t> metric = find_sweep_metric(spec.kind, name);
    if (metric && out.size() < 5) add(*metric);
  }
  return out;
}

/// `part` of 10 cells, in eighths.
std::string bar(double part) {
  static constexpr std::array kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<std::size_t>(std::lround(80 * std::clamp(part, 0.0, 1.0)));
  std::string out;
  for (std::size_t i = 0; i < eighths / 8; ++i) out += "█";
  return out + kEighths[eighths % 8];
}

/// How far a value lies between the worst and the best of all valid rows.
struct Span {
  double low = 0, high = 0;
  [[nodiscard]] double part(double value) const { return high > low ? (value - low) / (high - low) : 1; }
};
Span span_of(const SweepSpec& spec, const std::vector<const SweepRow*>& rows) {
  Span out{INFINITY, -INFINITY};
  for (const SweepRow* row : rows) {
    if (!row->valid()) continue;
    out.low = std::min(out.low, objective_value(spec, *row));
    out.high = std::max(out.high, objective_value(spec, *row));
  }
  return out;
}

std::string best_table(const SweepResult& result, const std::vector<const SweepRow*>& rows,
                       const std::vector<const SweepRow*>& best, const Style& style) {
  const SweepSpec& spec = result.spec;
  const std::vector<std::size_t> metrics = shown_metrics(spec);
  std::vector<Table::Column> columns = {{"point", Align::Right}};
  for (const SweepAxis& axis : spec.axes) {
    for (const AxisTrack& track : axis.tracks) columns.push_back({track.name, Align::Right});
  }
  for (const std::size_t metric : metrics) columns.push_back({std::string(spec.metric(metric).name), Align::Right});
  columns.push_back({"", Align::Left});
  Table table(columns);
  const Span span = span_of(spec, rows);
  for (const SweepRow* row : best) {
    std::vector<Cell> cells = {std::to_string(row->request.point)};
    const SweepPoint& point = result.point(*row);
    for (std::size_t i = 0; i < spec.axes.size(); ++i) {
      for (const AxisTrack& track : spec.axes[i].tracks) {
        cells.emplace_back(point[i] ? track.labels[*point[i]] : std::string("-"));
      }
    }
    for (const std::size_t metric : metrics) cells.emplace_back(shown(spec, *row, metric));
    cells.emplace_back(bar(span.part(objective_value(spec, *row))), row == best.front() ? Tone::Good : Tone::Faint);
    table.row(std::move(cells));
  }
  return table.text(style, "  ");
}

/// "interval" or "snapshot_rate + persist_rate" of a zipped axis.
std::string axis_name(const SweepAxis& axis) {
  std::string out;
  for (const AxisTrack& track : axis.tracks) out += (out.empty() ? "" : " + ") + track.name;
  return out;
}

std::string value_label(const SweepResult& result, const AxisEffect& effect, const SweepRow& row) {
  const std::optional<std::uint32_t> value = result.point(row)[effect.axis];
  return value ? result.spec.axes[effect.axis].tracks.front().labels[*value] : std::string();
}

std::string axes_table(const SweepResult& result, const SweepEffects& effects, const Style& style) {
  Table table({{"around the best point", Align::Left}, {"", Align::Left}, {"", Align::Left}, {"", Align::Left}});
  for (const AxisEffect& effect : effects.axes) {
    std::vector<double> values;
    for (const SweepRow* row : effect.rows) {
      values.push_back(row->valid() ? objective_value(result.spec, *row) : std::nan(""));
    }
    table.row({axis_name(result.spec.axes[effect.axis]), sparkline(values),
               fmt::format("{} .. {}", value_label(result, effect, *effect.rows.front()),
                           value_label(result, effect, *effect.rows.back())),
               fmt::format("worth {}", pretty_metric(effect.spread, objective_of(result.spec).unit))});
  }
  return effects.axes.empty() ? std::string() : table.text(style, "  ");
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    out += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  }
  return out;
}

/// "No point meets all constraints; nearest comes point 3 (...), which has plt 5 % (at most 3.75 %)."
std::string nothing_feasible(const SweepResult& result, const SweepEffects& effects) {
  const SweepSpec& spec = result.spec;
  if (effects.nearest == nullptr) return "No point is a valid scenario.";
  const SweepRow& row = *effects.nearest;
  std::vector<std::string> missed;
  for (const SweepConstraint& constraint : spec.constraints) {
    if (excess(constraint, row) <= 0) continue;
    missed.push_back(fmt::format("{} ({})", shown(spec, row, constraint.metric), limit_text(spec, constraint)));
  }
  return fmt::format("No point meets all constraints. Point {} ({}) comes nearest: it has {}.", row.request.point,
                     point_text(spec, result.point(row)), joined(missed));
}

std::vector<std::string> constraint_sentences(const SweepResult& result, const SweepEffects& effects) {
  const SweepSpec& spec = result.spec;
  std::vector<std::string> out;
  for (const ConstraintEffect& effect : effects.constraints) {
    const SweepConstraint& constraint = spec.constraints[effect.constraint];
    if (effect.binds()) {
      out.push_back(fmt::format(
          "The constraint {} binds: without it point {} ({}) would give {} {}, {} better, with {} {}.",
          limit_text(spec, constraint), effect.without->request.point, point_text(spec, result.point(*effect.without)),
          objective_of(spec).name, shown(spec, *effect.without, spec.objective.metric),
          pretty_metric(effect.gain, objective_of(spec).unit), spec.metric(constraint.metric).name,
          shown(spec, *effect.without, constraint.metric)));
    } else {
      out.push_back(fmt::format("The constraint {} does not bind: the best point has {}.", limit_text(spec, constraint),
                                shown(spec, *effects.best, constraint.metric)));
    }
  }
  return out;
}

std::string cause_of(std::string_view metric) {
  std::string out(metric.substr(0, metric.rfind('_')));
  return out == "stall" ? "checkpoint stalls" : out;
}

/// Where a campaign's time goes otherwise in `other` than in `best`: the largest differences first.
std::string time_difference(const SweepSpec& spec, const SweepRow& best, const SweepRow& other) {
  struct Difference {
    std::string cause;
    double share;
  };
  std::vector<Difference> differences;
  const std::size_t first = first_time_share() + 1;  // behind useful time
  for (std::size_t i = first; i < first_time_share() + kTimeCauseCount; ++i) {
    differences.push_back({cause_of(spec.metric(i).name), other.values[i] - best.values[i]});
  }
  std::stable_sort(differences.begin(), differences.end(),
                   [](const Difference& a, const Difference& b) { return std::fabs(a.share) > std::fabs(b.share); });
  std::vector<std::string> parts;
  for (const Difference& difference : differences) {
    if (parts.size() == 3 || std::fabs(difference.share) < 5e-6) break;
    parts.push_back(fmt::format("{} {:+.3g} %", difference.cause, 100 * difference.share));
  }
  return parts.empty() ? std::string() : fmt::format(" Of the wall time: {}.", joined(parts));
}

/// Half of the confidence interval of the objective's mean, where the metric has one.
std::optional<double> half_width(const SweepSpec& spec, const SweepRow& row) {
  const auto metric = find_sweep_metric(spec.kind, std::string(objective_of(spec).name) + "_half_width");
  if (!metric || !std::isfinite(row.values[*metric])) return std::nullopt;
  return row.values[*metric];
}

std::string second_sentence(const SweepResult& result, const SweepEffects& effects) {
  const SweepSpec& spec = result.spec;
  if (effects.second == nullptr) return "No other point meets all constraints.";
  const double loss = std::fabs(objective_value(spec, *effects.best) - objective_value(spec, *effects.second));
  std::string out =
      fmt::format("The second best, point {} ({}), loses {}.", effects.second->request.point,
                  point_text(spec, result.point(*effects.second)), pretty_metric(loss, objective_of(spec).unit));
  if (spec.kind == SweepKind::Campaign) out += time_difference(spec, *effects.best, *effects.second);
  const std::optional<double> width = half_width(spec, *effects.best);
  if (width && loss < *width) {
    out += fmt::format(
        " That is inside the confidence interval of the mean ({} either way); {} replicas a point do not "
        "tell these two apart for certain{}.",
        pretty_metric(*width, objective_of(spec).unit), spec.replicas,
        spec.common_failures ? ", though both met the same failures" : "");
  }
  return out;
}

/// What an axis does around the best point, and whether its best value lies at its end.
std::string axis_sentence(const SweepResult& result, const SweepEffects& effects, const AxisEffect& effect) {
  const SweepSpec& spec = result.spec;
  const std::string name = axis_name(spec.axes[effect.axis]);
  const std::string best_label = value_label(result, effect, *effects.best);
  if (effect.spread == 0) return fmt::format("{} changes nothing here.", name);
  const double best = objective_value(spec, *effects.best);
  std::vector<std::string> others;
  for (const SweepRow* row : effect.rows) {
    if (row == effects.best) continue;
    const std::string label = value_label(result, effect, *row);
    if (!row->valid()) {
      others.push_back(fmt::format("{} is no valid scenario", label));
      continue;
    }
    const double change = objective_value(spec, *row) - best;
    others.push_back(fmt::format("{} {}{}{}", label, change < 0 ? "-" : "+",
                                 pretty_metric(std::fabs(change), objective_of(spec).unit),
                                 feasible(spec, *row) ? "" : " (misses a constraint)"));
  }
  constexpr std::size_t kShown = 6;
  if (others.size() > kShown) {
    // The ends and the neighbours of the best value say most.
    const auto at =
        static_cast<std::size_t>(std::find(effect.rows.begin(), effect.rows.end(), effects.best) - effect.rows.begin());
    std::vector<std::string> few = {others.front()};
    for (const std::size_t i : {at - 1, at}) {
      if (i > 0 && i + 1 < others.size()) few.push_back(others[i]);
    }
    few.push_back(others.back());
    others = std::move(few);
  }
  std::string out = fmt::format("{} {}: {}.", name, best_label, fmt::join(others, ", "));
  const bool ordered = !spec.axes[effect.axis].tracks.front().numbers.empty() && effect.rows.size() > 2;
  if (ordered && (effect.rows.front() == effects.best || effect.rows.back() == effects.best)) {
    out += " The best value lies at the end of the axis: a better one may lie beyond.";
  }
  return out;
}

}  // namespace

std::string sparkline(std::span<const double> values) {
  static constexpr std::array kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  double low = INFINITY, high = -INFINITY;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  std::string out;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      out += " ";
      continue;
    }
    const double part = high > low ? (value - low) / (high - low) : 0.5;
    out += kBlocks[static_cast<std::size_t>(std::min(7.0, std::floor(part * 8)))];
  }
  return out;
}

std::string sweep_table(const SweepResult& result, const Style& style) {
  const SweepSpec& spec = result.spec;
  const std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(spec, result.points, rows);
  std::string out = fmt::format("{}\n", style.paint(spec.name, Tone::Strong));
  out += fmt::format("  {} of {} points evaluated", rows.size(), result.points.size());
  if (!spec.constraints.empty()) out += fmt::format(", {} meet every constraint", effects.feasible_count);
  if (effects.invalid_count > 0) out += fmt::format(", {} are no valid scenario", effects.invalid_count);
  out += "\n\n";
  if (effects.best == nullptr) return out + "  " + style.paint(nothing_feasible(result, effects), Tone::Warning) + "\n";
  out += best_table(result, rows, best_rows(spec, rows, kShownRows), style);
  const std::string axes = axes_table(result, effects, style);
  if (!axes.empty()) out += "\n" + axes;
  for (const ConstraintEffect& effect : effects.constraints) {
    if (!effect.binds()) continue;
    out += fmt::format("\n  {} binds: without it {} better\n",
                       style.paint(limit_text(spec, spec.constraints[effect.constraint]), Tone::Warning),
                       pretty_metric(effect.gain, objective_of(spec).unit));
  }
  return out;
}

SweepExplanation explain(const SweepResult& result) {
  const SweepSpec& spec = result.spec;
  const std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(spec, result.points, rows);
  SweepExplanation out;
  if (effects.best == nullptr) {
    out.headline = nothing_feasible(result, effects);
    return out;
  }
  const std::string of_them = spec.constraints.empty()
                                  ? std::string()
                                  : fmt::format(", {} of which meet every constraint", effects.feasible_count);
  out.headline =
      fmt::format("Point {} ({}) has the {} {}, {}, of {} points{}.", effects.best->request.point,
                  point_text(spec, result.point(*effects.best)), spec.objective.maximize ? "highest" : "lowest",
                  objective_of(spec).name, shown(spec, *effects.best, spec.objective.metric), rows.size(), of_them);
  out.sentences = constraint_sentences(result, effects);
  out.sentences.insert(out.sentences.begin(), second_sentence(result, effects));
  for (const AxisEffect& effect : effects.axes) out.axes.push_back(axis_sentence(result, effects, effect));
  return out;
}

std::string to_text(const SweepExplanation& explanation) {
  std::string out = explanation.headline + "\n";
  for (const std::string& sentence : explanation.sentences) out += sentence + "\n";
  if (!explanation.axes.empty()) out += "\nAround the best point, the other axes as there:\n";
  for (const std::string& line : explanation.axes) out += "  " + line + "\n";
  return out;
}

nlohmann::ordered_json explanation_json(const SweepResult& result) {
  using Json = nlohmann::ordered_json;
  Json out = summary_json(result);
  const std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(result.spec, result.points, rows);
  out["schema"] = "moecast.explain/1";
  out["text"] = to_text(explain(result));
  out["effects"] = Json::array();
  for (const AxisEffect& effect : effects.axes) {
    Json values = Json::array();
    for (const SweepRow* row : effect.rows) {
      values.push_back({{"label", value_label(result, effect, *row)},
                        {"point", row->request.point},
                        {"value", row->valid() ? Json(objective_value(result.spec, *row)) : Json()},
                        {"feasible", feasible(result.spec, *row)}});
    }
    out["effects"].push_back(
        {{"axis", axis_name(result.spec.axes[effect.axis])}, {"spread", effect.spread}, {"values", values}});
  }
  return out;
}

}  // namespace moecast
