#include "hwprofiles/fit.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/random.h"

namespace moecast {
namespace {

using std::chrono::microseconds;

/// Multiplies by exp of a normal error of this deviation; the n-th call draws the n-th error.
class Noise {
 public:
  explicit Noise(double deviation) : deviation_(deviation) {}
  Duration operator()(double seconds) {
    return duration_from_seconds(seconds * std::exp(deviation_ * random_.normal(0, next_++)));
  }

 private:
  double deviation_;
  CounterRandom random_{7, stream_of("fit_test")};
  std::uint64_t next_ = 0;
};

/// Rises to a plateau in every direction, as products do.
double true_rate(double m, double n, double k) { return 1e11 * m / (m + 20) * n / (n + 30) * k / (k + 15); }

const GemmAxes kAxes = {{16, 32, 64, 128, 256, 512, 1024}, {8, 16, 32, 64, 128, 256, 512}, {32, 64, 128, 256, 512}};

std::vector<KernelSample> product_samples(double deviation, bool grouped) {
  Noise noise(deviation);
  std::vector<KernelSample> samples;
  const auto add = [&](std::int64_t m, std::int64_t n, std::int64_t k, bool held_out) {
    const double time = 2.0 * static_cast<double>(m * n * k) /
                        true_rate(static_cast<double>(m), static_cast<double>(n), static_cast<double>(k));
    if (grouped) {
      samples.push_back({GroupedGemmWork{4, static_cast<double>(m), n, k}, noise(1e-6 + 4 * time), held_out});
    } else {
      samples.push_back({GemmWork{m, n, k}, noise(1e-6 + time), held_out});
    }
  };
  for (const auto m : kAxes.m) {
    for (const auto n : kAxes.n) {
      for (const auto k : kAxes.k) add(m, n, k, false);
    }
  }
  for (const std::int64_t m : {20, 100, 700}) {
    for (const std::int64_t n : {24, 200}) add(m, n, 200, true);
  }
  return samples;
}

FitQuality quality_of(const std::vector<KernelSample>& samples) {
  HardwareProfile profile;
  profile.device.gemm = {{1}, {1}, {1}, {1}, Duration(0)};
  profile.device.grouped_gemm = profile.device.gemm;
  if (std::holds_alternative<GemmWork>(samples[0].work)) {
    profile.device.gemm = fit_gemm(samples, kAxes);
  } else {
    profile.device.grouped_gemm = fit_grouped_gemm(samples, kAxes);
  }
  return fit_quality(profile, samples, {});
}

TEST(FitGemm, GivesExactSamplesBack) {
  const std::vector<KernelSample> samples = product_samples(0, false);
  EXPECT_LT(quality_of(samples).fit_median_error, 0.005);
  EXPECT_LT(quality_of(samples).held_out_median_error, 0.05);  // what interpolation costs
  EXPECT_EQ(quality_of(samples).held_out_count, 6);
}

TEST(FitGemm, NoiseInTheSamplesIsTheErrorOfTheFit) {
  EXPECT_LT(quality_of(product_samples(0.05, false)).held_out_median_error, 0.10);
  EXPECT_LT(quality_of(product_samples(0.05, true)).held_out_median_error, 0.10);
}

TEST(FitGemm, GroupedSamplesGiveTheRateOfOneProduct) {
  const GemmTable table = fit_grouped_gemm(product_samples(0, true), kAxes);
  EXPECT_NEAR(table.rate(256, 64, 128) / true_rate(256, 64, 128), 1, 0.02);
}

TEST(FitGemm, NodesWithoutSamplesContinueTheirNeighbours) {
  const std::vector<KernelSample> samples = {{GemmWork{64, 64, 64}, microseconds(100)}};
  const GemmTable table = fit_gemm(samples, {{64, 4096}, {1, 64}, {64}});
  const double rate = table.rate(64, 64, 64);
  EXPECT_NEAR(table.rate(4096, 1, 64) / rate, 1, 1e-6);
}

TEST(FitGemm, HeldOutSamplesDoNotCount) {
  std::vector<KernelSample> samples = product_samples(0, false);
  const GemmTable before = fit_gemm(samples, kAxes);
  for (KernelSample& sample : samples) {
    if (sample.held_out) sample.time *= 100;
  }
  EXPECT_EQ(fit_gemm(samples, kAxes), before);
}

TEST(FitGemm, ScatteredNoisySamplesRecoverThePlateau) {
  Noise noise(0.05);
  const CounterRandom random(3, 4);
  std::vector<KernelSample> samples;
  for (std::uint64_t i = 0; i < 600; ++i) {
    const auto size = [&](std::uint64_t draw, double low, double high) {
      return std::llround(low * std::pow(high / low, random.uniform(i, draw)));
    };
    const std::int64_t m = size(0, 16, 1024), n = size(1, 8, 512), k = size(2, 32, 512);
    const double rate = true_rate(static_cast<double>(m), static_cast<double>(n), static_cast<double>(k));
    samples.push_back({GemmWork{m, n, k}, noise(2.0 * static_cast<double>(m * n * k) / rate), i % 5 == 0});
  }
  EXPECT_LT(quality_of(samples).held_out_median_error, 0.08);
}

TEST(FitCurve, MergesEqualSizesAndNeverFalls) {
  const CostCurve curve = fit_curve({{1000, microseconds(10)},
                                     {100, microseconds(4)},
                                     {1010, microseconds(14)},
                                     {4000, microseconds(9)},
                                     {9000, microseconds(30)}});
  ASSERT_EQ(curve.points.size(), 4U);
  EXPECT_EQ(curve.points[0].size, 100);
  EXPECT_NEAR(curve.points[1].size, 1005, 1);
  EXPECT_EQ(curve.points[1].time, curve.points[2].time);  // pooled: 10, 14 and 9
  EXPECT_NEAR(seconds(curve.points[1].time) * 1e6, std::cbrt(10.0 * 14 * 9), 0.01);
  for (std::size_t i = 1; i < curve.points.size(); ++i) {
    EXPECT_GE(curve.points[i].time, curve.points[i - 1].time);
    EXPECT_GT(curve.points[i].size, curve.points[i - 1].size);
  }
}

TEST(FitMemoryKernels, OneCurveForEachWidthAndOneForFlatWork) {
  std::vector<KernelSample> samples;
  for (const std::int64_t rows : {16, 64, 256}) {
    for (const std::int64_t width : {8, 128}) {
      const double bytes = static_cast<double>(8 * rows * width);
      const double rate = width == 8 ? 1e9 : 1e10;
      samples.push_back({MemoryWork{MemoryKernel::Norm, rows, width, Bytes(8 * rows * width)},
                         duration_from_seconds(1e-6 + bytes / rate)});
    }
    samples.push_back({MemoryWork{MemoryKernel::AdamW, 1, rows, Bytes(28 * rows)}, Duration(1000 * rows)});
  }
  const auto kernels = fit_memory_kernels(samples);
  ASSERT_EQ(kernels.size(), 2U);
  EXPECT_EQ(kernels.at(MemoryKernel::Norm).columns, (std::vector<std::int64_t>{8, 128}));
  EXPECT_EQ(kernels.at(MemoryKernel::AdamW).columns, std::vector<std::int64_t>{1});
  EXPECT_EQ(kernels.at(MemoryKernel::AdamW).curves[0].points.size(), 3U);
  DeviceProfile device;
  device.memory_kernels = kernels;
  for (const KernelSample& sample : samples) {
    EXPECT_NEAR(seconds(device.time(sample.work)) / seconds(sample.time), 1, 1e-3);
  }
}

TEST(FitAttention, FillsCombinationsThatWereNotMeasured) {
  const auto work = [](std::int64_t dim, std::int64_t sequence) {
    return AttentionWork{2, sequence, 4, 4, dim, false};
  };
  const std::vector<KernelSample> samples = {{work(32, 128), microseconds(100)},
                                             {work(32, 512), microseconds(1500)},
                                             {work(64, 128), microseconds(180)},
                                             {AttentionWork{2, 128, 4, 4, 32, true}, microseconds(1)}};
  const AttentionCost cost = fit_attention(samples, false);
  EXPECT_EQ(cost.curves.size(), 4U);
  EXPECT_NEAR(seconds(cost.time(work(32, 512))) * 1e6, 1500, 0.1);
  EXPECT_NEAR(seconds(cost.time(work(64, 512))) * 1e6, 3000, 0.1);  // from the same length, twice the head size
}

std::vector<LinkSample> link_samples(double deviation, double latency, double bandwidth) {
  Noise noise(deviation);
  std::vector<LinkSample> samples;
  for (std::int64_t size = 1024; size <= (1 << 24); size *= 4) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Communication call{Collective::AllToAll, Group::Expert, Bytes(size)};
      const double port = port_bytes(Collective::AllToAll, Bytes(size), 4);
      samples.push_back({call, 4, noise(latency + port / bandwidth), repeat == 2});
    }
  }
  return samples;
}

