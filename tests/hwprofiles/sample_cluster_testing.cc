#include "tests/hwprofiles/sample_cluster_testing.h"

#include <algorithm>

namespace moecast::testing {
namespace {

LinkClass link(LinkKind kind, double gigabytes, std::int64_t latency_ns) {
  return {kind, BytesPerSecond(gigabytes * 1e9), Duration(latency_ns), {}, false, {}};
}

ClusterPart part(std::string name, std::string joins, std::string by) {
  ClusterPart result;
  result.name = std::move(name);
  result.joins = std::move(joins);
  result.link = std::move(by);
  return result;
}

}  // namespace

Cluster pcie_cluster(std::int64_t nodes) {
  Cluster cluster{nodes, 8, {}, {}};
  cluster.links = {{"pcie", link(LinkKind::Pcie, 20, 500)},
                   {"cpu", link(LinkKind::Pcie, 16, 800)},
                   {"nic", link(LinkKind::Network, 5, 2000)}};
  cluster.parts = {part("pcie_switch", "gpu", "pcie"), part("host", "pcie_switch", "cpu"),
                   part("fabric", "host", "nic")};
  cluster.parts[0].gpus = 4;
  cluster.parts[1].nodes = 1;
  return cluster;
}

Cluster rail_cluster(std::int64_t nodes) {
  Cluster cluster = pcie_cluster(nodes);
  cluster.links["nvlink"] = link(LinkKind::NvLink, 100, 100);
  cluster.links["nic"] = link(LinkKind::Network, 10, 2000);
  cluster.parts.pop_back();
  cluster.parts.insert(cluster.parts.begin(), part("nvswitch", "gpu", "nvlink"));
  cluster.parts[0].nodes = 1;
  cluster.parts.push_back(part("leaf", "gpu", "nic"));
  cluster.parts.back().nodes = 4;
  cluster.parts.back().rail = true;
  cluster.parts.push_back(part("spine", "leaf", "nic"));
  cluster.parts.back().links = 2;
  return cluster;
}

}  // namespace moecast::testing
