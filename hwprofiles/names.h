#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "hwprofiles/profile.h"

namespace moecast {

/// Every MemoryKernel, in the order of the enumeration.
[[nodiscard]] std::vector<MemoryKernel> all_memory_kernels();
[[nodiscard]] std::optional<MemoryKernel> memory_kernel_named(std::string_view name);
/// Every Collective, in the order of the enumeration.
[[nodiscard]] std::vector<Collective> all_collectives();
[[nodiscard]] std::optional<Collective> collective_named(std::string_view name);
[[nodiscard]] std::string_view to_text(SourceKind kind);  // "measured", "datasheet", "published", "assumed"

}  // namespace moecast
