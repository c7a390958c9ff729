#include "sim/operator_cost.h"

#include <algorithm>
#include <cmath>
#include <map>
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

bool same(const Work& a, const Work& b) {
  if (a.index() != b.index()) return false;
  if (const auto* x = std::get_if<GemmWork>(&a)) {
    const auto& y = std::get<GemmWork>(b);
    return x->m == y.m && x->n == y.n && x->k == y.k;
  }
  if (const auto* x = std::get_if<GroupedGemmWork>(&a)) {
    const auto& y = std::get<GroupedGemmWork>(b);
    return x->groups == y.groups && x->rows == y.rows && x->n == y.n && x->k == y.k;
  }
  if (const auto* x = std::get_if<AttentionWork>(&a)) {
    const auto& y = std::get<AttentionWork>(b);
    return x->batch == y.batch && x->sequence == y.sequence && x->heads == y.heads && x->kv_heads == y.kv_heads &&
           x->head_dim == y.head_dim && x->backward == y.backward && x->window == y.window &&
           x->value_dim == y.value_dim && x->context == y.context;
  }
  const auto& x = std::get<MemoryWork>(a);
  const auto& y = std::get<MemoryWork>(b);
  return x.kernel == y.kernel && x.rows == y.rows && x.columns == y.columns && x.bytes == y.bytes;
}

/// Layers repeat: an operator that works as the last one of its kind did takes the same time, and no table is asked.
class ComputeTimes {
 public:
  explicit ComputeTimes(const DeviceProfile& device) : device_(device) {}

  Duration time(const Operator& op) {
    const auto [entry, is_new] = last_.try_emplace({op.kind, op.phase});
    auto& [work, duration] = entry->second;
    if (is_new || !std::equal(work.begin(), work.end(), op.work.begin(), op.work.end(), same)) {
      work = op.work;
      duration = device_.time(op);
    }
    return duration;
  }

 private:
  const DeviceProfile& device_;
  std::map<std::pair<OpKind, Phase>, std::pair<std::vector<Work>, Duration>> last_;
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

OperatorTime operator_time(const ParallelLayout& layout, const HardwareProfile& hardware) {
  return [layout, &hardware, compute = ComputeTimes(hardware.device)](const Operator& op) mutable {
    if (!op.communication) return compute.time(op);
    return hardware.time(*op.communication, layout.group_size(op.communication->group));
  };
}

}  // namespace moecast
