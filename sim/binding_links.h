#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "hwprofiles/topology.h"

namespace moecast {

/// Which resources of a topology can ever be short, whatever moves: the others need no look. A link cannot if what
/// crosses it has crossed links below that carry no more together (a leaf's uplinks in a fabric without
/// oversubscription), or crosses a single link above that carries no more (the port of a network adapter behind its
/// PCIe slot). So what happens behind an ample fabric stays apart. `degraded`: resources and what is left of each.
[[nodiscard]] std::vector<bool> binding_links(const Topology& topology,
                                              std::span<const std::pair<std::int32_t, double>> degraded);

}  // namespace moecast
