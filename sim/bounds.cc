#include "sim/bounds.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/overloaded.h"
#include "hwprofiles/topology.h"

namespace moecast {
namespace {

constexpr double kCached = 512.0 * 1024 * 1024;  // bytes that a last-level cache may hold
constexpr double kRounding = 1 - 1e-6;

struct Bound {
  double seconds = 0;
  std::string_view by;
};

Bound larger(Bound a, Bound b) { return b.seconds > a.seconds ? b : a; }

/// The best that a bench saw is no bound.
bool is_bound(const HardwareProfile& hardware, const std::string& pointer) {
  const Source* source = hardware.source_of(pointer);
  return source == nullptr || source->kind != SourceKind::Measured;
}

Bound of_work(const Work& work, const HardwareProfile& hardware, std::int64_t bytes_per_element) {
  const DeviceProfile& device = hardware.device;
  const double moved = bytes(work, bytes_per_element).value();
  Bound bound;
  if (is_bound(hardware, "/device/peak")) bound = {flops(work).value() / device.peak.value(), "the device's peak"};
  if (moved >= kCached && is_bound(hardware, "/device/memory_rate"))
    bound = larger(bound, {moved / device.memory_rate.value(), "the memory's rate"});
  return bound;
}

/// Bytes per second, one direction, that can enter or leave a GPU at most: over one of its attachments.
double widest_attachment(const HardwareProfile& hardware, double node_bandwidth) {
  const bool measured = !is_bound(hardware, hardware.cluster ? "/cluster/links" : "/node/all_to_all/bandwidth");
  if (measured) return std::numeric_limits<double>::infinity();
  if (!hardware.cluster) return node_bandwidth;
  double widest = 0;
  const Topology topology(*hardware.cluster);
  for (const Topology::Part& part : topology.parts()) {
    if (!part.below && !part.storage) widest = std::max(widest, part.attachment_bandwidth);
  }
  return widest;
}

/// All-reduces may be added up on the way (NVLS): a rank sends its buffer once, not twice.
double least_port_bytes(const Communication& call, std::int64_t ranks) {
  if (ranks <= 1) return 0;
  const double bytes = port_bytes(call.collective, call.buffer, ranks);
  return call.collective == Collective::AllReduce ? bytes / 2 : bytes;
}

}  // namespace

Status check_bounds(const Timeline& timeline, const ParallelLayout& layout, const HardwareProfile& hardware) {
  const double attached = widest_attachment(
      hardware, std::max(hardware.node.all_to_all.bandwidth, hardware.node.all_reduce.bandwidth).value());
  std::vector<std::vector<Bound>> bounds;  // by stage and operator
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    const StepPlan& plan = timeline.plan_of_stage(stage);
    std::vector<Bound>& of_stage = bounds.emplace_back();
    for (const Operator& op : plan.operators) {
      Bound bound;
      for (const Work& work : op.work) {
        const Bound part = of_work(work, hardware, plan.bytes_per_element);
        bound = {bound.seconds + part.seconds, part.by};
      }
      if (op.communication) {
        const double bytes = least_port_bytes(*op.communication, layout.group_size(op.communication->group));
        const bool receives = op.lane == Lane::Receive;  // may have come before
        if (!receives) bound = {bytes / attached, "the bandwidth of its links"};
      }
      of_stage.push_back(bound);
    }
  }
  for (const Span& span : timeline.spans) {
    const std::int64_t stage = timeline.stage_of(span.rank);
    const Bound& bound = bounds[static_cast<std::size_t>(stage)][span.op.index()];
    if (seconds(span.duration()) >= bound.seconds * kRounding) continue;
    const Operator& op = timeline.plan_of_stage(stage).operators[span.op.index()];
    return Error{ErrorKind::RunFailed, op.name(),
                 fmt::format("takes {} on rank {}, and {} allows no less than {}: the profile {} holds a time or rate "
                             "that the hardware cannot reach",
                             pretty(span.duration()), span.rank.value(), bound.by,
                             pretty(duration_from_seconds(bound.seconds)), hardware.name)};
  }
  return {};
}

}  // namespace moecast
