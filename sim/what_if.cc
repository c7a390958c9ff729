#include "sim/what_if.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "models/metrics.h"

namespace moecast {
namespace {

void double_bandwidth(LinkClass& link) {
  link.bandwidth = BytesPerSecond(2 * link.bandwidth.value());
  for (auto& [collective, table] : link.measured) {
    for (CostCurve& curve : table.curves) {
      for (CostCurve::Point& point : curve.points) point.time = Duration((point.time.count() + 1) / 2);
    }
  }
}

void double_bandwidth(LinkProfile& link) { link.bandwidth = BytesPerSecond(2 * link.bandwidth.value()); }

std::vector<std::pair<std::string, Scenario>> changes(const Scenario& scenario) {
  std::vector<std::pair<std::string, Scenario>> all;
  const auto change = [&](std::string text) -> Scenario& { return all.emplace_back(std::move(text), scenario).second; };
  if (scenario.hardware.cluster) {
    for (const auto& [name, link] : scenario.hardware.cluster->links) {
      double_bandwidth(change(fmt::format("links \"{}\" twice as fast", name)).hardware.cluster->links.at(name));
    }
  } else {
    NodeProfile& node = change("links twice as fast").hardware.node;
    double_bandwidth(node.all_to_all);
    double_bandwidth(node.all_reduce);
    if (node.switch_bandwidth) node.switch_bandwidth = BytesPerSecond(2 * node.switch_bandwidth->value());
  }
  std::vector<double>& slowdown = change("compute twice as fast").slowdown;
  slowdown.resize(static_cast<std::size_t>(scenario.workload.layout.world_size()), 1);
  for (double& factor : slowdown) factor /= 2;
  change("no interference between compute and communication").hardware.interference = {};
  if (!scenario.slowdown.empty()) change("no slow rank").slowdown.clear();
  if (!scenario.degraded.empty()) change("no degraded link").degraded.clear();
  if (scenario.routing) change("even load of experts").routing.reset();
  return all;
}

}  // namespace

Result<std::vector<WhatIf>> what_helps(const Scenario& scenario, Duration now) {
  std::vector<WhatIf> helps;
  for (const auto& [text, changed] : changes(scenario)) {
    const Result<Timeline> timeline = simulate_unbounded(changed);
    RETURN_IF_ERROR(timeline);
    const Duration then = step_metrics(*timeline).step_time;
    if (then < now) helps.push_back({text, then});
  }
  std::stable_sort(helps.begin(), helps.end(),
                   [](const WhatIf& a, const WhatIf& b) { return a.step_time < b.step_time; });
  return helps;
}

}  // namespace moecast
