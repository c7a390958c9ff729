#include "sim/collectives.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/fair_exchange.h"
#include "sim/fluid_pool.h"
#include "tests/hwprofiles/sample_cluster_testing.h"

namespace moecast {
namespace {

using testing::pcie_cluster;
using testing::rail_cluster;

std::vector<std::int32_t> gpus(std::int32_t count, std::int32_t stride = 1, std::int32_t first = 0) {
  std::vector<std::int32_t> result;
  for (std::int32_t i = 0; i < count; ++i) result.push_back(first + i * stride);
  return result;
}

/// Seconds of the bytes alone: without latencies.
double byte_time(const CollectiveCost& cost) {
  double total = 0;
  for (const CollectivePhase& phase : cost.phases) total += phase.bytes / phase.rate;
  return total;
}

double byte_time(const Cluster& cluster, Collective collective, Algorithm algorithm, double buffer,
                 const std::vector<std::int32_t>& members) {
  const Topology topology(cluster);
  CollectiveModel model(topology, {{collective, algorithm}});
  const CollectiveCost cost = model.cost(collective, Bytes(static_cast<std::int64_t>(buffer)), model.shape(members));
  EXPECT_EQ(cost.algorithm, algorithm);
  return byte_time(cost);
}

constexpr double kBuffer = 64e6;

TEST(Collectives, OnASwitch) {
  const Cluster node = rail_cluster(1);  // 100 GB/s ports
  const auto time = [&](Collective collective, Algorithm algorithm, std::int32_t n) {
    return byte_time(node, collective, algorithm, kBuffer, gpus(n));
  };
  for (const std::int32_t n : {2, 5, 8}) {
    const double others = (n - 1.0) / n;
    EXPECT_NEAR(time(Collective::AllToAll, Algorithm::Direct, n), kBuffer * others / 100e9, 1e-15);
    EXPECT_NEAR(time(Collective::AllGather, Algorithm::Ring, n), kBuffer * others / 100e9, 1e-15);
    EXPECT_NEAR(time(Collective::ReduceScatter, Algorithm::Ring, n), kBuffer * others / 100e9, 1e-15);
    EXPECT_NEAR(time(Collective::AllReduce, Algorithm::Ring, n), 2 * kBuffer * others / 100e9, 1e-15);
    EXPECT_NEAR(time(Collective::AllReduce, Algorithm::Tree, n), 2 * kBuffer / (0.92 * 100e9), 1e-15);
    EXPECT_NEAR(time(Collective::Broadcast, Algorithm::Ring, n), kBuffer / 100e9, 1e-15);
  }
  EXPECT_NEAR(byte_time(node, Collective::PointToPoint, Algorithm::Direct, kBuffer, {2, 7}), kBuffer / 100e9, 1e-15);
  EXPECT_NEAR(byte_time(node, Collective::PointToPoint, Algorithm::Direct, kBuffer, {7, 2}), kBuffer / 100e9, 1e-15);
}

TEST(Collectives, InTheSwitch) {
  Cluster node = rail_cluster(1);
  node.links.at("nvlink").multicast = true;
  // A rank sends its buffer and an eighth of the sum.
  EXPECT_NEAR(byte_time(node, Collective::AllReduce, Algorithm::Nvls, kBuffer, gpus(8)),
              kBuffer * 9 / 8 / (0.85 * 100e9), 1e-15);
}

TEST(Collectives, OnATreeOfSwitches) {
  const Cluster box = pcie_cluster(1);  // GPUs at 20 GB/s, uplinks of four GPUs at 16 GB/s
  // Four GPUs send 4/8 of their buffers to the other switch.
  EXPECT_NEAR(byte_time(box, Collective::AllToAll, Algorithm::Direct, kBuffer, gpus(8)), 4 * kBuffer / 2 / 16e9, 1e-15);
  EXPECT_NEAR(byte_time(box, Collective::AllToAll, Algorithm::Direct, kBuffer, gpus(4)), kBuffer * 0.75 / 20e9, 1e-15);
  // Two and two: two GPUs send half of their buffers, no more than a GPU's own port.
  EXPECT_NEAR(byte_time(box, Collective::AllToAll, Algorithm::Direct, kBuffer, gpus(4, 2)), kBuffer / 16e9, 1e-15);
  // A ring crosses between the switches once each way.
  EXPECT_NEAR(byte_time(box, Collective::AllReduce, Algorithm::Ring, kBuffer, gpus(8)), 2 * kBuffer * 7 / 8 / 16e9,
              1e-15);
  EXPECT_NEAR(byte_time(box, Collective::AllReduce, Algorithm::Ring, kBuffer, gpus(4)), 2 * kBuffer * 3 / 4 / 20e9,
              1e-15);
}

TEST(Collectives, AcrossNodesWithOneNic) {
  const Cluster boxes = pcie_cluster(2);  // 5 GB/s a node
  EXPECT_NEAR(byte_time(boxes, Collective::AllToAll, Algorithm::Direct, kBuffer, gpus(16)), 8 * kBuffer / 2 / 5e9,
              1e-12);
  EXPECT_NEAR(byte_time(boxes, Collective::AllReduce, Algorithm::Ring, kBuffer, gpus(16)), 2 * kBuffer * 15 / 16 / 5e9,
              1e-12);
  EXPECT_NEAR(byte_time(boxes, Collective::AllToAll, Algorithm::Hierarchical, kBuffer, gpus(16)),
              4 * kBuffer / 2 / 16e9 + 8 * kBuffer / 2 / 5e9, 1e-12);
}

TEST(Collectives, AcrossNodesOnRails) {
  const Cluster cluster = rail_cluster(8);  // NICs at 10 GB/s, leaves of four nodes, uplinks of 20 GB/s
  const std::vector<std::int32_t> pod = gpus(32);
  // One rank sends 24/32 beyond its node; 3 of 24 peers are on its rail, the others behind the spine, as are those of
  // the other three GPUs on its leaf.
  EXPECT_NEAR(byte_time(cluster, Collective::AllToAll, Algorithm::Direct, kBuffer, pod), 4 * kBuffer * 21 / 32 / 20e9,
              1e-12);
  EXPECT_NEAR(byte_time(cluster, Collective::AllToAll, Algorithm::RailOptimised, kBuffer, pod),
              kBuffer * 24 / 32 / 10e9, 1e-12);
  EXPECT_NEAR(byte_time(cluster, Collective::AllToAll, Algorithm::Hierarchical, kBuffer, pod),
              kBuffer * 7 / 8 / 100e9 + kBuffer * 3 / 4 / 10e9, 1e-12);
  // Eight rings leave the nodes by eight NICs: a NIC carries an eighth of what a rank sends.
  constexpr double kLong = 64e9;  // long enough for the protocol without flags
  EXPECT_NEAR(byte_time(cluster, Collective::AllReduce, Algorithm::Ring, kLong, pod),
              2 * kLong * 31 / 32 / std::min(100e9 * 8 / 7, 8 * 10e9), 1e-9);
  // One rank of each node: all of it through one NIC; between the pods one hop of four.
  EXPECT_NEAR(byte_time(cluster, Collective::AllReduce, Algorithm::Ring, kBuffer, gpus(8, 8)),
              2 * kBuffer * 7 / 8 / 10e9, 1e-12);
  EXPECT_NEAR(byte_time(cluster, Collective::PointToPoint, Algorithm::Direct, kBuffer, {0, 33}), kBuffer / 10e9, 1e-12);
}

TEST(Collectives, LatenciesFollowTheSteps) {
  const Cluster node = rail_cluster(1);
  const Topology topology(node);
  CollectiveModel model(topology, {{Collective::AllReduce, Algorithm::Ring}});
  for (const std::int32_t n : {2, 4, 8}) {
    const CollectiveCost small = model.cost(Collective::AllReduce, Bytes(8), model.shape(gpus(n)));
    ASSERT_EQ(small.protocol, Protocol::Ll);
    EXPECT_NEAR(seconds(small.phases[0].latency), (6.6 + 2 * (n - 1) * (0.6 + 0.1)) * 1e-6, 2e-9);
    const CollectiveCost large = model.cost(Collective::AllReduce, Bytes(1 << 30), model.shape(gpus(n)));
    ASSERT_EQ(large.protocol, Protocol::Simple);
    EXPECT_NEAR(seconds(large.phases[0].latency), (8.4 + 2 * (n - 1) * (3.4 + 0.1)) * 1e-6, 2e-9);
  }
  CollectiveModel tree(topology, {{Collective::AllReduce, Algorithm::Tree}});
  EXPECT_NEAR(seconds(tree.cost(Collective::AllReduce, Bytes(8), tree.shape(gpus(8))).phases[0].latency),
              (6.8 + 2 * 7 * (0.6 + 0.1)) * 1e-6, 2e-9);
}

TEST(Collectives, FastestAlgorithmIsTakenBySize) {
  const Topology topology(rail_cluster(64));
  CollectiveModel model(topology);
  const GroupShape shape = model.shape(gpus(512));
  EXPECT_EQ(model.cost(Collective::AllReduce, Bytes(1024), shape).algorithm, Algorithm::Tree);
  EXPECT_EQ(model.cost(Collective::AllReduce, Bytes(std::int64_t{1} << 32), shape).algorithm, Algorithm::Ring);
  for (const Collective collective : {Collective::AllReduce, Collective::AllGather, Collective::AllToAll}) {
    Duration before{};
    for (std::int64_t bytes = 64; bytes < std::int64_t{1} << 33; bytes *= 2) {  // never faster with more bytes
      const Duration time = model.cost(collective, Bytes(bytes), shape).time();
      EXPECT_GE(time, before) << bytes;
      before = time;
    }
  }
}

TEST(Collectives, AMeasuredTableHoldsWhereItWasMeasured) {
  Cluster cluster = rail_cluster(2);
  CollectiveTable& table = cluster.links.at("nvlink").measured[Collective::AllReduce];
  table.ranks = {8};
  table.curves = {{{{1024, Duration(20'000)}, {8e6, Duration(120'000)}}}};
  const Topology topology(cluster);
  CollectiveModel model(topology);
  const CollectiveCost inside = model.cost(Collective::AllReduce, Bytes(8'000'000), model.shape(gpus(8)));
  EXPECT_TRUE(inside.measured);
  EXPECT_NEAR(seconds(inside.time()), 120e-6, 2e-9);  // 140 GB/s through ports of 100: the load is scaled to fit
  EXPECT_LE(inside.phases[0].scale * inside.phases[0].rate, 100e9);
  EXPECT_FALSE(model.cost(Collective::AllReduce, Bytes(8'000'000), model.shape(gpus(16))).measured);
  EXPECT_FALSE(model.cost(Collective::AllGather, Bytes(8'000'000), model.shape(gpus(8))).measured);
}

/// Every message of an all-to-all a flow of its own; `shares[i]` of each buffer goes to member i.
double flow_by_flow(const Topology& topology, const std::vector<std::int32_t>& members, double buffer,
                    const std::vector<double>& shares) {
  FluidPool pool(topology.capacities());
  for (const std::int32_t a : members) {
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (a == members[i]) continue;
      std::vector<ResourceUse> uses;
      for (const std::int32_t resource : topology.path(a, members[i])) uses.push_back({ResourceId(resource), 1});
      pool.start({buffer * shares[i], 1, 1e15, uses});
    }
  }
  std::vector<FlowId> completed;
  pool.settle();
  while (const std::optional<Instant> next = pool.next_completion()) {
    pool.advance(*next, completed);
    pool.settle();
  }
  return seconds(pool.now() - Instant{});
}

TEST(Collectives, OneVariableAgreesWithFlowByFlow) {
  struct Case {
    Cluster cluster;
    std::vector<std::int32_t> members;
  };
  const std::vector<Case> cases = {{rail_cluster(1), gpus(8)},     {pcie_cluster(1), gpus(8)},
                                   {pcie_cluster(2), gpus(16)},    {pcie_cluster(4), gpus(8, 4)},
                                   {rail_cluster(4), gpus(32)},    {rail_cluster(8), gpus(64)},
                                   {rail_cluster(8), gpus(16, 4)}, {rail_cluster(8), gpus(8, 8, 3)}};
  for (const Case& each : cases) {
    const Topology topology(each.cluster);
    const double together = byte_time(each.cluster, Collective::AllToAll, Algorithm::Direct, kBuffer, each.members);
    const std::vector<double> equal(each.members.size(), 1.0 / static_cast<double>(each.members.size()));
    EXPECT_NEAR(flow_by_flow(topology, each.members, kBuffer, equal) / together, 1, 0.01);
  }
}

/// Seconds of the busiest resource.
double busiest(const Topology& topology, const GroupTraffic& traffic, double buffer) {
  double longest = 0;
  for (const ResourceUse& use : traffic.uses) {
    longest = std::max(longest, buffer * use.coefficient / topology.capacities()[use.resource.index()]);
  }
  return longest;
}

TEST(Collectives, UnevenByRankAgreesWithFlowByFlow) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const CounterRandom random(seed, 0);
    const std::vector<Cluster> clusters = {rail_cluster(4), pcie_cluster(3), rail_cluster(8), rail_cluster(1)};
    const Cluster& cluster = clusters[seed % clusters.size()];
    const Topology topology(cluster);
    const std::vector<std::int32_t> members = gpus(cluster.gpu_count());
    MemberWeights weights;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const double spread = seed % 8 < 4 ? (i == 5 ? 10 : 0.1) : 1;  // one hot expert, or many
      weights.received.push_back(1 + std::floor(static_cast<double>(random.below(30, i, 0)) * spread));
      weights.sent.push_back(1);
    }
    const double all = std::accumulate(weights.received.begin(), weights.received.end(), 0.0);
    std::vector<double> shares;
    for (const double rows : weights.received) shares.push_back(rows / all);
    TrafficBuilder builder(topology);
    GroupTraffic traffic;
    builder.build_uneven(Pattern::Direct, members, weights, traffic);
    const auto n = static_cast<double>(members.size());
    const double bound = busiest(topology, traffic, kBuffer * (n - 1) / n);
    const double flows = flow_by_flow(topology, members, kBuffer, shares);
    EXPECT_GE(flows / bound, 1 - 1e-6) << "seed " << seed;
    FairExchange fair(topology);
    EXPECT_NEAR(bound * fair.slowdown(members, weights.received) / flows, 1, 0.01)
        << "seed " << seed << ", flow by flow / busiest link: " << flows / bound;
  }
}

