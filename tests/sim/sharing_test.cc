#include "sim/sharing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast {
namespace {

/// A problem that owns its parts.
struct Network {
  std::vector<double> capacities;
  std::vector<SharingRow> rows;
  std::vector<ResourceUse> uses;

  void add(double weight, double bound, std::vector<std::pair<int, double>> uses_of_row) {
    SharingRow row{weight, bound, static_cast<std::int32_t>(uses.size()),
                   static_cast<std::int32_t>(uses_of_row.size())};
    for (const auto& [resource, coefficient] : uses_of_row) uses.push_back({ResourceId(resource), coefficient});
    rows.push_back(row);
  }
  void flow(std::vector<int> path) {
    std::vector<std::pair<int, double>> uses_of_row;
    for (const int resource : path) uses_of_row.emplace_back(resource, 1.0);
    add(1, std::numeric_limits<double>::infinity(), uses_of_row);
  }
  [[nodiscard]] SharingProblem problem() const { return {capacities, rows, uses}; }
  [[nodiscard]] std::vector<double> rates() const { return max_min_rates(problem()); }
};

TEST(MaxMinRates, EqualFlowsShareOneLinkEqually) {
  Network network{{12}, {}, {}};
  for (int i = 0; i < 3; ++i) network.flow({0});
  EXPECT_EQ(network.rates(), (std::vector<double>{4, 4, 4}));
}

TEST(MaxMinRates, WeightsDivideALink) {
  Network network{{12}, {}, {}};
  network.add(1, 100, {{0, 1}});
  network.add(2, 100, {{0, 1}});
  network.add(3, 100, {{0, 1}});
  EXPECT_EQ(network.rates(), (std::vector<double>{2, 4, 6}));
}

TEST(MaxMinRates, WhatABoundLeavesGoesToTheOthers) {
  Network network{{12}, {}, {}};
  network.add(1, 2, {{0, 1}});
  network.add(1, 100, {{0, 1}});
  EXPECT_EQ(network.rates(), (std::vector<double>{2, 10}));
}

TEST(MaxMinRates, RowThatNothingElseLimitsRunsAtItsBound) {
  Network network{{10}, {}, {}};
  network.add(7, 0.1, {});
  network.add(7, 0.3, {{0, 1}});
  EXPECT_EQ(network.rates(), (std::vector<double>{0.1, 0.3}));
}

TEST(MaxMinRates, RowsOnAnEmptyResourceStandStill) {
  Network network{{0, 8}, {}, {}};
  network.flow({0, 1});
  network.flow({1});
  EXPECT_EQ(network.rates(), (std::vector<double>{0, 8}));
}

/// The parking lot: one flow over n links, one more flow on each (Bertsekas and Gallager, section 6.5.2). With link i
/// of capacity i + 2 the long flow gets half of the narrowest, and every short one the rest of its link.
TEST(MaxMinRates, ParkingLotHasItsClosedForm) {
  constexpr int kLinks = 6;
  Network network;
  std::vector<int> all(kLinks);
  std::iota(all.begin(), all.end(), 0);
  for (int i = 0; i < kLinks; ++i) network.capacities.push_back(i + 2);
  network.flow(all);
  for (int i = 0; i < kLinks; ++i) network.flow({i});
  const std::vector<double> rates = network.rates();
  EXPECT_EQ(rates[0], 1);
  for (int i = 0; i < kLinks; ++i) EXPECT_EQ(rates[static_cast<std::size_t>(i) + 1], i + 1);
}

TEST(MaxMinRates, CoefficientsCountAgainstCapacity) {
  Network network{{12, 100}, {}, {}};
  network.add(1, 1000, {{0, 3}, {1, 1}});  // takes three units a unit of rate
  network.add(1, 1000, {{0, 1}});
  EXPECT_EQ(network.rates(), (std::vector<double>{3, 3}));
}

/// A balanced all-to-all over n ports as one row of weight n - 1 against its n (n - 1) flows, with a foreign flow on
/// one of the ports.
TEST(MaxMinRates, OneRowStandsForTheFlowsOfABalancedCollective) {
  constexpr int kPorts = 4;
  Network flows, row;
  flows.capacities.assign(2 * kPorts, 30.0);
  row.capacities = flows.capacities;
  std::vector<std::pair<int, double>> ports;
  for (int from = 0; from < kPorts; ++from) {
    for (int to = 0; to < kPorts; ++to) {
      if (from != to) flows.flow({from, kPorts + to});
    }
    ports.emplace_back(from, 1.0);
    ports.emplace_back(kPorts + from, 1.0);
  }
  row.add(kPorts - 1, std::numeric_limits<double>::infinity(), ports);
  flows.flow({0});
  row.flow({0});
  const std::vector<double> flow_rates = flows.rates();
  const std::vector<double> row_rates = row.rates();
  EXPECT_DOUBLE_EQ(row_rates[1], flow_rates.back());
  EXPECT_DOUBLE_EQ(row_rates[0], flow_rates[0] * (kPorts - 1));
}

Network random_network(const CounterRandom& random, std::uint64_t seed) {
  Network network;
  const std::int64_t resources = 1 + random.below(12, seed, 0);
  const std::int64_t rows = 1 + random.below(25, seed, 1);
  for (std::int64_t r = 0; r < resources; ++r) {
    const auto draw = static_cast<std::uint64_t>(100 + r);
    network.capacities.push_back(random.below(15, seed, draw) == 0 ? 0 : 1 + 99 * random.uniform(seed, draw + 50));
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::uint64_t draw = 1000 + 100 * static_cast<std::uint64_t>(i);
    std::vector<std::pair<int, double>> uses;
    for (std::int64_t r = 0; r < resources; ++r) {
      const std::uint64_t at = draw + 2 * static_cast<std::uint64_t>(r);
      if (random.below(3, seed, at) == 0) uses.emplace_back(r, 0.1 + 3 * random.uniform(seed, at + 1));
    }
    const bool bounded = uses.empty() || random.below(3, seed, draw + 90) == 0;
    const double bound = bounded ? 20 * random.uniform(seed, draw + 91) : std::numeric_limits<double>::infinity();
    network.add(0.2 + 4 * random.uniform(seed, draw + 92), bound, uses);
  }
  return network;
}

std::vector<double> usage(const Network& network, const std::vector<double>& rates) {
  std::vector<double> used(network.capacities.size(), 0);
  for (std::size_t i = 0; i < network.rows.size(); ++i) {
    const SharingRow& row = network.rows[i];
    for (int u = row.first_use; u < row.first_use + row.use_count; ++u) {
      const ResourceUse& use = network.uses[static_cast<std::size_t>(u)];
      used[use.resource.index()] += use.coefficient * rates[i];
    }
  }
  return used;
}

/// By definition: full, and no row on it has a larger normalised rate.
bool is_bottleneck(const Network& network, const std::vector<double>& rates, const std::vector<double>& used,
                   ResourceId resource, std::size_t row) {
  constexpr double kTolerance = 1e-9;
  if (used[resource.index()] < network.capacities[resource.index()] * (1 - kTolerance)) return false;
  const double own = rates[row] / network.rows[row].weight;
  for (std::size_t i = 0; i < network.rows.size(); ++i) {
    const SharingRow& other = network.rows[i];
    for (int u = other.first_use; u < other.first_use + other.use_count; ++u) {
      const bool shared = network.uses[static_cast<std::size_t>(u)].resource == resource;
      if (shared && rates[i] / other.weight > own * (1 + kTolerance)) return false;
    }
  }
  return true;
}

TEST(MaxMinRates, NoResourceIsOverItsCapacityAndEveryRowHasABottleneck) {
  const CounterRandom random(7, 0);
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const Network network = random_network(random, seed);
    const std::vector<double> rates = network.rates();
    const std::vector<double> used = usage(network, rates);
    for (std::size_t r = 0; r < used.size(); ++r) {
      EXPECT_LE(used[r], network.capacities[r] * (1 + 1e-12)) << "seed " << seed << " resource " << r;
    }
    for (std::size_t i = 0; i < rates.size(); ++i) {
      const SharingRow& row = network.rows[i];
      ASSERT_LE(rates[i], row.bound);
      bool limited = rates[i] == row.bound;
      for (int u = row.first_use; u < row.first_use + row.use_count && !limited; ++u) {
        limited = is_bottleneck(network, rates, used, network.uses[static_cast<std::size_t>(u)].resource, i);
      }
      EXPECT_TRUE(limited) << "seed " << seed << " row " << i << " rate " << rates[i];
    }
  }
}

