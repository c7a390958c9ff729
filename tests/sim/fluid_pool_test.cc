#include "sim/fluid_pool.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast {
namespace {

constexpr double kGiga = 1e9;  // one unit per nanosecond

Instant at_ns(std::int64_t ns) { return Instant(Duration(ns)); }

std::vector<ResourceUse> on(std::vector<int> resources) {
  std::vector<ResourceUse> uses;
  for (const int resource : resources) uses.push_back({ResourceId(resource), 1});
  return uses;
}

FlowId start(FluidPool& pool, double size, const std::vector<ResourceUse>& uses, double weight = 1) {
  Flow flow;
  flow.size = size;
  flow.weight = weight;
  flow.uses = uses;
  return pool.start(flow);
}

using Ends = std::map<FlowId, std::int64_t>;  // ns

/// Runs until nothing ends any more.
Ends run(FluidPool& pool) {
  Ends ends;
  for (pool.settle(); pool.next_completion(); pool.settle()) {
    std::vector<FlowId> completed;
    pool.advance(*pool.next_completion(), completed);
    for (const FlowId flow : completed) ends[flow] = pool.now().time_since_epoch().count();
  }
  return ends;
}

TEST(FluidPool, StartsAgainAtTimeZero) {
  FluidPool pool({1e9});
  std::vector<FlowId> completed;
  for (int round = 0; round < 3; ++round) {
    const std::vector<ResourceUse> uses = {{ResourceId(0), 1}};
    pool.start({100, 1, 1e12, uses});
    pool.start({300, 1, 1e12, uses});
    for (const std::int64_t end : {200, 400}) {
      pool.settle();
      ASSERT_EQ(pool.next_completion(), at_ns(end));
      pool.advance(at_ns(end), completed);
    }
    pool.restart();
    EXPECT_EQ(pool.now(), Instant{});
    EXPECT_EQ(pool.next_completion(), std::nullopt);
  }
  EXPECT_EQ(completed.size(), 6U);
}

TEST(FluidPool, LoneFlowTakesItsSizeOverTheRateRoundedUp) {
  FluidPool pool({2 * kGiga});
  const FlowId flow = start(pool, 1001, on({0}));
  EXPECT_EQ(run(pool), (Ends{{flow, 501}}));
  EXPECT_EQ(pool.flow_count(), 0u);
}

TEST(FluidPool, FlowThatIsLeftAloneSpeedsUp) {
  FluidPool pool({kGiga});
  const FlowId small = start(pool, 100, on({0}));
  const FlowId large = start(pool, 300, on({0}));
  EXPECT_EQ(run(pool), (Ends{{small, 200}, {large, 400}}));
}

TEST(FluidPool, LateFlowSlowsTheFirst) {
  FluidPool pool({kGiga});
  std::vector<FlowId> completed;
  const FlowId first = start(pool, 100, on({0}));
  pool.settle();
  pool.advance(at_ns(50), completed);
  EXPECT_TRUE(completed.empty());
  EXPECT_DOUBLE_EQ(pool.remaining(first), 50);
  const FlowId second = start(pool, 25, on({0}));
  EXPECT_EQ(run(pool), (Ends{{second, 100}, {first, 125}}));
}

TEST(FluidPool, BoundChangesTheRateFromNowOn) {
  FluidPool pool({kGiga});
  std::vector<FlowId> completed;
  const FlowId flow = start(pool, 100, on({0}));
  pool.settle();
  pool.advance(at_ns(60), completed);
  pool.set_bound(flow, kGiga / 2);
  pool.settle();
  EXPECT_EQ(pool.rate(flow), kGiga / 2);
  EXPECT_EQ(run(pool), (Ends{{flow, 140}}));
}

TEST(FluidPool, CapacityMayFallToNothingAndComeBack) {
  FluidPool pool({kGiga});
  std::vector<FlowId> completed;
  const FlowId flow = start(pool, 100, on({0}));
  pool.settle();
  pool.advance(at_ns(10), completed);
  pool.set_capacity(ResourceId(0), 0);
  pool.settle();
  EXPECT_EQ(pool.next_completion(), std::nullopt);
  pool.advance(at_ns(1000), completed);
  pool.set_capacity(ResourceId(0), kGiga);
  EXPECT_EQ(run(pool), (Ends{{flow, 1090}}));
}

TEST(FluidPool, StoppedFlowNeverEndsAndFreesItsShare) {
  FluidPool pool({kGiga});
  const FlowId stopped = start(pool, 100, on({0}));
  const FlowId other = start(pool, 100, on({0}));
  pool.settle();
  std::vector<FlowId> completed;
  pool.advance(at_ns(20), completed);
  pool.stop(stopped);
  EXPECT_EQ(run(pool), (Ends{{other, 110}}));
}

TEST(FluidPool, EmptyFlowEndsAtOnce) {
  FluidPool pool({0});
  const FlowId flow = start(pool, 0, on({0}));
  EXPECT_EQ(run(pool), (Ends{{flow, 0}}));
}

TEST(FluidPool, FlowsThatEndTogetherAreReportedInOrder) {
  FluidPool pool({kGiga, kGiga});
  std::vector<FlowId> flows;
  for (int i = 0; i < 6; ++i) flows.push_back(start(pool, 90, on({i % 2})));
  pool.settle();
  std::vector<FlowId> completed;
  pool.advance(at_ns(269), completed);
  EXPECT_TRUE(completed.empty());
  ASSERT_EQ(pool.next_completion(), at_ns(270));
  pool.advance(at_ns(270), completed);
  EXPECT_EQ(completed, flows);
}

TEST(FluidPool, SolvesOnlyTheComponentThatChanged) {
  FluidPool pool({kGiga, kGiga, kGiga});
  start(pool, 1000, on({0}));
  start(pool, 1000, on({0}));
  start(pool, 1000, on({1, 2}));
  pool.settle();
  EXPECT_EQ(pool.solved_row_count(), 3);
  const FlowId third = start(pool, 10, on({2}));
  pool.settle();
  EXPECT_EQ(pool.solved_row_count(), 5) << "the flows on resource 0 are not connected to resource 2";
  pool.stop(third);
  pool.settle();
  EXPECT_EQ(pool.solved_row_count(), 6);
  pool.settle();
  EXPECT_EQ(pool.solved_row_count(), 6) << "nothing changed";
}

/// A bridge over both links joins two components; when it ends they fall apart and each must still end.
TEST(FluidPool, ComponentsThatFallApartBothEnd) {
  FluidPool pool({kGiga, kGiga});
  const FlowId left = start(pool, 100, on({0}));
  const FlowId right = start(pool, 200, on({1}));
  const FlowId bridge = start(pool, 10, on({0, 1}));
  EXPECT_EQ(run(pool), (Ends{{bridge, 20}, {left, 110}, {right, 210}}));
}

/// A link that is never idle cannot be done before total / capacity, and each end may waste less than one nanosecond.
TEST(FluidPool, RoundingNeverBeatsTheLinkAndDoesNotAddUp) {
  constexpr double kCapacity = 3.7e9;
  FluidPool pool({kCapacity});
  double total = 0;
  constexpr int kFlows = 200;
  for (int i = 0; i < kFlows; ++i) {
    const double size = 1000 + 7.3 * i;
    total += size;
    start(pool, size, on({0}));
  }
  const Ends ends = run(pool);
  std::int64_t last = 0;
  for (const auto& [flow, end] : ends) last = std::max(last, end);
  const double ideal = total / kCapacity * 1e9;
  EXPECT_GE(static_cast<double>(last), ideal);
  EXPECT_LE(static_cast<double>(last), ideal + kFlows);
}

struct Script {  // a random network with flows that start at random times
  std::vector<double> capacities;
  struct Start {
    std::int64_t time;
    double size, weight, bound;
    std::vector<ResourceUse> uses;
  };
  std::vector<Start> starts;  // ascending in time
};

Script random_script(const CounterRandom& random, std::uint64_t seed) {
  Script script;
  const std::int64_t resources = 2 + random.below(8, seed, 0);
  for (std::int64_t r = 0; r < resources; ++r) {
    script.capacities.push_back(kGiga * (1 + 9 * random.uniform(seed, static_cast<std::uint64_t>(10 + r))));
  }
  const std::int64_t flows = 1 + random.below(40, seed, 1);
  std::int64_t time = 0;
  for (std::int64_t f = 0; f < flows; ++f) {
    const std::uint64_t draw = 100 + 50 * static_cast<std::uint64_t>(f);
    time += random.below(400'000, seed, draw);
    Script::Start start{time,
                        2000 * random.uniform(seed, draw + 1),
                        0.5 + random.uniform(seed, draw + 2),
                        5 * kGiga * random.uniform(seed, draw + 3),
                        {}};
    for (std::int64_t r = 0; r < resources; ++r) {
      if (random.below(4, seed, draw + 10 + static_cast<std::uint64_t>(r)) != 0) continue;
      start.uses.push_back({ResourceId(static_cast<std::int32_t>(r)),
                            0.5 + random.uniform(seed, draw + 30 + static_cast<std::uint64_t>(r))});
    }
    script.starts.push_back(start);
  }
  return script;
}

/// Plays a script on the pool and calls `watch` once for every interval with constant rates.
template <typename Watch>
std::vector<std::int64_t> play(const Script& script, Watch watch) {
  FluidPool pool(script.capacities);
  std::vector<std::int64_t> ends(script.starts.size(), 0);
  std::map<FlowId, std::size_t> active;
  std::size_t next_start = 0;
  while (next_start < script.starts.size() || !active.empty()) {
    pool.settle();
    Instant to = pool.next_completion().value_or(Instant::max());
    if (next_start < script.starts.size()) to = std::min(to, at_ns(script.starts[next_start].time));
    std::map<std::size_t, double> rates;
    for (const auto& [flow, index] : active) rates[index] = pool.rate(flow);
    watch(rates, to - pool.now());
    std::vector<FlowId> completed;
    pool.advance(to, completed);
    for (const FlowId flow : completed) {
      ends[active.at(flow)] = to.time_since_epoch().count();
      active.erase(flow);
    }
    while (next_start < script.starts.size() && at_ns(script.starts[next_start].time) == to) {
      const Script::Start& s = script.starts[next_start];
      active[pool.start({s.size, s.weight, s.bound, s.uses})] = next_start;
      ++next_start;
    }
  }
  return ends;
}

TEST(FluidPool, ConservesWorkAndKeepsCapacitiesOnRandomNetworks) {
  const CounterRandom random(3, 0);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Script script = random_script(random, seed);
    std::vector<double> moved(script.starts.size(), 0);
    std::vector<double> last_rate(script.starts.size(), 0);
    play(script, [&](const std::map<std::size_t, double>& rates, Duration duration) {
      std::vector<double> used(script.capacities.size(), 0);
      for (const auto& [flow, rate] : rates) {
        moved[flow] += rate * seconds(duration);
        last_rate[flow] = rate;
        EXPECT_LE(rate, script.starts[flow].bound);
        for (const ResourceUse& use : script.starts[flow].uses) used[use.resource.index()] += use.coefficient * rate;
      }
      for (std::size_t r = 0; r < used.size(); ++r) EXPECT_LE(used[r], script.capacities[r] * (1 + 1e-12));
    });
    for (std::size_t f = 0; f < moved.size(); ++f) {  // all of it, and less than one nanosecond's worth beyond
      const double size = script.starts[f].size;
      EXPECT_GE(moved[f], size * (1 - 1e-9)) << "seed " << seed << " flow " << f;
      EXPECT_LE(moved[f], size * (1 + 1e-9) + last_rate[f] * 1e-9) << "seed " << seed << " flow " << f;
    }
  }
}

/// The plain method: everything is solved again at every change, in real time without rounding.
std::vector<double> reference_ends(const Script& script) {
  std::vector<double> ends(script.starts.size(), 0), left(script.starts.size(), 0);
  std::vector<std::size_t> active;
  std::size_t next_start = 0;
  double now = 0;
  while (next_start < script.starts.size() || !active.empty()) {
    std::vector<SharingRow> rows;
    std::vector<ResourceUse> uses;
    for (const std::size_t flow : active) {
      const Script::Start& s = script.starts[flow];
      rows.push_back(
          {s.weight, s.bound, static_cast<std::int32_t>(uses.size()), static_cast<std::int32_t>(s.uses.size())});
      uses.insert(uses.end(), s.uses.begin(), s.uses.end());
    }
    const std::vector<double> rates = max_min_rates({script.capacities, rows, uses});
    double step = next_start < script.starts.size() ? static_cast<double>(script.starts[next_start].time) - now : 1e300;
    for (std::size_t i = 0; i < active.size(); ++i) step = std::min(step, left[active[i]] / rates[i] * 1e9);
    now += step;
    for (std::size_t i = 0; i < active.size(); ++i) left[active[i]] -= rates[i] * step * 1e-9;
    std::erase_if(active, [&](std::size_t flow) {
      if (left[flow] > 1e-6) return false;
      ends[flow] = now;
      return true;
    });
    while (next_start < script.starts.size() && static_cast<double>(script.starts[next_start].time) <= now) {
      left[next_start] = script.starts[next_start].size;
      active.push_back(next_start++);
    }
  }
  return ends;
}

TEST(FluidPool, AgreesWithSolvingEverythingAtEveryChange) {
  const CounterRandom random(4, 0);
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Script script = random_script(random, seed);
    const std::vector<double> expected = reference_ends(script);
    const std::vector<std::int64_t> ends = play(script, [](const auto&, Duration) {});
    for (std::size_t f = 0; f < ends.size(); ++f) {  // each of the up to 40 ends before may have cost a nanosecond
      EXPECT_NEAR(static_cast<double>(ends[f]), expected[f], 100) << "seed " << seed << " flow " << f;
    }
  }
}

TEST(FluidPool, SameScriptGivesTheSameTimes) {
  const CounterRandom random(5, 0);
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Script script = random_script(random, seed);
    const auto nothing = [](const auto&, Duration) {};
    EXPECT_EQ(play(script, nothing), play(script, nothing));
  }
}

}  // namespace
}  // namespace moecast
