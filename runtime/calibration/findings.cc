#include "runtime/calibration/findings.h"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

#include "base/statistics.h"
#include "runtime/comm/byte_exchange.h"

namespace moecast {
namespace {

/// Of the values that `get` finds in each rank; 0 if there are none.
template <typename Get>
double quantile_over_ranks(const Findings& findings, double q, Get get) {
  std::vector<double> values;
  for (const RankFindings& rank : findings.ranks) {
    const std::vector<double>& of_rank = get(rank);
    values.insert(values.end(), of_rank.begin(), of_rank.end());
  }
  return values.empty() ? 0 : quantile(values, q);
}

std::vector<KernelSample> kernel_samples(const Findings& findings) {
  std::vector<KernelSample> samples;
  const std::vector<KernelTimes>& works = findings.ranks[0].kernels;
  for (std::size_t i = 0; i < works.size(); ++i) {
    FormTimes times;
    for (const RankFindings& rank : findings.ranks) append_times(rank.kernels[i].times, times);
    const bool held_out = i >= findings.grid.fitted.size();
    samples.push_back({works[i].work, duration_from_seconds(typical_time(times)), held_out});
  }
  return samples;
}

std::vector<LinkSample> link_samples(const Findings& findings) {
  std::vector<LinkSample> samples;
  for (std::size_t i = 0; i < findings.links.size(); ++i) {
    const auto of_rank = [i](const RankFindings& rank) -> const std::vector<double>& { return rank.links[i]; };
    const double time = quantile_over_ranks(findings, 0.25, of_rank);  // see bench_collective
    ASSERT(time > 0, "collective {} was not measured", i);
    const auto ranks = static_cast<std::int64_t>(findings.ranks.size());
    samples.push_back(
        {findings.links[i].communication, ranks, duration_from_seconds(time), findings.links[i].held_out});
  }
  return samples;
}

Bytes memory_of_rank(std::int64_t ranks) {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page <= 0) return Bytes(0);
  return Bytes(static_cast<std::int64_t>(pages) * page / ranks);
}

/// The best rates that were seen stand for the peaks, which nobody has told.
void set_peaks(const std::vector<KernelSample>& samples, DeviceProfile& device) {
  double product = 0;
  double copy = 0;
  for (const KernelSample& sample : samples) {
    const double time = seconds(sample.time);
    const auto* memory = std::get_if<MemoryWork>(&sample.work);
    if (memory == nullptr) product = std::max(product, flops(sample.work).value() / time);
    if (memory != nullptr && memory->kernel == MemoryKernel::Copy) copy = std::max(copy, memory->bytes.value() / time);
  }
  device.peak = FlopsPerSecond(product);
  device.memory_rate = BytesPerSecond(copy);
}

DeviceProfile fit_device(const Findings& findings, const CalibrationOptions& options,
                         const std::vector<KernelSample>& samples) {
  DeviceProfile device;
  device.name = findings.device;
  device.memory = options.device_memory.value_or(memory_of_rank(options.ranks));
  const auto overheads = [](const RankFindings& rank) -> const std::vector<double>& { return rank.overheads; };
  device.operator_overhead = duration_from_seconds(quantile_over_ranks(findings, 0.5, overheads));
  device.gemm = fit_gemm(samples, findings.grid.gemm_axes);
  device.grouped_gemm = fit_grouped_gemm(samples, findings.grid.grouped_axes);
  device.attention_forward = fit_attention(samples, false);
  device.attention_backward = fit_attention(samples, true);
  device.memory_kernels = fit_memory_kernels(samples);
  set_peaks(samples, device);
  return device;
}

NodeProfile fit_node(const std::vector<LinkSample>& samples, std::int64_t ranks, BytesPerSecond memory_rate) {
  NodeProfile node;
  node.ranks = ranks;
  std::vector<LinkSample> direct, reduce;
  for (const LinkSample& sample : samples) {
    (sample.communication.collective == Collective::AllToAll ? direct : reduce).push_back(sample);
  }
  // Alone there is no link; its numbers are never asked for.
  const LinkProfile none{Duration(0), memory_rate, {}};
  node.all_to_all = direct.empty() ? none : fit_link(direct);
  node.all_reduce = reduce.empty() ? none : fit_link(reduce);
  return node;
}

Interference interference_of(const Findings& findings) {
  const auto compute = [](const RankFindings& rank) -> const std::vector<double>& { return rank.compute_beside; };
  const auto communication = [](const RankFindings& rank) -> const std::vector<double>& {
    return rank.communication_beside;
  };
  const auto beside_copy = [](const RankFindings& rank) -> const std::vector<double>& {
    return rank.compute_beside_copy;
  };
  return {std::max(1.0, quantile_over_ranks(findings, 0.5, compute)),
          std::max(1.0, quantile_over_ranks(findings, 0.5, communication)),
          std::max(1.0, quantile_over_ranks(findings, 0.5, beside_copy))};
}

/// Mean over the ranks of the reference step's operators, against the tables.
InStep in_step_of(const Findings& findings, const HardwareProfile& profile) {
  std::vector<double> times(findings.reference.operators.size(), 0.0);
  for (const RankFindings& rank : findings.ranks) {
    for (std::size_t i = 0; i < times.size(); ++i) {
      times[i] += rank.step[i] / static_cast<double>(findings.ranks.size());
    }
  }
  return fit_in_step(findings.reference, static_cast<std::int64_t>(findings.ranks.size()), times, profile);
}

std::string method(const Findings& findings, const CalibrationOptions& options) {
  const std::string paced = options.pacing ? fmt::format("paced to {} + {}", to_text(options.pacing->latency),
                                                         to_text(options.pacing->bandwidth))
                                           : "not paced";
  return fmt::format("moecast calibrate{}{}, {} x{}, {} link {}, {} of measurements", options.date.empty() ? "" : ", ",
                     options.date, findings.backend, findings.ranks.size(), findings.link, paced,
                     to_text(options.budget));
}

using Lists = std::vector<std::vector<double>>;

void write(const Lists& lists, ByteWriter& writer) {
  writer.value(static_cast<std::int64_t>(lists.size()));
  for (const std::vector<double>& each : lists) writer.list(each);
}

Lists read_lists(ByteReader& reader) {
  Lists lists;
  const auto count = reader.value<std::int64_t>();
  for (std::int64_t i = 0; reader.good() && i < count; ++i) lists.push_back(reader.list<std::vector<double>>());
  return lists;
}

}  // namespace

