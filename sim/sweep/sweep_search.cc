#include "sim/sweep/sweep_search.h"

#include <algorithm>
#include <map>

namespace moecast {
namespace {

/// Rows of the search: those that are missing are noted down.
struct Lookup {
  const SweepSpec& spec;
  const SweepRows& rows;
  std::vector<SweepRequest> missing = {};

  const SweepRow* operator()(const SweepRequest& request) {
    const SweepRow* row = rows.find(request);
    if (row == nullptr) missing.push_back(request);
    return row;
  }
  const SweepRow* operator()(std::int64_t point) { return (*this)(SweepRequest{point, spec.replicas}); }
};

/// All points, each with the same replicas.
std::vector<SweepRequest> every_point(const std::vector<std::int64_t>& points, std::int64_t replicas, Lookup& lookup) {
  for (const std::int64_t point : points) static_cast<void>(lookup(SweepRequest{point, replicas}));
  return lookup.missing;
}

std::vector<std::int64_t> all_of(const std::vector<SweepPoint>& points) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < points.size(); ++i) out.push_back(static_cast<std::int64_t>(i));
  return out;
}

/// Points that differ in one axis alone, in the order of its values.
std::vector<std::vector<std::int64_t>> lines_along(std::size_t axis, const std::vector<SweepPoint>& points) {
  std::map<SweepPoint, std::vector<std::int64_t>> lines;  // by the other axes; points ascend in this one
  for (std::size_t i = 0; i < points.size(); ++i) {
    SweepPoint others = points[i];
    others[axis].reset();
    lines[others].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::vector<std::int64_t>> out;
  for (auto& [others, line] : lines) out.push_back(std::move(line));
  return out;
}

/// Golden-section search (Kiefer, "Sequential minimax search for a maximum", Proc. AMS 4, 1953) over the positions of a
/// line: the bracket [low, high] shrinks to the side of the better of two inner points. Ends when rows are missing.
void search_line(const std::vector<std::int64_t>& line, Lookup& lookup) {
  constexpr double kGolden = 0.61803398874989485;
  std::size_t low = 0, high = line.size() - 1;
  while (high - low > 3) {
    const auto step = static_cast<std::size_t>(kGolden * static_cast<double>(high - low));
    const std::size_t left = high - step, right = std::max(low + step, left + 1);
    const SweepRow* a = lookup(line[left]);
    const SweepRow* b = lookup(line[right]);
    if (a == nullptr || b == nullptr) return;
    if (better(lookup.spec, *a, *b)) {
      high = right;
    } else {
      low = left;
    }
  }
  for (std::size_t i = low; i <= high; ++i) static_cast<void>(lookup(line[i]));
}

std::vector<SweepRequest> golden_section(const std::vector<SweepPoint>& points, Lookup& lookup) {
  for (const std::vector<std::int64_t>& line : lines_along(lookup.spec.search.axis, points)) search_line(line, lookup);
  return lookup.missing;
}

/// From the middle point: all points along one axis, on from the best of them along the next, until a round over all
/// axes changes nothing.
std::vector<SweepRequest> coordinate_descent(const std::vector<SweepPoint>& points, Lookup& lookup) {
  const std::size_t axis_count = lookup.spec.axes.size();
  std::vector<std::map<std::int64_t, const std::vector<std::int64_t>*>> line_of(axis_count);
  std::vector<std::vector<std::vector<std::int64_t>>> lines;
  for (std::size_t axis = 0; axis < axis_count; ++axis) lines.push_back(lines_along(axis, points));
  for (std::size_t axis = 0; axis < axis_count; ++axis) {
    for (const auto& line : lines[axis]) {
      for (const std::int64_t point : line) line_of[axis][point] = &line;
    }
  }
  std::int64_t at = static_cast<std::int64_t>(points.size() / 2);
  for (std::size_t unchanged = 0, axis = 0; unchanged < axis_count; axis = (axis + 1) % axis_count) {
    const SweepRow* best = lookup(at);
    for (const std::int64_t point : *line_of[axis].at(at)) {
      const SweepRow* row = lookup(point);
      if (row != nullptr && best != nullptr && better(lookup.spec, *row, *best)) best = row;
    }
    if (!lookup.missing.empty()) break;
    unchanged = best->request.point == at ? unchanged + 1 : 0;
    at = best->request.point;
  }
  std::sort(lookup.missing.begin(), lookup.missing.end());
  lookup.missing.erase(std::unique(lookup.missing.begin(), lookup.missing.end()), lookup.missing.end());
  return lookup.missing;
}

/// Successive halving (Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
/// optimization", AISTATS 2016): each round has fewer points with more replicas.
std::vector<SweepRequest> successive_halving(const std::vector<SweepPoint>& points, Lookup& lookup) {
  const SweepSpec& spec = lookup.spec;
  std::vector<std::int64_t> left = all_of(points);
  for (std::int64_t replicas = spec.search.first_replicas;;
       replicas = std::min(spec.replicas, replicas * spec.search.factor)) {
    std::vector<SweepRequest> missing = every_point(left, replicas, lookup);
    if (!missing.empty() || replicas == spec.replicas) return missing;
    std::sort(left.begin(), left.end(), [&](std::int64_t a, std::int64_t b) {
      return better(spec, *lookup.rows.find({a, replicas}), *lookup.rows.find({b, replicas}));
    });
    const auto factor = static_cast<std::size_t>(spec.search.factor);
    left.resize((left.size() + factor - 1) / factor);
    std::sort(left.begin(), left.end());
  }
}

}  // namespace

std::vector<SweepRequest> next_requests(const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                        const SweepRows& rows) {
  Lookup lookup{spec, rows};
  switch (spec.search.kind) {
    case SweepSearch::Kind::Grid:
      return every_point(all_of(points), spec.replicas, lookup);
    case SweepSearch::Kind::GoldenSection:
      return golden_section(points, lookup);
    case SweepSearch::Kind::CoordinateDescent:
      return coordinate_descent(points, lookup);
    case SweepSearch::Kind::SuccessiveHalving:
      return successive_halving(points, lookup);
  }
  return {};
}

}  // namespace moecast