TEST(Collectives, UnevenWithEqualWeightsIsEven) {
  for (const Cluster& cluster : {rail_cluster(9), pcie_cluster(9)}) {
    const Topology topology(cluster);
    TrafficBuilder builder(topology);
    for (const std::vector<std::int32_t>& members : {gpus(72), gpus(24, 3), gpus(16)}) {
      const MemberWeights equal = {std::vector<double>(members.size(), 3), std::vector<double>(members.size(), 7)};
      for (const Pattern pattern :
           {Pattern::Direct, Pattern::NodeDirect, Pattern::LaneDirect, Pattern::RailOptimised}) {
        if (members.size() == 24 && pattern != Pattern::Direct) continue;  // nodes of unlike places
        GroupTraffic even, uneven;
        builder.build(pattern, members, even);
        builder.build_uneven(pattern, members, equal, uneven);
        ASSERT_EQ(even.uses.size(), uneven.uses.size());
        std::vector<double> loads(topology.capacities().size());
        for (const ResourceUse& use : even.uses) loads[use.resource.index()] = use.coefficient;
        for (const ResourceUse& use : uneven.uses) {
          EXPECT_NEAR(use.coefficient / loads[use.resource.index()], 1, 1e-9) << topology.name(use.resource.value());
        }
      }
    }
  }
}

