#include "hwprofiles/scale.h"

namespace moecast {

void scale(double factor, CostCurve& curve) {
  for (CostCurve::Point& point : curve.points) point.time = duration_from_seconds(seconds(point.time) * factor);
}

void scale(double factor, GemmTable& table) {
  for (double& rate : table.flops_per_second) rate /= factor;
  table.overhead = duration_from_seconds(seconds(table.overhead) * factor);
}

void scale(double factor, AttentionCost& cost) {
  for (CostCurve& curve : cost.curves) scale(factor, curve);
}

void scale(double factor, MemoryCost& cost) {
  for (CostCurve& curve : cost.curves) scale(factor, curve);
}

void scale(double factor, LinkProfile& link) {
  link.latency = duration_from_seconds(seconds(link.latency) * factor);
  link.bandwidth = BytesPerSecond(link.bandwidth.value() / factor);
}

}  // namespace moecast
