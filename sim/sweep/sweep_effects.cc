#include "sim/sweep/sweep_effects.h"

#include <algorithm>

namespace moecast {
namespace {

/// Do two points differ in `axis` alone?
bool on_one_line(const SweepPoint& a, const SweepPoint& b, std::size_t axis) {
  if (a[axis].has_value() != b[axis].has_value()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (i != axis && a[i] != b[i]) return false;
  }
  return true;
}

AxisEffect effect_of(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                     const std::vector<const SweepRow*>& rows, const SweepRow& best, std::size_t axis) {
  AxisEffect out;
  out.axis = axis;
  const SweepPoint& centre = points[static_cast<std::size_t>(best.request.point)];
  double low = best.values[spec.objective.metric], high = low;
  for (const SweepRow* row : rows) {
    const bool whole = row->request.replicas == best.request.replicas;
    if (!whole || !on_one_line(points[static_cast<std::size_t>(row->request.point)], centre, axis)) continue;
    out.rows.push_back(row);
    if (!row->valid()) continue;
    low = std::min(low, row->values[spec.objective.metric]);
    high = std::max(high, row->values[spec.objective.metric]);
  }
  out.spread = high - low;
  return out;
}

double gain_of(const SweepSpec& spec, const SweepRow& row, const SweepRow& best) {
  const double gain = row.values[spec.objective.metric] - best.values[spec.objective.metric];
  return spec.objective.maximize ? gain : -gain;
}

}  // namespace

std::vector<const SweepRow*> best_rows(const SweepSpec& spec, const std::vector<const SweepRow*>& rows,
                                       std::size_t most) {
  std::vector<const SweepRow*> out;
  for (const SweepRow* row : rows) {
    if (row->request.replicas == spec.replicas && feasible(spec, *row)) out.push_back(row);
  }
  most = std::min(most, out.size());
  std::partial_sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(most), out.end(),
                    [&](const SweepRow* a, const SweepRow* b) { return better(spec, *a, *b); });
  out.resize(most);
  return out;
}

SweepEffects sweep_effects(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                           const std::vector<const SweepRow*>& rows) {
  SweepEffects out;
  for (const SweepRow* row : rows) {
    out.feasible_count += feasible(spec, *row) ? 1 : 0;
    out.invalid_count += row->valid() ? 0 : 1;
    if (row->valid() && (out.nearest == nullptr || better(spec, *row, *out.nearest))) out.nearest = row;
  }
  const std::vector<const SweepRow*> first = best_rows(spec, rows, 2);
  if (!first.empty()) out.best = first.front();
  if (first.size() > 1) out.second = first.back();
  if (out.best == nullptr) return out;
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    const SweepRow* without = best_row(spec, rows, i);
    out.constraints.push_back({i, without, without == nullptr ? 0 : gain_of(spec, *without, *out.best)});
  }
  for (std::size_t axis = 0; axis < spec.axes.size(); ++axis) {
    AxisEffect effect = effect_of(spec, points, rows, *out.best, axis);
    if (effect.rows.size() > 1) out.axes.push_back(std::move(effect));
  }
  std::stable_sort(out.axes.begin(), out.axes.end(),
                   [](const AxisEffect& a, const AxisEffect& b) { return a.spread > b.spread; });
  return out;
}

}  // namespace moecast
