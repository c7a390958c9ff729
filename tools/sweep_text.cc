#include "tools/sweep_text.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include "tools/sweep_explanation.h"
#include "tools/table.h"

namespace moecast {
namespace {

constexpr std::size_t kShownRows = 5;

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

/// How far a value lies from the worst towards the best of all valid rows.
struct Span {
  double worst = 0, best = 0;
  [[nodiscard]] double part(double value) const { return best != worst ? (value - worst) / (best - worst) : 1; }
};
Span span_of(const SweepSpec& spec, const std::vector<const SweepRow*>& rows) {
  double low = INFINITY, high = -INFINITY;
  for (const SweepRow* row : rows) {
    if (!row->valid()) continue;
    low = std::min(low, row->values[spec.objective.metric]);
    high = std::max(high, row->values[spec.objective.metric]);
  }
  return spec.objective.maximize ? Span{low, high} : Span{high, low};
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
    for (const std::size_t metric : metrics) cells.emplace_back(pretty_value(spec, *row, metric));
    cells.emplace_back(bar(span.part(row->values[spec.objective.metric])),
                       row == best.front() ? Tone::Good : Tone::Faint);
    table.row(std::move(cells));
  }
  return table.text(style, "  ");
}

/// Eight heights of block, lowest to highest of the values; values that are not finite are blank.
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

std::string axes_table(const SweepResult& result, const SweepEffects& effects, const Style& style) {
  Table table({{"around the best point", Align::Left}, {"", Align::Left}, {"", Align::Left}, {"", Align::Left}});
  for (const AxisEffect& effect : effects.axes) {
    constexpr std::size_t kWidest = 32;
    const std::size_t width = std::min(kWidest, effect.rows.size());  // at least two: AxisEffect
    std::vector<double> values;
    for (std::size_t i = 0; i < width; ++i) {
      const SweepRow* row = effect.rows[i * (effect.rows.size() - 1) / (width - 1)];
      values.push_back(row->valid() ? row->values[result.spec.objective.metric] : std::nan(""));
    }
    table.row({result.spec.axes[effect.axis].name(), sparkline(values),
               fmt::format("{} .. {}", result.axis_label(effect.axis, *effect.rows.front()),
                           result.axis_label(effect.axis, *effect.rows.back())),
               fmt::format("worth {}", pretty_metric(effect.spread, result.spec.objective_metric().unit))});
  }
  return effects.axes.empty() ? std::string() : table.text(style, "  ");
}

}  // namespace

std::string sweep_table(const SweepResult& result, const Style& style) {
  const SweepSpec& spec = result.spec;
  const std::vector<const SweepRow*> rows = result.rows.newest();
  const SweepEffects effects = sweep_effects(spec, result.points, rows);
  std::string out = fmt::format("{}\n", style.paint(spec.name, Tone::Strong));
  out += fmt::format("  {} of {} points evaluated", rows.size(), result.points.size());
  if (!spec.constraints.empty()) out += fmt::format(", {} meet every constraint", effects.feasible_count);
  if (effects.invalid_count > 0) out += fmt::format(", {} are no valid scenario", effects.invalid_count);
  out += "\n\n";
  if (effects.best == nullptr) return out + "  " + style.paint(explain(result).headline, Tone::Warning) + "\n";
  out += best_table(result, rows, best_rows(spec, rows, kShownRows), style);
  const std::string axes = axes_table(result, effects, style);
  if (!axes.empty()) out += "\n" + axes;
  for (const ConstraintEffect& effect : effects.constraints) {
    if (!effect.binds()) continue;
    out += fmt::format("\n  {} binds: without it {} better\n",
                       style.paint(limit_text(spec, spec.constraints[effect.constraint]), Tone::Warning),
                       pretty_metric(effect.gain, spec.objective_metric().unit));
  }
  return out;
}

}  // namespace moecast
