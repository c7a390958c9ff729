#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/sweep/sweep_spec.h"

namespace moecast {

/// What is to be computed.
struct SweepRequest {
  std::int64_t point = 0;
  std::int64_t replicas = 1;  // of the sweep's, the first ones

  friend auto operator<=>(const SweepRequest&, const SweepRequest&) = default;
};

/// The results of one request: a value for each metric, or why the point is no valid scenario.
struct SweepRow {
  SweepRequest request;
  std::vector<double> values;
  std::string problem;

  [[nodiscard]] bool valid() const { return problem.empty(); }
};

/// Rows by request.
class SweepRows {
 public:
  void add(SweepRow row) { rows_.insert_or_assign(row.request, std::move(row)); }
  [[nodiscard]] const SweepRow* find(const SweepRequest& request) const;
  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  /// One row a point, the one with most replicas, in the order of the points.
  [[nodiscard]] std::vector<const SweepRow*> newest() const;

 private:
  std::map<SweepRequest, SweepRow> rows_;
};

/// A value of a row, for people: "3.75 %".
[[nodiscard]] std::string pretty_value(const SweepSpec& spec, const SweepRow& row, std::size_t metric);

/// By how much of its limit a row misses a constraint; 0 or less: it is met.
[[nodiscard]] double excess(const SweepConstraint& constraint, const SweepRow& row);
/// The row is valid and meets every constraint.
[[nodiscard]] bool feasible(const SweepSpec& spec, const SweepRow& row);
/// The order of the search: feasible rows first, by objective; then others by how much they miss; then rows of no valid
/// scenario. Equal rows: the lower point.
[[nodiscard]] bool better(const SweepSpec& spec, const SweepRow& a, const SweepRow& b);
/// The best feasible row with all replicas; none if there is no such row. `without`: leave this constraint out.
[[nodiscard]] const SweepRow* best_row(const SweepSpec& spec, const std::vector<const SweepRow*>& rows,
                                       std::optional<std::size_t> without = std::nullopt);

}  // namespace moecast
