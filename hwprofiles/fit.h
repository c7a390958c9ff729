#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// From measured times to cost tables: pure functions, so that samples of any origin (our benches, nccl-tests, profiler
/// traces) end in the same tables. Times are medians of repeats, above zero. Fits look at samples with held_out false
/// only; fit_quality judges both. Samples of other kinds of work are passed over, so one list serves all fits.

/// One kernel alone on the device.
struct KernelSample {
  Work work;
  Duration time{};
  bool held_out = false;
};

/// One collective alone on the node, in a group of `ranks` > 1.
struct LinkSample {
  Communication communication;
  std::int64_t ranks = 2;
  Duration time{};
  bool held_out = false;
};

struct GemmAxes {
  std::vector<std::int64_t> m, n, k;  // ascending
};

/// Rates on the nodes of `axes` from samples anywhere: with y = log rate of a sample, w its trilinear weights in log m,
/// n, k, and theta the log rates of the nodes,
///   min  sum_samples (w . theta - y)^2 + lambda sum_neighbours ((theta_a - theta_b) / log distance)^2,
/// lambda small: measured nodes keep their rate (least squares on the relative error), nodes without samples continue
/// those beside them. The overhead is half of the shortest time, so that noise in the smallest products stays small in
/// the rates. At least one GemmWork sample.
[[nodiscard]] GemmTable fit_gemm(std::span<const KernelSample> samples, const GemmAxes& axes);
/// The same for GroupedGemmWork: rates of one product, the overhead once per call.
[[nodiscard]] GemmTable fit_grouped_gemm(std::span<const KernelSample> samples, const GemmAxes& axes);

/// Curves over batch * heads for every (head_dim, sequence) that occurs; a combination that was not measured is taken
/// from the nearest one, scaled by head_dim * sequence^2. At least one AttentionWork sample of that direction.
[[nodiscard]] AttentionCost fit_attention(std::span<const KernelSample> samples, bool backward);

/// One curve for each kernel and row width that occurs. Flat work (one row) has a single curve whatever its length.
[[nodiscard]] std::map<MemoryKernel, MemoryCost> fit_memory_kernels(std::span<const KernelSample> samples);

/// Sizes within 5 % of each other become one point (geometric means); times that fall with size are pooled until none
/// does (isotonic regression of log time, pool adjacent violators), so a curve never falls. Sizes become whole.
[[nodiscard]] CostCurve fit_curve(std::vector<CostCurve::Point> points);

/// Latency and bandwidth by least squares on the relative error of latency + port bytes / bandwidth; the bandwidth is
/// then the best one that any size reached, or `bandwidth` if given (a datasheet's), and what each size reaches of it
/// is the efficiency curve, from the size on at which the transfer is a fifth of the time. At least one sample with
/// bytes.
[[nodiscard]] LinkProfile fit_link(std::span<const LinkSample> samples,
                                   std::optional<BytesPerSecond> bandwidth = std::nullopt);

/// |predicted - measured| / measured, median over used and over held-out samples.
[[nodiscard]] FitQuality fit_quality(const HardwareProfile& profile, std::span<const KernelSample> kernels,
                                     std::span<const LinkSample> links);

}  // namespace moecast
