#include "hwprofiles/names.h"

namespace moecast {

std::vector<MemoryKernel> all_memory_kernels() {
  std::vector<MemoryKernel> kernels;
  for (int i = 0; to_text(static_cast<MemoryKernel>(i)) != "?"; ++i) kernels.push_back(static_cast<MemoryKernel>(i));
  return kernels;
}

std::optional<MemoryKernel> memory_kernel_named(std::string_view name) {
  for (const MemoryKernel kernel : all_memory_kernels()) {
    if (to_text(kernel) == name) return kernel;
  }
  return std::nullopt;
}

std::vector<Collective> all_collectives() {
  return {Collective::AllToAll,  Collective::AllReduce, Collective::ReduceScatter,
          Collective::AllGather, Collective::Broadcast, Collective::PointToPoint};
}

std::optional<Collective> collective_named(std::string_view name) {
  for (const Collective collective : all_collectives()) {
    if (to_text(collective) == name) return collective;
  }
  return std::nullopt;
}

std::string_view to_text(SourceKind kind) {
  switch (kind) {
    case SourceKind::Measured:
      return "measured";
    case SourceKind::Datasheet:
      return "datasheet";
    case SourceKind::Published:
      return "published";
    case SourceKind::Assumed:
      return "assumed";
  }
  return "";
}

}  // namespace moecast
