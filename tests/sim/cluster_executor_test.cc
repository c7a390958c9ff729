#include <algorithm>
#include <tuple>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/binding_links.h"
#include "sim/bounds.h"
#include "sim/step_executor.h"
#include "tests/hwprofiles/sample_cluster_testing.h"
#include "tests/hwprofiles/sample_profile_testing.h"

namespace moecast {
namespace {

using testing::pcie_cluster;
using testing::rail_cluster;

/// Stage plans by hand: one after another, each on its lane.
class Stages {
 public:
  explicit Stages(std::size_t count) : plans_(count), times_(count) {}

  OpId compute(std::size_t stage, std::int64_t ns, std::vector<OpId> after = {}) {
    Operator& op = add(stage, OpKind::Mlp, Lane::Compute, std::move(after));
    times_[stage].back() = Duration(ns);
    return op.id;
  }
  OpId collective(std::size_t stage, Collective collective, Group group, std::int64_t bytes,
                  std::vector<OpId> after = {}) {
    Operator& op =
        add(stage, OpKind::GradientReduce, group == Group::Tensor ? Lane::Tensor : Lane::Comm, std::move(after));
    op.communication = Communication{collective, group, Bytes(bytes)};
    return op.id;
  }
  OpId message(std::size_t stage, std::int32_t peer, bool sends, std::int64_t bytes, std::vector<OpId> after = {}) {
    Operator& op =
        add(stage, sends ? OpKind::Send : OpKind::Receive, sends ? Lane::Send : Lane::Receive, std::move(after));
    op.communication = Communication{Collective::PointToPoint, Group::Pipeline, Bytes(bytes), peer};
    return op.id;
  }

  [[nodiscard]] PlanCosts costs(const ParallelLayout& layout, const HardwareProfile& hardware) const {
    PlanCosts result = plan_costs(plans_, layout, hardware);
    std::size_t next = 0;
    for (std::size_t stage = 0; stage < plans_.size(); ++stage) {
      for (std::size_t i = 0; i < plans_[stage].operators.size(); ++i, ++next) {
        if (!plans_[stage].operators[i].communication) result.operators[next].fixed = times_[stage][i];
      }
    }
    return result;
  }
  [[nodiscard]] const std::vector<StepPlan>& plans() const { return plans_; }

