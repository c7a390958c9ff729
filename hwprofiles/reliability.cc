#include "hwprofiles/reliability.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {

std::int64_t unit_count(FailureUnit unit, std::int64_t gpus, std::int64_t nodes, std::int64_t racks) {
  switch (unit) {
    case FailureUnit::Gpu:
      return gpus;
    case FailureUnit::Node:
      return nodes;
    case FailureUnit::Rack:
      return racks;
    case FailureUnit::Cluster:
      break;
  }
  return 1;
}

std::string_view name_of(FailedComponent component) {
  switch (component) {
    case FailedComponent::Gpu:
      return "gpu";
    case FailedComponent::Hbm:
      return "hbm";
    case FailedComponent::Nic:
      return "nic";
    case FailedComponent::Host:
      return "host";
    case FailedComponent::Switch:
      return "switch";
    case FailedComponent::Storage:
      return "storage";
    case FailedComponent::Software:
      break;
  }
  return "software";
}

std::string_view name_of(FailureUnit unit) {
  switch (unit) {
    case FailureUnit::Gpu:
      return "gpu";
    case FailureUnit::Node:
      return "node";
    case FailureUnit::Rack:
      return "rack";
    case FailureUnit::Cluster:
      break;
  }
  return "cluster";
}

std::string_view name_of(FailureEffect effect) {
  switch (effect) {
    case FailureEffect::Crash:
      return "crash";
    case FailureEffect::Slow:
      return "slow";
    case FailureEffect::Corruption:
      break;
  }
  return "corruption";
}

double ReliabilityProfile::rate(std::int64_t gpus, std::int64_t nodes, std::int64_t racks) const {
  double sum = 0;
  for (const FailureMode& mode : modes) {
    if (mode.mean_between > 0) {
      sum += static_cast<double>(unit_count(mode.per, gpus, nodes, racks)) / mode.mean_between;
    }
  }
  return sum;
}

namespace {
std::string mode_line(const FailureMode& mode, double units) {
  const double days = mode.mean_between / 86400;
  const double mtbf_hours = mode.mean_between / units / 3600;
  return fmt::format("  {:<28} {:<9} {:<10} {:>12.0f} d per {:<8} {:>10.1f} h on this cluster\n", mode.name,
                     name_of(mode.component), name_of(mode.effect), days, name_of(mode.per), mtbf_hours);
}
}  // namespace

std::string describe(const ReliabilityProfile& profile, std::int64_t gpus, std::int64_t gpus_per_node,
                     std::int64_t nodes_per_rack) {
  ASSERT(gpus > 0 && gpus_per_node > 0 && nodes_per_rack > 0, "{} GPUs, {}, {}", gpus, gpus_per_node, nodes_per_rack);
  const std::int64_t nodes = (gpus + gpus_per_node - 1) / gpus_per_node;
  const std::int64_t racks = (nodes + nodes_per_rack - 1) / nodes_per_rack;
  std::string out = fmt::format("{}: {}\n{} GPUs, {} nodes, {} racks\nmean time between failures by mode:\n",
                                profile.name, profile.description, gpus, nodes, racks);
  for (const FailureMode& mode : profile.modes) {
    if (mode.mean_between <= 0) continue;
    out += mode_line(mode, static_cast<double>(unit_count(mode.per, gpus, nodes, racks)));
  }
  const double rate = profile.rate(gpus, nodes, racks);
  if (rate > 0) out += fmt::format("all together: one every {:.2f} h\n", 1 / rate / 3600);
  if (!profile.recorded.empty()) out += fmt::format("recorded failures: {}\n", profile.recorded.size());
  const RecoveryTimes& recovery = profile.recovery;
  out += fmt::format("detection {}; diagnosis {}; repair {}; process start {}; communicators {:.1f} s\n",
                     recovery.detection.text(), recovery.diagnosis.text(), recovery.repair.text(),
                     recovery.process_start.text(),
                     recovery.communicator_fixed + recovery.communicator_per_gpu * static_cast<double>(gpus));
  for (const auto& [pointer, source] : profile.sources)
    out += fmt::format("source of {}: {}\n", pointer, source.reference);
  return out;
}

}  // namespace moecast
