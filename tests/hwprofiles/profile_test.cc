#include "hwprofiles/profile.h"

#include <cmath>

#include <gtest/gtest.h>

namespace moecast {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

CostCurve curve(std::vector<std::pair<double, int>> points) {
  CostCurve result;
  for (const auto& [size, us] : points) result.points.push_back({size, microseconds(us)});
  return result;
}

void expect_near(Duration actual, double expected_us) {
  EXPECT_NEAR(seconds(actual) * 1e6, expected_us, 1e-3 + 1e-9 * expected_us);
}

TEST(CostCurve, GivesThePointsBack) {
  const CostCurve cost = curve({{100, 10}, {1000, 20}, {10000, 300}});
  for (const auto& point : cost.points) expect_near(cost.time(point.size), seconds(point.time) * 1e6);
}

TEST(CostCurve, InterpolatesInLogLogSpace) {
  const CostCurve cost = curve({{100, 10}, {10000, 1000}});  // slope 1
  expect_near(cost.time(1000), 100);
  const CostCurve square_root = curve({{100, 10}, {10000, 100}});
  expect_near(square_root.time(400), 20);
}

TEST(CostCurve, NeverFallsBelowItsFirstPointAndKeepsTheLastRate) {
  const CostCurve cost = curve({{100, 10}, {1000, 20}});
  expect_near(cost.time(1), 10);
  expect_near(cost.time(0), 10);
  expect_near(cost.time(5000), 100);
}

TEST(MemoryCost, InterpolatesBetweenRowWidthsAndClampsBeyondThem) {
  const MemoryCost cost{{8, 128}, {curve({{1000, 100}}), curve({{1000, 1}})}};
  expect_near(cost.time(8, 1000), 100);
  expect_near(cost.time(1, 1000), 100);
  expect_near(cost.time(128, 1000), 1);
  expect_near(cost.time(4096, 1000), 1);
  expect_near(cost.time(32, 1000), 10);  // half way in log columns: geometric mean
}

TEST(AttentionCost, ScalesBeyondTheMeasuredShapes) {
  AttentionCost cost;
  cost.head_dim = {32, 64};
  cost.sequence = {128, 512};
  cost.curves = {curve({{4, 10}}), curve({{4, 160}}), curve({{4, 20}}), curve({{4, 320}})};
  const auto time = [&](std::int64_t batch, std::int64_t heads, std::int64_t dim, std::int64_t sequence) {
    return cost.time(AttentionWork{batch, sequence, heads, heads, dim, false});
  };
  expect_near(time(2, 2, 32, 128), 10);
  expect_near(time(1, 4, 64, 512), 320);
  expect_near(time(2, 2, 32, 256), 40);    // slope 2 in sequence
  expect_near(time(2, 2, 128, 128), 40);   // twice the largest head_dim
  expect_near(time(2, 2, 32, 1024), 640);  // twice the longest sequence: four times
  expect_near(time(4, 2, 32, 128), 20);    // twice the heads: the last rate
}

TEST(AttentionCost, NarrowValuesAndWindowsTakeTheirShareOfTheWork) {
  AttentionCost cost;
  cost.head_dim = {32};
  cost.sequence = {128};
  cost.curves = {curve({{4, 10}})};
  AttentionWork work{4, 128, 1, 1, 32, false};
  work.value_dim = 16;
  expect_near(cost.time(work), 7.5);
  work.value_dim.reset();
  work.window = 1;
  expect_near(cost.time(work), 10 * 128 / (128.0 * 129 / 2));
}

/// A device whose product time is known in closed form: rate = 1e9 * m^a n^b k^c.
GemmTable power_law_table() {
  GemmTable table;
  table.m = {16, 64, 1024};
  table.n = {8, 512};
  table.k = {32, 128, 256};
  for (const auto m : table.m) {
    for (const auto n : table.n) {
      for (const auto k : table.k) {
        table.flops_per_second.push_back(1e9 * std::pow(m, 0.3) * std::pow(n, 0.2) * std::pow(k, 0.1));
      }
    }
  }
  return table;
}

TEST(GemmTable, ReproducesAPowerLawEverywhereInside) {
  const GemmTable table = power_law_table();
  for (const double m : {16.0, 30.0, 64.0, 500.0, 1024.0}) {
    for (const double n : {8.0, 64.0, 512.0}) {
      for (const double k : {32.0, 100.0, 200.0, 256.0}) {
        const double expected = 1e9 * std::pow(m, 0.3) * std::pow(n, 0.2) * std::pow(k, 0.1);
        EXPECT_NEAR(table.rate(m, n, k) / expected, 1, 1e-12) << m << " " << n << " " << k;
      }
    }
  }
}

TEST(GemmTable, KeepsTheRateOfTheEdgeBeyondTheGrid) {
  const GemmTable table = power_law_table();
  EXPECT_DOUBLE_EQ(table.rate(1, 8, 32), table.rate(16, 8, 32));
  EXPECT_DOUBLE_EQ(table.rate(1e6, 1e6, 1e6), table.rate(1024, 512, 256));
}

TEST(GemmTable, ChargesTheOverheadOnceAndForEmptyProductsAlone) {
  GemmTable table{{1}, {1}, {1}, {2e9}, microseconds(3)};
  expect_near(table.time(100, 10, 1), 3 + 1);  // 2000 flops at 2 GFLOP/s
  EXPECT_EQ(table.time(0, 10, 1), microseconds(3));
}

DeviceProfile small_device() {
  DeviceProfile device;
  device.gemm = {{1}, {1}, {1}, {1e9}, microseconds(1)};
  device.grouped_gemm = {{1}, {1}, {1}, {2e9}, microseconds(5)};
  device.attention_forward = {{64}, {128}, {curve({{1, 7}})}};
  device.attention_backward = {{64}, {128}, {curve({{1, 21}})}};
  device.memory_kernels[MemoryKernel::Copy] = {{64}, {curve({{1000, 2}})}};
  device.memory_kernels[MemoryKernel::Norm] = {{64}, {curve({{1000, 4}})}};
  device.operator_overhead = microseconds(10);
  return device;
}

TEST(DeviceProfile, TimesEveryKindOfWork) {
  const DeviceProfile device = small_device();
  expect_near(device.time(GemmWork{10, 10, 10}), 1 + 2);
  expect_near(device.time(GroupedGemmWork{4, 10, 10, 10}), 5 + 4 * 1);
  expect_near(device.time(AttentionWork{1, 128, 1, 1, 64, false}), 7);
  expect_near(device.time(AttentionWork{1, 128, 1, 1, 64, true}), 21);
  expect_near(device.time(MemoryWork{MemoryKernel::Norm, 4, 64, Bytes(2000)}), 8);
  expect_near(device.time(MemoryWork{MemoryKernel::Fill, 4, 64, Bytes(1000)}), 2);  // no curve of its own: Copy
}

TEST(DeviceProfile, OperatorTakesItsOverheadAndTheSumOfItsWork) {
  const DeviceProfile device = small_device();
  Operator op;
  EXPECT_EQ(device.time(op), microseconds(10));
  op.work = {GemmWork{10, 10, 10}, MemoryWork{MemoryKernel::Copy, 1, 64, Bytes(1000)}};
  expect_near(device.time(op), 10 + 3 + 2);
}

TEST(LinkProfile, EfficiencyIsInterpolatedInLogBytes) {
  LinkProfile link{microseconds(10), BytesPerSecond(1e9), {{1e3, 0.2}, {1e5, 0.8}}};
  EXPECT_DOUBLE_EQ(link.efficiency_at(1), 0.2);
  EXPECT_NEAR(link.efficiency_at(1e4), 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(link.efficiency_at(1e9), 0.8);
  expect_near(link.time(5000, Bytes(10000)), 10 + 10);
  EXPECT_EQ(link.time(0, Bytes(0)), microseconds(10));
  EXPECT_DOUBLE_EQ((LinkProfile{}).efficiency_at(5), 1);
}

TEST(PortBytes, FollowsTheRingFormulas) {
  EXPECT_DOUBLE_EQ(port_bytes(Collective::AllToAll, Bytes(800), 8), 700);
  EXPECT_DOUBLE_EQ(port_bytes(Collective::AllReduce, Bytes(800), 8), 1400);
  EXPECT_DOUBLE_EQ(port_bytes(Collective::ReduceScatter, Bytes(800), 4), 600);
  EXPECT_DOUBLE_EQ(port_bytes(Collective::AllGather, Bytes(800), 2), 400);
  EXPECT_DOUBLE_EQ(port_bytes(Collective::Broadcast, Bytes(800), 2), 800);
  EXPECT_DOUBLE_EQ(port_bytes(Collective::AllToAll, Bytes(800), 1), 0);
}

TEST(HardwareProfile, CollectiveInAGroupOfOneIsACopyOrNothing) {
  HardwareProfile profile;
  profile.device = small_device();
  profile.node.all_to_all.latency = microseconds(100);
  profile.node.all_to_all.bandwidth = BytesPerSecond(1e9);
  profile.node.all_reduce = {microseconds(50), BytesPerSecond(2e9), {}};
  const Communication all_to_all{Collective::AllToAll, Group::Expert, Bytes(1000)};
  const Communication all_reduce{Collective::AllReduce, Group::Data, Bytes(1000)};
  expect_near(profile.time(all_to_all, 1), 4);  // reads and writes 2000 bytes
  EXPECT_EQ(profile.time(all_reduce, 1), Duration(0));
  expect_near(profile.time(all_to_all, 2), 100.5);
  expect_near(profile.time(all_reduce, 2), 50.5);
}

TEST(HardwareProfile, LongestPrefixGivesTheSource) {
  HardwareProfile profile;
  profile.sources = {{"/device", {SourceKind::Datasheet, "sheet"}}, {"/device/gemm", {SourceKind::Measured, "bench"}}};
  ASSERT_NE(profile.source_of("/device/gemm/rate"), nullptr);
  EXPECT_EQ(profile.source_of("/device/gemm/rate")->reference, "bench");
  EXPECT_EQ(profile.source_of("/device/gemm")->reference, "bench");
  EXPECT_EQ(profile.source_of("/device/gemm_other")->reference, "sheet");
  EXPECT_EQ(profile.source_of("/node/ranks"), nullptr);
}

}  // namespace
}  // namespace moecast