 private:
  Operator& add(std::size_t stage, OpKind kind, Lane lane, std::vector<OpId> after) {
    Operator op;
    op.id = OpId(static_cast<std::int32_t>(plans_[stage].operators.size()));
    op.kind = kind;
    op.lane = lane;
    op.dependencies = std::move(after);
    plans_[stage].operators.push_back(op);
    times_[stage].emplace_back();
    return plans_[stage].operators.back();
  }
  std::vector<StepPlan> plans_;
  std::vector<std::vector<Duration>> times_;
};

HardwareProfile on(const Cluster& cluster) {
  HardwareProfile hardware = testing::sample_profile();
  hardware.interference = {1.25, 1.5};
  hardware.cluster = cluster;
  return hardware;
}

struct Outcome {
  std::vector<Span> spans;
  std::int32_t classes = 0;
};

Outcome run(const Stages& stages, const ParallelLayout& layout, PlanCosts costs, ExecutionOptions options) {
  Outcome result;
  StepExecutor executor(stages.plans(), layout, std::move(costs), std::move(options));
  executor.run(result.spans);
  result.classes = executor.class_count();
  return result;
}

/// Compute and collectives over every group, on every stage the same number over the world.
Stages random_stages(std::uint64_t seed, std::size_t stage_count) {
  const CounterRandom random(seed, 1);
  Stages stages(stage_count);
  std::uint64_t draws = 0;
  const auto draw = [&](std::int64_t bound) { return random.below(bound, draws++, 0); };
  for (std::size_t stage = 0; stage < stage_count; ++stage) {
    OpId last = stages.compute(stage, 1000 + 5000 * draw(5));
    for (int i = 0; i < 12; ++i) {
      const OpId beside = stages.compute(stage, 3000 + 20'000 * draw(10));
      const std::int64_t bytes = 1000 << draw(12);
      const Group group = std::array{Group::Expert, Group::Data, Group::ExpertData, Group::Tensor}.at(
          static_cast<std::size_t>(draw(4)));
      const Collective collective = std::array{Collective::AllToAll, Collective::AllReduce, Collective::AllGather}.at(
          static_cast<std::size_t>(draw(3)));
      last = stages.collective(stage, collective, group, bytes, {last, draw(2) == 0 ? last : beside});
      if (draw(3) == 0 && stage + 1 < stage_count) {
        (void)stages.message(stage, static_cast<std::int32_t>(stage) + 1, true, bytes, {last});
        last =
            stages.compute(stage + 1, 500, {stages.message(stage + 1, static_cast<std::int32_t>(stage), false, bytes)});
        last = OpId(static_cast<std::int32_t>(stages.plans()[stage].operators.size()) - 1);
      }
    }
    (void)stages.collective(stage, Collective::AllReduce, Group::World, 4, {last});
  }
  return stages;
}

void expect_same(const Outcome& a, const Outcome& b, const std::string& what) {
  ASSERT_EQ(a.spans.size(), b.spans.size()) << what;
  for (std::size_t i = 0; i < a.spans.size(); ++i) {
    ASSERT_EQ(std::tuple(a.spans[i].step, a.spans[i].rank, a.spans[i].op),
              std::tuple(b.spans[i].step, b.spans[i].rank, b.spans[i].op));
    // Loads of a class are summed in another order: the last bit of a rate, a nanosecond of its end.
    ASSERT_NEAR(static_cast<double>((a.spans[i].start - b.spans[i].start).count()), 0, 40) << what << ", span " << i;
    ASSERT_NEAR(static_cast<double>((a.spans[i].end - b.spans[i].end).count()), 0, 40) << what << ", span " << i;
  }
}

TEST(ClusterExecutor, FoldedEqualsUnfoldedOnRandomClusters) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const CounterRandom random(seed, 2);
    const auto pick = [&](std::int64_t bound, std::uint64_t what) { return random.below(bound, what, 0); };
    const Cluster cluster =
        pick(2, 0) == 0 ? rail_cluster(std::array<std::int64_t, 3>{1, 3, 8}.at(static_cast<std::size_t>(pick(3, 1))))
                        : pcie_cluster(1 + pick(4, 1));
    const std::int64_t pipeline = pick(2, 2) + 1;
    const std::int64_t stage_ranks = cluster.gpu_count() / pipeline;
    ParallelLayout layout;
    layout.pipeline = pipeline;
    layout.tensor = stage_ranks % 2 == 0 ? 1 + pick(2, 3) : 1;
    layout.data = stage_ranks / layout.tensor;
    for (const std::int64_t degree : {16, 8, 4, 2, 1}) {
      layout.expert = degree;
      if (stage_ranks % degree == 0 && pick(2, 4) == 0) break;
    }
    if (!layout.check().ok()) continue;
    const Stages stages = random_stages(seed, static_cast<std::size_t>(pipeline));
    PlanCosts costs = stages.costs(layout, on(cluster));
    ExecutionOptions options;
    options.steps = 2;
    if (seed % 3 == 1) {
      options.slowdown.assign(static_cast<std::size_t>(layout.world_size()), 1.0);
      options.slowdown[static_cast<std::size_t>(pick(layout.world_size(), 5))] = 1.7;
    }
    if (seed % 3 == 2) costs.degraded = {{static_cast<std::int32_t>(pick(16, 6)), 0.3}};
    options.fold = true;
    const Outcome folded = run(stages, layout, costs, options);
    options.fold = false;
    const Outcome unfolded = run(stages, layout, costs, options);
    EXPECT_EQ(unfolded.classes, layout.world_size());
    EXPECT_LE(folded.classes, unfolded.classes);
    expect_same(folded, unfolded, fmt::format("seed {}", seed));
  }
}

TEST(ClusterExecutor, OneClassForEachStageOfARegularCluster) {
  ParallelLayout layout;
  layout.data = 32;
  layout.expert = 8;
  layout.pipeline = 2;
  const Stages stages = random_stages(3, 2);
  EXPECT_EQ(run(stages, layout, stages.costs(layout, on(rail_cluster(8))), {}).classes, 2);
}

TEST(ClusterExecutor, AStragglerUnfoldsOnlyWhatItTouches) {
  Stages stages(1);
  const OpId first = stages.compute(0, 1000);
  (void)stages.collective(0, Collective::AllToAll, Group::Expert, 1 << 20, {first});
  ParallelLayout layout;
  layout.data = 64;
  layout.expert = 8;
  ExecutionOptions options;
  options.slowdown.assign(64, 1.0);
  options.slowdown[10] = 2;
  // The straggler, the seven that wait for it, and the other nodes.
  EXPECT_EQ(run(stages, layout, stages.costs(layout, on(rail_cluster(8))), options).classes, 3);
}

TEST(ClusterExecutor, ADegradedLinkSlowsItsGroupsOnly) {
  Stages stages(1);
  (void)stages.collective(0, Collective::AllToAll, Group::Expert, 8'000'000);
  ParallelLayout layout;
  layout.data = 16;
  layout.expert = 8;
  PlanCosts costs = stages.costs(layout, on(rail_cluster(2)));
  const Outcome whole = run(stages, layout, costs, {});
  costs.degraded = {{costs.topology->uplink(0, 3), 0.5}};
  const Outcome degraded = run(stages, layout, costs, {});
  const Duration latency = Duration(12'100);
  EXPECT_NEAR(static_cast<double>((degraded.spans[0].duration() - latency).count()),
              2 * static_cast<double>((whole.spans[0].duration() - latency).count()), 4);
  EXPECT_EQ(degraded.spans[8].duration(), whole.spans[8].duration());
}

TEST(ClusterExecutor, SendsAreBufferedAndReceivesEndWhenTheBytesArrive) {
  Stages stages(2);
  const OpId forward = stages.compute(0, 1000);
  (void)stages.message(0, 1, true, 1'000'000, {forward});
  stages.compute(0, 500);  // goes on at once
  stages.compute(1, 50'000);
  const OpId came = stages.message(1, 0, false, 1'000'000);
  stages.compute(1, 100, {came});
  ParallelLayout layout;
  layout.data = 8;
  layout.pipeline = 2;
  PlanCosts costs = stages.costs(layout, on(rail_cluster(2)));
  costs.interference = {};
  const std::vector<Span> spans = run(stages, layout, costs, {}).spans;
  // 8 us of software, 2 us of NIC, 100 us of bytes from 1 us on.
  const auto at = [](std::int64_t ns) { return Instant(Duration(ns)); };
  EXPECT_EQ(spans[1].end, at(1500));  // stage 0: compute, compute, send
  EXPECT_EQ(spans[2].end, at(111'000));
  const std::size_t second = 8 * 3;  // stage 1: compute, compute, receive
  EXPECT_EQ(spans[second + 2].start, at(0));
  EXPECT_EQ(spans[second + 2].end, at(111'000));
  EXPECT_EQ(spans[second + 1].start, at(111'000));
}

TEST(ClusterExecutor, MessagesMatchInTheirOrderOverSteps) {
  Stages stages(2);
  for (int i = 0; i < 3; ++i) {
    const OpId ready = stages.compute(0, 100);
    (void)stages.message(0, 1, true, 1000 * (3 - i), {ready});
    const OpId came = stages.message(1, 0, false, 1000 * (3 - i));
    stages.compute(1, 30'000, {came});
  }
  ParallelLayout layout;
  layout.pipeline = 2;
  ExecutionOptions options;
  options.steps = 4;
  const std::vector<Span> spans = run(stages, layout, stages.costs(layout, on(rail_cluster(1))), options).spans;
  ASSERT_EQ(spans.size(), 48U);
  Instant last{};
  for (const Span& span : spans) {
    EXPECT_LE(span.start, span.end);
    last = std::max(last, span.end);
  }
  EXPECT_GE(last, Instant(Duration(12 * 30'000)));
}

TEST(BindingLinks, AnAmpleFabricIsNone) {
  Cluster cluster = rail_cluster(8);  // parts: nvswitch, pcie_switch, host, leaf (10 GB/s, of 4 nodes), spine
  const auto binds = [&](std::size_t part) {
    const Topology topology(cluster);
    return static_cast<bool>(binding_links(topology, {})[static_cast<std::size_t>(topology.uplink(part, 0))]);
  };
  EXPECT_TRUE(binds(0));
  EXPECT_TRUE(binds(3));
  EXPECT_TRUE(binds(4));       // two links of 10 GB/s for four ports of 10 GB/s
  cluster.parts[4].links = 4;  // as many as ports
  EXPECT_FALSE(binds(4));
  EXPECT_TRUE(binds(3));
  const Topology topology(cluster);
  const std::int32_t slow = topology.uplink(4, 0);
  EXPECT_TRUE(binding_links(topology,
                            std::vector<std::pair<std::int32_t, double>>{{slow, 0.5}})[static_cast<std::size_t>(slow)]);
  // A port behind a slot of its own.
  cluster.parts.insert(cluster.parts.begin() + 3, cluster.parts[3]);
  cluster.parts[3].name = "slot";
  cluster.parts[3].link = "pcie";  // 20 GB/s
  cluster.parts[3].gpus = 1;
  cluster.parts[3].nodes.reset();
  cluster.parts[3].rail = false;
  cluster.parts[4].joins = "slot";
  ASSERT_TRUE(problems_of(cluster).empty());
  EXPECT_FALSE(binds(3));
  EXPECT_TRUE(binds(4));
}

/// Stages are one and a half leaf blocks long: were the fabric one that can be short, all would feel the slow link.
TEST(ClusterExecutor, ASlowLinkInAnAmpleFabricStaysWhereItIs) {
  Cluster cluster = rail_cluster(16);
  cluster.parts[4].links = 4;
  Stages stages(2);
  const OpId forward = stages.compute(0, 1000);
  const OpId reduced = stages.collective(0, Collective::AllToAll, Group::Expert, 1 << 20, {forward});
  (void)stages.message(0, 1, true, 1 << 20, {reduced});
  stages.collective(1, Collective::AllToAll, Group::Expert, 1 << 20, {stages.message(1, 0, false, 1 << 20)});
  ParallelLayout layout;
  layout.data = 48;  // one and a half leaf blocks
  layout.expert = 16;
  layout.pipeline = 2;
  PlanCosts costs = stages.costs(layout, on(cluster));
  EXPECT_EQ(run(stages, layout, costs, {}).classes, 2);
  costs.degraded = {{costs.topology->uplink(4, 3), 0.3}};
  const Outcome folded = run(stages, layout, costs, {});
  ExecutionOptions apart;
  apart.fold = false;
  expect_same(folded, run(stages, layout, costs, apart), "a slow link");
  EXPECT_LE(folded.classes, 16);
}

TEST(Bounds, AResultBeyondABoundNamesTheOperator) {
  HardwareProfile hardware = on(rail_cluster(1));
  hardware.device.peak = FlopsPerSecond(1e12);
  Timeline timeline;
  Operator op;
  op.id = OpId(0);
  op.kind = OpKind::Mlp;
  op.layer = LayerId(3);
  op.work = {GemmWork{1000, 1000, 1000}};  // 2 ms at the peak
  timeline.plan.operators = {op};
  timeline.spans = {{OpId(0), Rank(0), Lane::Compute, 0, Instant{}, Instant(Duration(2'000'000))}};
  EXPECT_TRUE(check_bounds(timeline, {}, hardware).ok());
  timeline.spans[0].end = Instant(Duration(1'990'000));
  const Status beyond = check_bounds(timeline, {}, hardware);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().kind, ErrorKind::RunFailed);
  EXPECT_EQ(beyond.error().place, "L3.Mlp.F");
}

/// An all-to-all of 8 MB on every rank, L1.Dispatch.F; rank 0's span.
Timeline one_dispatch(std::int64_t ranks, Duration time) {
  Timeline timeline;
  timeline.rank_count = ranks;
  Operator op;
  op.id = OpId(0);
  op.kind = OpKind::Dispatch;
  op.lane = Lane::Comm;
  op.layer = LayerId(1);
  op.communication = Communication{Collective::AllToAll, Group::Expert, Bytes(8'000'000)};
  timeline.plan.operators = {op};
  timeline.spans = {{OpId(0), Rank(0), Lane::Comm, 0, Instant{}, Instant(time)}};
  return timeline;
}

TEST(Bounds, AMeasuredTableMayShowThatALinkIsFasterThanItsNominalBandwidth) {
  HardwareProfile hardware = on(rail_cluster(1));
  hardware.sources = {{"", {SourceKind::Datasheet, "a test"}}};
  ParallelLayout layout;
  layout.data = layout.expert = 8;
  Timeline timeline = one_dispatch(8, Duration(60'000));  // 70 us at 100 GB/s
  EXPECT_FALSE(check_bounds(timeline, layout, hardware).ok());
  hardware.cluster->links.at("nvlink").measured[Collective::AllToAll] = {{8}, {{{{8e6, Duration(60'000)}}}}};
  EXPECT_TRUE(check_bounds(timeline, layout, hardware).ok());
  timeline.spans[0].end = Instant(Duration(50'000));
  EXPECT_FALSE(check_bounds(timeline, layout, hardware).ok());
}

TEST(Bounds, BytesThatMustLeaveANodeTakeTheirTime) {
  HardwareProfile hardware = on(rail_cluster(4));
  hardware.sources = {{"", {SourceKind::Datasheet, "a test"}}};
  ParallelLayout layout;
  layout.data = layout.expert = 32;
  Timeline timeline = one_dispatch(32, Duration(700'000));
  // Eight ranks send three quarters of 8 MB out of their node over eight links of 10 GB/s: 0.6 ms. NVLink alone would
  // allow 0.08 ms.
  EXPECT_TRUE(check_bounds(timeline, layout, hardware).ok());
  timeline.spans[0].end = Instant(Duration(400'000));
  const Status beyond = check_bounds(timeline, layout, hardware);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().place, "L1.Dispatch.F");
  EXPECT_NE(beyond.error().message.find("leave a part of the cluster"), std::string::npos) << beyond.error().message;
}

}  // namespace
}  // namespace moecast
