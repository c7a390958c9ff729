#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/ids.h"

namespace moecast {

using ResourceId = Id<struct ResourceTag>;  // a link port, a switch, an uplink, a disk: something with a capacity

/// One unit of a row's rate takes `coefficient` (> 0) units of the resource's capacity.
struct ResourceUse {
  ResourceId resource;
  double coefficient = 1;
};

/// One variable: a flow, or a whole balanced collective whose rate is that of one rank's port.
struct SharingRow {
  double weight = 1;  // > 0: its claim when a resource is short (the number of flows that it stands for)
  double bound = std::numeric_limits<double>::infinity();  // >= 0: the rate that it cannot exceed even alone
  std::int32_t first_use = 0;                              // its uses are uses[first_use], ..., use_count of them
  std::int32_t use_count = 0;                              // each resource at most once
};

struct SharingProblem {
  std::span<const double> capacities;  // by ResourceId; >= 0
  std::span<const SharingRow> rows;
  std::span<const ResourceUse> uses;
};

/// Weighted max-min fair rates, one for each row. A row must have a use or a finite bound.
///
/// Deterministic: the same problem gives the same bits; rows that are alike get equal rates, exactly. No resource is
/// over its capacity by more than a relative 1e-12. Cost O(uses log(resources + rows)).
[[nodiscard]] std::vector<double> max_min_rates(const SharingProblem& problem);

/// The same function for callers that solve often: the working memory stays from call to call.
class MaxMinSolver {
 public:
  /// The rates are valid until the next call.
  [[nodiscard]] std::span<const double> solve(const SharingProblem& problem);

 private:
  /// A sum that loses nothing when terms are taken away again (Neumaier, ZAMM 54, 1974).
  struct ExactSum {
    double sum = 0;
    double lost = 0;
    void add(double term);
    [[nodiscard]] double value() const { return sum + lost; }
  };
  struct ResourceState {
    ExactSum free;                       // capacity less the use of frozen rows
    ExactSum claim;                      // sum of coefficient * weight over the rows that still rise
    std::int32_t rising_count = 0;       // rows that still rise
    std::int32_t first_user = 0;         // its rows are users_[first_user], ...
    [[nodiscard]] double level() const;  // at which it is full
  };
  struct Limit {  // the bound of a row, or a resource
    double level = 0;
    std::int32_t index = 0;  // rows first (a rate that reaches its bound is the bound, to the last bit), then resources
  };

  static bool later(const Limit& a, const Limit& b);
  void load(const SharingProblem& problem);
  void place_users(const SharingProblem& problem);
  void place_limits(const SharingProblem& problem);
  void push(Limit limit);
  [[nodiscard]] Limit pop();
  void freeze(const SharingProblem& problem, std::int32_t index, double rate);

  std::vector<double> rates_;
  std::vector<bool> frozen_;
  std::vector<ResourceState> resources_;
  std::vector<std::int32_t> users_;
  std::vector<Limit> limits_;  // min-heap by (level, index)
};

}  // namespace moecast
