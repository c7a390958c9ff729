#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/statistics.h"
#include "hwprofiles/import_trace.h"
#include "hwprofiles/names.h"
#include "hwprofiles/scale.h"
#include "hwprofiles/sources.h"

namespace moecast {
namespace {

using Samples = std::vector<KernelSample>;
using Chosen = std::function<bool(const Work&)>;

/// Median of measured over predicted; no value if none of the samples is chosen.
std::optional<double> median_ratio(const DeviceProfile& device, const Samples& samples, const Chosen& chosen) {
  std::vector<double> ratios;
  for (const KernelSample& sample : samples) {
    if (sample.held_out || !chosen(sample.work)) continue;
    const double predicted = seconds(device.time(sample.work));
    if (predicted > 0) ratios.push_back(seconds(sample.time) / predicted);
  }
  return ratios.empty() ? std::nullopt : std::optional(median(ratios));
}

/// Sizes of a product, in the order of the axes.
std::array<double, 3> sizes_of(const Work& work) {
  if (const auto* gemm = std::get_if<GemmWork>(&work)) {
    return {static_cast<double>(gemm->m), static_cast<double>(gemm->n), static_cast<double>(gemm->k)};
  }
  const auto& grouped = std::get<GroupedGemmWork>(work);
  return {grouped.rows, static_cast<double>(grouped.n), static_cast<double>(grouped.k)};
}

bool is_near(const Work& a, const Work& b) {
  const std::array<double, 3> x = sizes_of(a), y = sizes_of(b);
  for (std::size_t i = 0; i < 3; ++i) {
    if (std::abs(std::log(x[i] / y[i])) > std::log(2.0)) return false;
  }
  return true;
}

template <typename W>
Work product_of(std::int64_t m, std::int64_t n, std::int64_t k) {
  if constexpr (std::is_same_v<W, GemmWork>) {
    return GemmWork{m, n, k};
  } else {
    return GroupedGemmWork{1, static_cast<double>(m), n, k};
  }
}

/// The measured products, and base's at its nodes where none of them is near.
template <typename W>
Samples with_distant_nodes(const DeviceProfile& device, const GemmTable& table, Samples measured, double ratio) {
  const std::size_t count = measured.size();
  for (const std::int64_t m : table.m) {
    for (const std::int64_t n : table.n) {
      for (const std::int64_t k : table.k) {
        const Work node = product_of<W>(m, n, k);
        const bool near = std::any_of(measured.begin(), measured.begin() + static_cast<std::ptrdiff_t>(count),
                                      [&](const KernelSample& each) { return is_near(each.work, node); });
        if (!near) measured.push_back({node, duration_from_seconds(ratio * seconds(device.time(node))), false});
      }
    }
  }
  return measured;
}

/// The axis, extended to sizes that lie well beyond it.
std::vector<std::int64_t> extended(std::vector<std::int64_t> axis, const Samples& samples, std::size_t which) {
  for (const KernelSample& sample : samples) {
    const double size = sizes_of(sample.work)[which];
    if (size < 0.8 * static_cast<double>(axis.front()))
      axis.insert(axis.begin(), std::max<std::int64_t>(1, std::llround(size)));
    if (size > 1.25 * static_cast<double>(axis.back())) axis.push_back(std::llround(size));
  }
  return axis;
}

template <typename W>
GemmTable fitted(const DeviceProfile& device, const GemmTable& table, const Samples& samples,
                 GemmTable (*fit)(std::span<const KernelSample>, const GemmAxes&)) {
  Samples measured;
  for (const KernelSample& sample : samples) {
    if (!sample.held_out && std::holds_alternative<W>(sample.work)) measured.push_back(sample);
  }
  const auto ratio = median_ratio(device, measured, [](const Work&) { return true; });
  if (!ratio) return table;
  const GemmAxes axes{extended(table.m, measured, 0), extended(table.n, measured, 1), extended(table.k, measured, 2)};
  return fit(with_distant_nodes<W>(device, table, measured, *ratio), axes);
}

void scale_attention(const Samples& samples, bool backward, const DeviceProfile& base, AttentionCost& cost) {
  const auto ratio = median_ratio(base, samples, [&](const Work& work) {
    const auto* attention = std::get_if<AttentionWork>(&work);
    return attention != nullptr && attention->backward == backward;
  });
  if (ratio) scale(*ratio, cost);
}

/// Kernels that base charges as copies get a curve of their own.
void scale_memory_kernels(const Samples& samples, const DeviceProfile& base, DeviceProfile& device) {
  for (const MemoryKernel kernel : all_memory_kernels()) {
    const auto ratio = median_ratio(base, samples, [&](const Work& work) {
      const auto* memory = std::get_if<MemoryWork>(&work);
      return memory != nullptr && memory->kernel == kernel;
    });
    if (!ratio) continue;
    const auto own = base.memory_kernels.find(kernel);
    MemoryCost cost = own == base.memory_kernels.end() ? base.memory_kernels.at(MemoryKernel::Copy) : own->second;
    scale(*ratio, cost);
    device.memory_kernels[kernel] = std::move(cost);
  }
}

}  // namespace

HardwareProfile with_kernels(HardwareProfile base, const std::vector<ImportedTrace>& traces) {
  Samples samples;
  std::vector<std::string> origins;
  double to_host = 0;
  for (const ImportedTrace& trace : traces) {
    samples.insert(samples.end(), trace.kernels.begin(), trace.kernels.end());
    origins.push_back(trace.origin);
    to_host = std::max(to_host, trace.to_host.value());
  }
  const Source source{SourceKind::Measured, fmt::format("{}", fmt::join(origins, "; "))};
  const DeviceProfile before = base.device;
  DeviceProfile& device = base.device;
  device.gemm = fitted<GemmWork>(before, before.gemm, samples, &fit_gemm);
  device.grouped_gemm = fitted<GroupedGemmWork>(before, before.grouped_gemm, samples, &fit_grouped_gemm);
  scale_attention(samples, false, before, device.attention_forward);
  scale_attention(samples, true, before, device.attention_backward);
  scale_memory_kernels(samples, before, device);
  for (const auto& [part, changed] : {std::pair("gemm", !(device.gemm == before.gemm)),
                                      {"grouped_gemm", !(device.grouped_gemm == before.grouped_gemm)},
                                      {"attention_forward", !(device.attention_forward == before.attention_forward)},
                                      {"attention_backward", !(device.attention_backward == before.attention_backward)},
                                      {"memory_kernels", !(device.memory_kernels == before.memory_kernels)}}) {
    if (changed) set_source(base, fmt::format("/device/{}", part), source);
  }
  if (traces.empty()) return base;
  if (to_host > 0) {
    base.node.host_link = HostLink{BytesPerSecond(to_host), base.node.host_link && base.node.host_link->shared};
    set_source(base, "/node/host_link", source);
  }
  base.fit = fit_quality(base, samples, {});
  set_source(base, "/fit", {SourceKind::Measured, "of the imported measurements"});
  return base;
}

}  // namespace moecast