TEST(MaxMinRates, OrderOfRowsDoesNotMatter) {
  const CounterRandom random(8, 0);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Network network = random_network(random, seed);
    Network reversed = network;
    std::reverse(reversed.rows.begin(), reversed.rows.end());
    const std::vector<double> rates = network.rates();
    std::vector<double> other = reversed.rates();
    std::reverse(other.begin(), other.end());
    for (std::size_t i = 0; i < rates.size(); ++i) {
      EXPECT_NEAR(rates[i], other[i], 1e-12 * std::max(1.0, rates[i])) << "seed " << seed;
    }
  }
}

TEST(MaxMinRates, RowsThatAreAlikeGetTheSameBits) {
  Network network;
  constexpr int kPorts = 24;
  for (int i = 0; i < 2 * kPorts; ++i) network.capacities.push_back(0.1);
  for (int from = 0; from < kPorts; ++from) {
    for (int hop = 1; hop < 8; ++hop) network.flow({from, kPorts + (from + hop * hop) % kPorts});
  }
  const std::vector<double> rates = network.rates();
  for (const double rate : rates) EXPECT_EQ(rate, rates[0]);
}

TEST(MaxMinRates, SolverReusedGivesTheSameBits) {
  const CounterRandom random(9, 0);
  MaxMinSolver solver;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const Network network = random_network(random, seed);
    const std::span<const double> rates = solver.solve(network.problem());
    EXPECT_EQ(std::vector<double>(rates.begin(), rates.end()), network.rates());
  }
}

/// Rows whose weights span nine orders of magnitude: taking the heavy one away must leave the light ones exact.
TEST(MaxMinRates, HugeAndTinyWeightsDoNotSpoilOneAnother) {
  Network network{{1e9}, {}, {}};
  network.add(1e9, 1, {{0, 1}});
  network.add(1, std::numeric_limits<double>::infinity(), {{0, 1}});
  network.add(3, std::numeric_limits<double>::infinity(), {{0, 1}});
  const std::vector<double> rates = network.rates();
  EXPECT_EQ(rates[0], 1);
  EXPECT_NEAR(rates[1] / ((1e9 - 1) / 4), 1, 1e-15);
  EXPECT_NEAR(rates[2] / ((1e9 - 1) * 3 / 4), 1, 1e-15);
}

}  // namespace
}  // namespace moecast
