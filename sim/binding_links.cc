#include "sim/binding_links.h"

#include <algorithm>
#include <optional>

namespace moecast {
namespace {

/// Instances below that a whole instance joins.
std::int64_t joined_count(const Topology& topology, std::size_t part) {
  const Topology::Part& of = topology.parts()[part];
  const std::int64_t own = of.span / of.lanes;
  if (!of.below) return own;
  const Topology::Part& below = topology.parts()[*of.below];
  return (own + below.span / below.lanes - 1) / (below.span / below.lanes);
}

class BindingParts {
 public:
  explicit BindingParts(const Topology& topology) : topology_(topology), binds_(topology.parts().size(), true) {
    for (std::size_t part = 0; part < binds_.size(); ++part) binds_[part] = !ample(part);
    for (std::size_t part = 0; part < binds_.size(); ++part) {
      if (binds_[part]) binds_[part] = !behind_another(part);
    }
  }
  [[nodiscard]] bool operator[](std::size_t part) const { return binds_[part]; }

 private:
  [[nodiscard]] double bandwidth(std::size_t part) const { return topology_.parts()[part].attachment_bandwidth; }

  /// A link of the part carries what the links into its lower end carry together.
  [[nodiscard]] bool ample(std::size_t part) const {
    const std::optional<std::size_t> below = topology_.parts()[part].below;
    if (!below) return false;
    return bandwidth(part) >= static_cast<double>(joined_count(topology_, *below)) * bandwidth(*below);
  }

  /// The part joins nothing: all that crosses a link to it goes on over one link above.
  [[nodiscard]] bool behind_another(std::size_t part) const {
    if (joined_count(topology_, part) > 1) return false;
    std::optional<std::size_t> above;
    for (std::size_t other = 0; other < topology_.parts().size(); ++other) {
      const Topology::Part& candidate = topology_.parts()[other];
      if (candidate.storage || candidate.below != part) continue;
      if (above) return false;
      above = other;
    }
    return above && binds_[*above] && bandwidth(part) >= bandwidth(*above);
  }

  const Topology& topology_;
  std::vector<bool> binds_;
};

}  // namespace

std::vector<bool> binding_links(const Topology& topology, std::span<const std::pair<std::int32_t, double>> degraded) {
  std::vector<bool> binds(topology.capacities().size(), true);
  const BindingParts parts(topology);
  for (std::size_t part = 0; part < topology.parts().size(); ++part) {
    if (parts[part]) continue;
    const Topology::Part& of = topology.parts()[part];
    std::fill_n(binds.begin() + of.first_attachment, 2 * of.attachment_count, false);
  }
  for (const auto& [resource, factor] : degraded) binds.at(static_cast<std::size_t>(resource)) = true;
  return binds;
}

}  // namespace moecast