/// What members receive and send of an uneven exchange, whatever levels it takes.
TEST(Collectives, UnevenExchangesConserveBytes) {
  const Topology topology(rail_cluster(4));
  const std::vector<std::int32_t> members = gpus(32);
  const CounterRandom random(3, 0);
  MemberWeights weights{std::vector<double>(32, 1), {}};
  for (std::uint64_t i = 0; i < 32; ++i) weights.received.push_back(static_cast<double>(random.below(100, i, 0)));
  const double all = std::accumulate(weights.received.begin(), weights.received.end(), 0.0);
  TrafficBuilder builder(topology);
  for (const Pattern pattern : {Pattern::Direct, Pattern::RailOptimised}) {
    GroupTraffic traffic;
    builder.build_uneven(pattern, members, weights, traffic);
    std::vector<double> loads(topology.capacities().size());
    for (const ResourceUse& use : traffic.uses) loads[use.resource.index()] = use.coefficient;
    const auto leaf = std::size_t{3};  // nvswitch, pcie_switch, host, leaf, spine
    for (std::int64_t node = 0; node < 4; ++node) {
      double received = 0, expected = 0;
      for (std::int64_t i = 8 * node; i < 8 * node + 8; ++i) {
        received += loads[static_cast<std::size_t>(topology.downlink(leaf, i))];
        expected += weights.received[static_cast<std::size_t>(i)] / all * 24 * 32 / 31;  // from 24 members elsewhere
      }
      EXPECT_NEAR(received, expected, 1e-9) << "node " << node;
    }
  }
}