std::vector<std::byte> to_bytes(const RankFindings& findings) {
  ByteWriter writer;
  writer.value(static_cast<std::int64_t>(findings.kernels.size()));
  for (const KernelTimes& kernel : findings.kernels) write(kernel.times, writer);
  write(findings.links, writer);
  write({findings.overheads, findings.compute_beside, findings.communication_beside, findings.step, findings.copy_rates,
         findings.compute_beside_copy},
        writer);
  return writer.take();
}

std::optional<RankFindings> findings_of(std::span<const std::byte> bytes, const std::vector<Work>& works) {
  ByteReader reader(bytes);
  RankFindings findings;
  if (reader.value<std::int64_t>() != static_cast<std::int64_t>(works.size())) return std::nullopt;
  for (const Work& work : works) findings.kernels.push_back({work, read_lists(reader)});
  findings.links = read_lists(reader);
  const Lists rest = read_lists(reader);
  if (!reader.complete() || rest.size() != 6) return std::nullopt;
  findings.overheads = rest[0];
  findings.compute_beside = rest[1];
  findings.communication_beside = rest[2];
  findings.step = rest[3];
  findings.copy_rates = rest[4];
  findings.compute_beside_copy = rest[5];
  return findings;
}

CalibrationResult summarize(const Findings& findings, const CalibrationOptions& options) {
  CalibrationResult result;
  result.kernels = kernel_samples(findings);
  result.links = link_samples(findings);
  HardwareProfile& profile = result.profile;
  profile.name = options.name;
  profile.description = fmt::format("{} x {}, {} as ranks{}", findings.ranks.size(), findings.device,
                                    findings.processes ? "processes" : "threads", options.pacing ? ", link paced" : "");
  profile.device = fit_device(findings, options, result.kernels);
  profile.node = fit_node(result.links, options.ranks, profile.device.memory_rate);
  profile.interference = interference_of(findings);
  const auto copy_rates = [](const RankFindings& rank) -> const std::vector<double>& { return rank.copy_rates; };
  if (const double rate = quantile_over_ranks(findings, 0.5, copy_rates); rate > 0) {
    profile.node.host_link = HostLink{BytesPerSecond(rate), findings.link.starts_with("staged")};
  }
  profile.fit = fit_quality(profile, result.kernels, result.links);
  result.in_step = in_step_of(findings, profile);
  apply(result.in_step, profile);
  const std::string how =
      method(findings, options) +
      fmt::format(
          "; times alone x {:.2f} (products), x {:.2f} (memory-bound kernels), x {:.2f} (collectives), as a "
          "reference training step shows them",
          result.in_step.products, result.in_step.memory, result.in_step.communication);
  profile.sources[""] = {SourceKind::Measured, how};
  profile.sources["/device/peak"] = {SourceKind::Measured, "best product of the calibration; " + how};
  profile.sources["/device/memory"] = {
      SourceKind::Measured, options.device_memory ? "as the driver says" : "physical memory, divided among the ranks"};
  return result;
}

}  // namespace moecast
