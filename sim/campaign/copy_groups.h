#pragma once

#include <cstdint>
#include <span>

namespace moecast {

/// Do copies of everything survive? Nodes are in disjoint groups of `copies` neighbours, each of which holds the state
/// of all; when the node count is no multiple, the last group takes the rest and node i's state is on i and the copies
/// - 1 that follow, around (Gemini, SOSP'23, section 4). `lost` ascending.
[[nodiscard]] bool neighbours_survive(std::span<const std::int64_t> lost, std::int64_t nodes, std::int64_t copies);

/// The same for copies a stride of nodes / copies apart: data-parallel replicas. copies <= nodes.
[[nodiscard]] bool strided_survive(std::span<const std::int64_t> lost, std::int64_t nodes, std::int64_t copies);

}  // namespace moecast
