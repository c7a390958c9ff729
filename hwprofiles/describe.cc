#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "hwprofiles/names.h"
#include "hwprofiles/profile.h"

namespace moecast {
namespace {

std::string rate_text(Flops work, Duration time) {
  return time.count() == 0 ? "-" : pretty(FlopsPerSecond(work.value() / seconds(time)));
}

std::string byte_rate_text(double bytes, Duration time) {
  return time.count() == 0 ? "-" : pretty(BytesPerSecond(bytes / seconds(time)));
}

/// Square products over the part of the table that was measured, and its thinnest one.
std::string gemm_lines(const char* label, const GemmTable& table) {
  std::string out;
  for (const double size : {128.0, 512.0, 2048.0, 8192.0}) {
    const auto side = static_cast<std::int64_t>(size);
    if (side > table.m.back() || side > table.k.back()) continue;
    const Duration time = table.time(size, side, side);
    out += fmt::format("  {:<14} {:>5}^3          {:>12}   {:>12}\n", label, side, pretty(time),
                       rate_text(Flops(2 * size * size * size), time));
  }
  return out;
}

std::string attention_line(const DeviceProfile& device, bool backward) {
  const AttentionCost& cost = backward ? device.attention_backward : device.attention_forward;
  const std::size_t dim = cost.head_dim.size() / 2;
  const std::size_t length = cost.sequence.size() / 2;
  const AttentionWork work{1, cost.sequence[length], 8, 8, cost.head_dim[dim], backward};
  const Duration time = cost.time(work);
  return fmt::format("  {:<14} {:<17} {:>12}   {:>12}\n", backward ? "attention back" : "attention",
                     fmt::format("8 x {} x {}", work.sequence, work.head_dim), pretty(time),
                     rate_text(flops(work), time));
}

std::string memory_lines(const DeviceProfile& device) {
  std::string out;
  for (const MemoryKernel kernel : {MemoryKernel::Copy, MemoryKernel::Norm, MemoryKernel::AdamW}) {
    for (const std::int64_t size : {std::int64_t{1} << 20, std::int64_t{1} << 26}) {
      const Duration time = device.time(MemoryWork{kernel, size / 4096, 1024, Bytes(size)});
      out += fmt::format("  {:<14} {:<17} {:>12}   {:>12}\n", to_text(kernel), to_text(Bytes(size)), pretty(time),
                         byte_rate_text(static_cast<double>(size), time));
    }
  }
  return out;
}

std::string link_lines(const HardwareProfile& profile) {
  std::string out;
  for (const Collective collective : {Collective::AllToAll, Collective::AllReduce}) {
    const LinkProfile& link = profile.node.link(collective);
    out += fmt::format("  {:<14} latency {}, {} per port and direction\n", to_text(collective), pretty(link.latency),
                       pretty(link.bandwidth));
    for (const std::int64_t size : {std::int64_t{1} << 16, std::int64_t{1} << 20, std::int64_t{1} << 26}) {
      const Communication call{collective, Group::World, Bytes(size)};
      const Duration time = profile.time(call, profile.node.ranks);
      const double through_port = port_bytes(collective, Bytes(size), profile.node.ranks);
      out += fmt::format("  {:<14} {:<17} {:>12}   {:>12}\n", "", to_text(Bytes(size)), pretty(time),
                         byte_rate_text(through_port, time));
    }
  }
  return out;
}

std::string source_lines(const HardwareProfile& profile) {
  std::string out;
  for (const auto& [pointer, source] : profile.sources) {
    out += fmt::format("  {:<34} {:<10} {}\n", pointer.empty() ? "everything else" : pointer, to_text(source.kind),
                       source.reference);
  }
  return out;
}

}  // namespace

std::string describe(const HardwareProfile& profile) {
  const DeviceProfile& device = profile.device;
  std::string out = fmt::format("{}\n", profile.name);
  if (!profile.description.empty()) out += fmt::format("{}\n", profile.description);
  out += fmt::format("\nDevice: {}\n  peak {}, memory {} at {}, {} per operator\n", device.name, pretty(device.peak),
                     pretty(device.memory), pretty(device.memory_rate), pretty(device.operator_overhead));
  out += "Kernels (size, time, rate)\n";
  out += gemm_lines("product", device.gemm) + gemm_lines("grouped, each", device.grouped_gemm);
  out += attention_line(device, false) + attention_line(device, true) + memory_lines(device);
  out += fmt::format("Node: {} ranks (buffer of a rank, time, rate through a port)\n", profile.node.ranks);
  out += link_lines(profile);
  if (profile.node.switch_bandwidth) out += fmt::format("  switch {}\n", pretty(*profile.node.switch_bandwidth));
  if (profile.node.host_link) {
    out += fmt::format("  to the host {}{}\n", pretty(profile.node.host_link->bandwidth),
                       profile.node.host_link->shared ? ", shared with what ranks send each other" : "");
  }
  out +=
      fmt::format("Side by side: compute x {:.2f}, communication x {:.2f}\n",
                  profile.interference.compute_beside_communication, profile.interference.communication_beside_compute);
  if (profile.cluster) out += describe(*profile.cluster);
  if (profile.fit) {
    out += fmt::format("Fit: median error {:.1f} % on the measured shapes, {:.1f} % on {} shapes kept apart\n",
                       100 * profile.fit->fit_median_error, 100 * profile.fit->held_out_median_error,
                       profile.fit->held_out_count);
  }
  out += "Sources\n" + source_lines(profile);
  return out;
}

}  // namespace moecast
