#pragma once

#include "hwprofiles/cluster.h"

namespace moecast::testing {

/// `nodes` nodes of eight GPUs: NVSwitch at 100 GB/s a GPU; two PCIe switches of four GPUs under a CPU; a NIC of 10
/// GB/s a GPU on rails over four nodes; a spine with half of what enters the leaves.
[[nodiscard]] Cluster rail_cluster(std::int64_t nodes);

/// The same without NVSwitch, rails and NICs of GPUs: one NIC of 5 GB/s a node, on one non-blocking switch.
[[nodiscard]] Cluster pcie_cluster(std::int64_t nodes);

}  // namespace moecast::testing
