#include "sim/bounds.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "hwprofiles/topology.h"
#include "sim/cut_bounds.h"

namespace moecast {
namespace {

constexpr double kCached = 512.0 * 1024 * 1024;  // bytes that a last-level cache may hold
constexpr double kRounding = 1 - 1e-6;
/// What a measured table may take of the time that nominal bandwidths allow: 24 GB/s, as NCCL counts a PCIe 4.0 x16
/// link, of the 31.5 GB/s of the standard.
constexpr double kNominal = 24 / 31.5;

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

/// The device's rates, infinite where they are no bounds.
class DeviceBounds {
 public:
  explicit DeviceBounds(const HardwareProfile& hardware) {
    if (is_bound(hardware, "/device/peak")) peak_ = hardware.device.peak.value();
    if (is_bound(hardware, "/device/memory_rate")) memory_rate_ = hardware.device.memory_rate.value();
  }

  [[nodiscard]] Bound of(const Work& work, std::int64_t bytes_per_element) const {
    const double moved = bytes(work, bytes_per_element).value();
    const Bound bound = {flops(work).value() / peak_, "the device's peak"};
    return moved >= kCached ? larger(bound, {moved / memory_rate_, "the memory's rate"}) : bound;
  }

 private:
  double peak_ = std::numeric_limits<double>::infinity();
  double memory_rate_ = std::numeric_limits<double>::infinity();
};

/// Bytes per second, one direction, that can enter or leave a GPU at most: over one of its attachments.
double widest_attachment(const HardwareProfile& hardware, double node_bandwidth) {
  const bool measured = !is_bound(hardware, hardware.cluster ? "/cluster/links" : "/node/all_to_all/bandwidth");
  if (measured) return std::numeric_limits<double>::infinity();
  if (!hardware.cluster) return node_bandwidth;
  double widest = 0;
  for (const ClusterPart& part : hardware.cluster->parts) {
    const double one = hardware.cluster->links.at(part.link).bandwidth.value();
    if (part.joins == "gpu" && !part.storage) widest = std::max(widest, one * static_cast<double>(part.links));
  }
  return widest;
}

/// All-reduces may be added up on the way (NVLS): a rank sends its buffer once, not twice.
double least_port_bytes(const Communication& call, std::int64_t ranks) {
  if (ranks <= 1) return 0;
  const double bytes = port_bytes(call.collective, call.buffer, ranks);
  return call.collective == Collective::AllReduce ? bytes / 2 : bytes;
}

/// Of an operator's work as planned, what a rank surely has: its weights do not shrink with its rows.
double least_part(const Operator& op, Rank rank, const ParallelLayout& layout, const ExpertLoads& loads) {
  if (op.kind != OpKind::Expert || loads.empty()) return 1;
  const auto found = loads.find({op.layer.value(), op.second_routing});
  if (found == loads.end()) return 1;
  return std::min(1.0, found->second.factor(layout.position(Group::Expert, rank)));
}

/// Bounds of every stage's operators that hold on all ranks: [stage][operator].
std::vector<std::vector<Bound>> operator_bounds(const Timeline& timeline, const ParallelLayout& layout,
                                                const HardwareProfile& hardware) {
  const double attached = widest_attachment(
      hardware, std::max(hardware.node.all_to_all.bandwidth, hardware.node.all_reduce.bandwidth).value());
  const DeviceBounds device(hardware);
  std::vector<std::vector<Bound>> bounds;
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    const StepPlan& plan = timeline.plan_of_stage(stage);
    std::vector<Bound>& of_stage = bounds.emplace_back();
    for (const Operator& op : plan.operators) {
      Bound bound;
      for (const Work& work : op.work) {
        const Bound part = device.of(work, plan.bytes_per_element);
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
  return bounds;
}

/// What a span takes at least on its rank.
class SpanBounds {
 public:
  SpanBounds(const Timeline& timeline, const ParallelLayout& layout, const HardwareProfile& hardware,
             const ExpertLoads& loads)
      : layout_(layout),
        hardware_(hardware),
        loads_(loads),
        of_operators_(operator_bounds(timeline, layout, hardware)) {
    if (hardware.cluster && is_bound(hardware, "/cluster/links")) cuts_.emplace(*hardware.cluster, layout);
  }

  Bound of(const Operator& op, std::int64_t stage, Rank rank) {
    Bound bound = of_operators_[static_cast<std::size_t>(stage)][op.id.index()];
    bound.seconds *= least_part(op, rank, layout_, loads_);
    const bool uneven = !loads_.empty() && (op.kind == OpKind::Dispatch || op.kind == OpKind::Combine);
    if (!cuts_ || !op.communication || uneven) return bound;
    return larger(bound, {cuts_->least_seconds(*op.communication, rank), "what must leave a part of the cluster"});
  }

  /// Is the time of this collective in the rank's group one of a measured table?
  [[nodiscard]] bool measured(const Operator& op, Rank rank) {
    if (!hardware_.cluster || !op.communication) return false;
    if (!topology_) topology_.emplace(*hardware_.cluster);
    const std::vector<Rank> members = layout_.members(op.communication->group, rank);
    for (std::size_t part = 0; part < topology_->parts().size(); ++part) {
      const Topology::Part& of = topology_->parts()[part];
      const auto joined = [&](Rank member) {
        return topology_->instance(part, member.value()) == topology_->instance(part, rank.value());
      };
      if (of.storage || !std::all_of(members.begin(), members.end(), joined)) continue;
      return of.link.measured.contains(op.communication->collective);
    }
    return false;
  }

 private:
  const ParallelLayout& layout_;
  const HardwareProfile& hardware_;
  const ExpertLoads& loads_;
  std::vector<std::vector<Bound>> of_operators_;
  std::optional<CutBounds> cuts_;
  std::optional<Topology> topology_;  // made when something was measured beyond a bound
};

}  // namespace

Status check_bounds(const Timeline& timeline, const ParallelLayout& layout, const HardwareProfile& hardware,
                    const ExpertLoads& loads) {
  SpanBounds bounds(timeline, layout, hardware, loads);
  for (const Span& span : timeline.spans) {
    const std::int64_t stage = timeline.stage_of(span.rank);
    const Operator& op = timeline.plan_of_stage(stage).operators[span.op.index()];
    const Bound bound = bounds.of(op, stage, span.rank);
    if (seconds(span.duration()) >= bound.seconds * kRounding) continue;
    if (seconds(span.duration()) >= bound.seconds * kNominal && bounds.measured(op, span.rank)) continue;
    return Error{ErrorKind::RunFailed, op.name(),
                 fmt::format("takes {} on rank {}, and {} allows no less than {}: the profile {} holds a time or rate "
                             "that the hardware cannot reach",
                             pretty(span.duration()), span.rank.value(), bound.by,
                             pretty(duration_from_seconds(bound.seconds)), hardware.name)};
  }
  return {};
}

}  // namespace moecast
