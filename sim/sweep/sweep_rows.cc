#include "sim/sweep/sweep_rows.h"

#include <algorithm>
#include <cmath>

namespace moecast {
namespace {

bool feasible_without(const SweepSpec& spec, const SweepRow& row, std::optional<std::size_t> without) {
  if (!row.valid()) return false;
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    if (i != without && !(excess(spec.constraints[i], row) <= 0)) return false;
  }
  return true;
}

double total_excess(const SweepSpec& spec, const SweepRow& row) {
  double sum = 0;
  for (const SweepConstraint& constraint : spec.constraints) sum += std::max(0.0, excess(constraint, row));
  return sum;
}

/// Better objective first; equal ones by point.
bool ahead(const SweepSpec& spec, const SweepRow& a, const SweepRow& b) {
  const double x = a.values[spec.objective.metric], y = b.values[spec.objective.metric];
  if (x != y) return spec.objective.maximize ? x > y : x < y;
  return a.request < b.request;
}

}  // namespace

const SweepRow* SweepRows::find(const SweepRequest& request) const {
  const auto found = rows_.find(request);
  return found == rows_.end() ? nullptr : &found->second;
}

std::vector<const SweepRow*> SweepRows::newest() const {
  std::vector<const SweepRow*> out;
  for (const auto& [request, row] : rows_) {
    if (!out.empty() && out.back()->request.point == request.point) out.pop_back();
    out.push_back(&row);
  }
  return out;
}

std::string pretty_value(const SweepSpec& spec, const SweepRow& row, std::size_t metric) {
  return pretty_metric(row.values[metric], spec.metric(metric).unit);
}

double excess(const SweepConstraint& constraint, const SweepRow& row) {
  const double value = row.values[constraint.metric];
  const double over = constraint.at_most ? value - constraint.limit : constraint.limit - value;
  const double scale = std::fabs(constraint.limit);
  return scale > 0 ? over / scale : over;
}

bool feasible(const SweepSpec& spec, const SweepRow& row) { return feasible_without(spec, row, std::nullopt); }

bool better(const SweepSpec& spec, const SweepRow& a, const SweepRow& b) {
  if (!a.valid() || !b.valid()) return a.valid() != b.valid() ? a.valid() : a.request < b.request;
  const double x = total_excess(spec, a), y = total_excess(spec, b);
  if (x != y) return x < y;
  return ahead(spec, a, b);
}

const SweepRow* best_row(const SweepSpec& spec, const std::vector<const SweepRow*>& rows,
                         std::optional<std::size_t> without) {
  const SweepRow* best = nullptr;
  for (const SweepRow* row : rows) {
    if (row->request.replicas < spec.replicas || !feasible_without(spec, *row, without)) continue;
    if (best == nullptr || ahead(spec, *row, *best)) best = row;
  }
  return best;
}

}  // namespace moecast
