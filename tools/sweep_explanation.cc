#include "tools/sweep_explanation.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace moecast {
namespace {

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
    missed.push_back(fmt::format("{} ({})", pretty_value(spec, row, constraint.metric), limit_text(spec, constraint)));
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
          spec.objective_metric().name, pretty_value(spec, *effect.without, spec.objective.metric),
          pretty_metric(effect.gain, spec.objective_metric().unit), spec.metric(constraint.metric).name,
          pretty_value(spec, *effect.without, constraint.metric)));
    } else {
      out.push_back(fmt::format("The constraint {} does not bind: the best point has {}.", limit_text(spec, constraint),
                                pretty_value(spec, *effects.best, constraint.metric)));
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
  const auto metric = find_sweep_metric(spec.kind, std::string(spec.objective_metric().name) + "_half_width");
  if (!metric || !std::isfinite(row.values[*metric])) return std::nullopt;
  return row.values[*metric];
}

std::string second_sentence(const SweepResult& result, const SweepEffects& effects) {
  const SweepSpec& spec = result.spec;
  if (effects.second == nullptr) return "No other point meets all constraints.";
  const std::string second =
      fmt::format("point {} ({})", effects.second->request.point, point_text(spec, result.point(*effects.second)));
  const double loss =
      std::fabs(effects.best->values[spec.objective.metric] - effects.second->values[spec.objective.metric]);
  if (loss == 0) return fmt::format("As good is {}: of equal points the first counts.", second);
  std::string out =
      fmt::format("The second best, {}, loses {}.", second, pretty_metric(loss, spec.objective_metric().unit));
  if (spec.kind == SweepKind::Campaign) out += time_difference(spec, *effects.best, *effects.second);
  const std::optional<double> width = half_width(spec, *effects.best);
  if (width && loss < *width) {
    out += fmt::format(
        " That is inside the confidence interval of the mean ({} either way); {} replicas a point do not "
        "tell these two apart for certain{}.",
        pretty_metric(*width, spec.objective_metric().unit), spec.replicas,
        spec.common_failures ? ", though both met the same failures" : "");
  }
  return out;
}

/// "60 -0.5 %": what another value of the axis does to the objective.
std::string change_text(const SweepResult& result, const SweepRow& best, const std::string& label,
                        const SweepRow& row) {
  const SweepSpec& spec = result.spec;
  if (!row.valid()) return fmt::format("{} is no valid scenario", label);
  const double change = row.values[spec.objective.metric] - best.values[spec.objective.metric];
  if (change == 0 && feasible(spec, row)) return fmt::format("{} the same", label);
  return fmt::format("{} {}{}{}", label, change < 0 ? "-" : "+",
                     pretty_metric(std::fabs(change), spec.objective_metric().unit),
                     feasible(spec, row) ? "" : " (misses a constraint)");
}

/// The other values of an axis; of many only the ends and the neighbours of the best one, which say most.
std::vector<std::string> changes_along(const SweepResult& result, const SweepEffects& effects,
                                       const AxisEffect& effect) {
  constexpr std::size_t kMostShown = 6;
  const std::vector<const SweepRow*>& rows = effect.rows;
  const auto best = static_cast<std::size_t>(std::find(rows.begin(), rows.end(), effects.best) - rows.begin());
  std::vector<std::string> out;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool telling = i == 0 || i + 1 == rows.size() || i + 1 == best || i == best + 1;
    if (i == best || (rows.size() > kMostShown + 1 && !telling)) continue;
    out.push_back(change_text(result, *effects.best, result.axis_label(effect.axis, *rows[i]), *rows[i]));
  }
  return out;
}

/// What an axis does around the best point, and whether its best value lies at its end.
std::string axis_sentence(const SweepResult& result, const SweepEffects& effects, const AxisEffect& effect) {
  const SweepAxis& axis = result.spec.axes[effect.axis];
  if (effect.spread == 0) return fmt::format("{} changes nothing here.", axis.name());
  std::string out = fmt::format("{} {}: {}.", axis.name(), result.axis_label(effect.axis, *effects.best),
                                fmt::join(changes_along(result, effects, effect), ", "));
  const bool ordered = !axis.tracks.front().numbers.empty() && effect.rows.size() > 2;
  if (ordered && (effect.rows.front() == effects.best || effect.rows.back() == effects.best)) {
    out += " The best value lies at the end of the axis: a better one may lie beyond.";
  }
  return out;
}

}  // namespace

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
  out.headline = fmt::format("Point {} ({}) has the {} {}, {}, of {} points{}.", effects.best->request.point,
                             point_text(spec, result.point(*effects.best)),
                             spec.objective.maximize ? "highest" : "lowest", spec.objective_metric().name,
                             pretty_value(spec, *effects.best, spec.objective.metric), rows.size(), of_them);
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
      values.push_back({{"label", result.axis_label(effect.axis, *row)},
                        {"point", row->request.point},
                        {"value", row->valid() ? Json(row->values[result.spec.objective.metric]) : Json()},
                        {"feasible", feasible(result.spec, *row)}});
    }
    out["effects"].push_back(
        {{"axis", result.spec.axes[effect.axis].name()}, {"spread", effect.spread}, {"values", values}});
  }
  return out;
}

}  // namespace moecast