/// The loads of a direct pattern, pair by pair.
TEST(GroupTraffic, CountsWhatPathsCross) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const CounterRandom random(seed, 0);
    Cluster cluster = seed % 2 == 0 ? rail_cluster(9) : pcie_cluster(5);
    cluster.parts[1].capacity = BytesPerSecond(1e12);
    if (seed % 4 == 0) std::swap(cluster.parts[0], cluster.parts[2 - seed % 2]);  // another order of preference
    if (!problems_of(cluster).empty()) continue;
    const Topology topology(cluster);
    std::vector<std::int32_t> members;
    for (std::int32_t gpu = 0; gpu < topology.gpu_count(); ++gpu) {
      if (random.below(3, static_cast<std::uint64_t>(gpu), 0) == 0) members.push_back(gpu);
    }
    std::vector<double> loads(topology.capacities().size());
    for (const std::int32_t a : members) {
      for (const std::int32_t b : members) {
        for (const std::int32_t resource : topology.path(a, b)) {
          loads[static_cast<std::size_t>(resource)] += 1.0 / static_cast<double>(members.size() - 1);
        }
      }
    }
    GroupTraffic traffic;
    TrafficBuilder builder(topology);
    builder.build(Pattern::Direct, members, traffic);
    std::vector<double> built(loads.size());
    for (const ResourceUse& use : traffic.uses) built[use.resource.index()] = use.coefficient;
    for (std::size_t r = 0; r < loads.size(); ++r) {
      ASSERT_NEAR(built[r], loads[r], 1e-9) << "seed " << seed << ", " << topology.name(static_cast<std::int32_t>(r));
    }
  }
}

}  // namespace
}  // namespace moecast
