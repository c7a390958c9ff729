#include "sim/operator_cost.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "base/assert.h"

namespace moecast {
namespace {

/// C / b, never rounded so far up that a flow alone on the port would miss its bandwidth by a last bit.
double port_load(BytesPerSecond port, BytesPerSecond bandwidth) {
  double load = port / bandwidth;
  while (port.value() / load < bandwidth.value()) load = std::nextafter(load, 0.0);
  return load;
}

OperatorCost collective_cost(const Communication& communication, std::int64_t ranks, const HardwareProfile& hardware,
                             BytesPerSecond port) {
  const double bytes = port_bytes(communication.collective, communication.buffer, ranks);
  if (ranks <= 1) return {hardware.time(communication, ranks)};
  const LinkProfile& link = hardware.node.link(communication.collective);
  ASSERT(bytes == 0 || link.bandwidth.value() > 0, "a link without bandwidth");
  OperatorCost cost{link.latency, bytes};
  if (bytes > 0) {
    cost.rate = link.bandwidth.value() * link.efficiency_at(communication.buffer.value());
    cost.port_load = port_load(port, link.bandwidth);
  }
  return cost;
}

/// Layers repeat: an operator that works as the last one of its kind did takes the same time, and no table is asked.
class ComputeTimes {
 public:
  explicit ComputeTimes(const DeviceProfile& device) : device_(device) {}

  Duration time(const Operator& op) {
    const auto [entry, is_new] = last_.try_emplace({op.kind, op.phase});
    auto& [work, duration] = entry->second;
    if (is_new || work != op.work) {
      work = op.work;
      duration = device_.time(op);
    }
    return duration;
  }

 private:
  const DeviceProfile& device_;
  std::map<std::pair<OpKind, Phase>, std::pair<std::vector<Work>, Duration>> last_;
};

/// Collectives of the first rank's groups on a cluster.
class ClusterTimes {
 public:
  ClusterTimes(const ParallelLayout& layout, const Cluster& cluster, AlgorithmChoice algorithms)
      : layout_(layout), cluster_(cluster), algorithms_(std::move(algorithms)) {}
  ClusterTimes(const ClusterTimes&) = delete;
  ClusterTimes& operator=(const ClusterTimes&) = delete;

  Duration time(const Communication& call) {
    if (!topology_) {
      topology_.emplace(cluster_);
      model_.emplace(*topology_, algorithms_);
    }
    const bool pair = call.collective == Collective::PointToPoint;
    auto found = shapes_.find({call.group, pair});
    if (found == shapes_.end()) {
      std::vector<std::int32_t> gpus;
      for (const Rank rank : layout_.members(call.group, Rank(0))) gpus.push_back(rank.value());
      if (pair) gpus.resize(2);
      found = shapes_.emplace(std::pair(call.group, pair), model_->shape(gpus)).first;
    }
    return model_->cost(call.collective, call.buffer, found->second).time();
  }

 private:
  ParallelLayout layout_;
  const Cluster& cluster_;
  AlgorithmChoice algorithms_;
  std::optional<Topology> topology_;  // made when asked for the first time: most plans have no open slot
  std::optional<CollectiveModel> model_;
  std::map<std::pair<Group, bool>, GroupShape> shapes_;
};

}  // namespace

PlanCosts plan_costs(std::span<const StepPlan> stages, const ParallelLayout& layout, const HardwareProfile& hardware) {
  PlanCosts costs;
  costs.port = std::max(hardware.node.all_to_all.bandwidth, hardware.node.all_reduce.bandwidth);
  costs.switch_bandwidth = hardware.node.switch_bandwidth;
  costs.interference = hardware.interference;
  if (hardware.cluster) costs.topology.emplace(*hardware.cluster);
  ComputeTimes compute(hardware.device);
  for (const StepPlan& plan : stages) {
    for (const Operator& op : plan.operators) {
      if (op.kind == OpKind::ExpertFetch) {
        costs.operators.push_back({hardware.host_copy_time(op.host_bytes)});
        continue;
      }
      if (!op.communication) {
        costs.operators.push_back({compute.time(op)});
        continue;
      }
      const std::int64_t ranks = layout.group_size(op.communication->group);
      if (hardware.cluster && ranks > 1) {
        costs.operators.emplace_back();
      } else {
        costs.operators.push_back(collective_cost(*op.communication, ranks, hardware, costs.port));
      }
    }
  }
  return costs;
}

OperatorTime operator_time(const ParallelLayout& layout, const HardwareProfile& hardware, AlgorithmChoice algorithms) {
  // Shared by the copies of a function object, which cannot hold what has no copy.
  const auto cluster =
      hardware.cluster ? std::make_shared<ClusterTimes>(layout, *hardware.cluster, std::move(algorithms)) : nullptr;
  return [layout, &hardware, cluster, compute = ComputeTimes(hardware.device)](const Operator& op) mutable {
    if (op.kind == OpKind::ExpertFetch) return hardware.host_copy_time(op.host_bytes);
    if (!op.communication) return compute.time(op);
    const std::int64_t ranks = layout.group_size(op.communication->group);
    if (cluster && ranks > 1) return cluster->time(*op.communication);
    return hardware.time(*op.communication, ranks);
  };
}

}  // namespace moecast