TEST(FitLink, RecoversLatencyAndBandwidthFromNoisyTimes) {
  const LinkProfile exact = fit_link(link_samples(0, 12e-6, 3.8e11));
  EXPECT_NEAR(seconds(exact.latency) * 1e6, 12, 0.05);
  EXPECT_NEAR(exact.bandwidth.value() / 3.8e11, 1, 0.01);
  const LinkProfile noisy = fit_link(link_samples(0.02, 12e-6, 3.8e11));
  EXPECT_NEAR(seconds(noisy.latency) * 1e6, 12, 0.5);
  EXPECT_NEAR(noisy.bandwidth.value() / 3.8e11, 1, 0.06);
}

TEST(FitLink, EfficiencyIsWhatEachSizeReachesOfAGivenBandwidth) {
  HardwareProfile profile;
  const std::vector<LinkSample> samples = link_samples(0, 12e-6, 2e11);
  profile.node.all_to_all = fit_link(samples, BytesPerSecond(4e11));
  EXPECT_EQ(profile.node.all_to_all.bandwidth.value(), 4e11);
  ASSERT_FALSE(profile.node.all_to_all.efficiency.empty());
  EXPECT_NEAR(profile.node.all_to_all.efficiency.back().second, 0.5, 0.005);
  const FitQuality quality = fit_quality(profile, {}, samples);
  EXPECT_LT(quality.fit_median_error, 0.02);
  EXPECT_EQ(quality.held_out_count, 8);
}

TEST(FitLink, OneSizeIsAllBandwidth) {
  const Communication call{Collective::AllToAll, Group::Expert, Bytes(1000)};
  const std::vector<LinkSample> samples = {{call, 2, microseconds(10)}};
  const LinkProfile link = fit_link(samples);
  EXPECT_EQ(link.latency, Duration(0));
  EXPECT_NEAR(link.bandwidth.value(), 500 / 10e-6, 1e3);
}

TEST(FitQuality, IsTheMedianRelativeError) {
  HardwareProfile profile;
  profile.device.memory_kernels[MemoryKernel::Copy] = {{1}, {{{{1000, microseconds(10)}}}}};
  const MemoryWork work{MemoryKernel::Copy, 1, 250, Bytes(1000)};
  const std::vector<KernelSample> samples = {
      {work, microseconds(10)}, {work, microseconds(20)}, {work, microseconds(8)}, {work, microseconds(5), true}};
  const FitQuality quality = fit_quality(profile, samples, {});
  EXPECT_NEAR(quality.fit_median_error, 0.25, 1e-6);
  EXPECT_NEAR(quality.held_out_median_error, 1.0, 1e-6);
  EXPECT_EQ(quality.held_out_count, 1);
}

}  // namespace
}  // namespace moecast
