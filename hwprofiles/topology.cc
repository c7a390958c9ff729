#include "hwprofiles/topology.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {
namespace {

std::int64_t span_of(const ClusterPart& part, const Cluster& cluster) {
  const std::int64_t all = cluster.gpu_count();
  if (part.gpus) return std::min(*part.gpus, all);
  if (part.nodes) return std::min(*part.nodes * cluster.node_gpus, all);
  return all;
}

std::int64_t rounded_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Topology::Topology(const Cluster& cluster) : gpu_count_(cluster.gpu_count()), node_gpus_(cluster.node_gpus) {
  for (const ClusterPart& from : cluster.parts) {
    const std::size_t index = parts_.size();
    Part part;
    const auto below = std::find(names_.begin(), names_.end(), from.joins);
    if (below != names_.end()) part.below = static_cast<std::size_t>(below - names_.begin());
    ASSERT(part.below || from.joins == "gpu", "{} joins {}", from.name, from.joins);
    part.link = cluster.links.at(from.link);
    part.attachment_bandwidth = part.link.bandwidth.value() * static_cast<double>(from.links);
    part.span = span_of(from, cluster);
    part.rail = from.rail;
    part.storage = from.storage;
    const std::int64_t below_span = part.below ? parts_[*part.below].span : 1;
    if (part.rail) part.lanes = rounded_up(node_gpus_, below_span);
    part.instance_count = rounded_up(gpu_count_, part.span) * part.lanes;
    part.attachment_count = part.below ? parts_[*part.below].instance_count : gpu_count_;
    part.first_attachment = static_cast<std::int32_t>(capacities_.size());
    capacities_.resize(capacities_.size() + static_cast<std::size_t>(2 * part.attachment_count),
                       part.attachment_bandwidth);
    if (from.capacity) {
      part.first_inner = static_cast<std::int32_t>(capacities_.size());
      capacities_.resize(capacities_.size() + static_cast<std::size_t>(part.instance_count), from.capacity->value());
    }
    chains_.push_back({index});
    if (part.below) {
      const std::vector<std::size_t>& rest = chains_[*part.below];
      chains_.back().insert(chains_.back().end(), rest.begin(), rest.end());
    }
    parts_.push_back(std::move(part));
    names_.push_back(from.name);
  }
}

std::int64_t Topology::instance(std::size_t part, std::int64_t gpu) const {
  const Part& of = parts_[part];
  const std::int64_t block = gpu / of.span;
  return of.rail ? block * of.lanes + attachment(part, gpu) % of.lanes : block;
}

std::int64_t Topology::attachment(std::size_t part, std::int64_t gpu) const {
  return parts_[part].below ? instance(*parts_[part].below, gpu) : gpu;
}

std::optional<std::int32_t> Topology::inner(std::size_t part, std::int64_t gpu) const {
  if (!parts_[part].first_inner) return std::nullopt;
  return *parts_[part].first_inner + static_cast<std::int32_t>(instance(part, gpu));
}

std::size_t Topology::joint(std::int64_t a, std::int64_t b) const {
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    if (!parts_[part].storage && instance(part, a) == instance(part, b)) return part;
  }
  ASSERT(false, "nothing joins GPUs {} and {}", a, b);
}

std::vector<std::int32_t> Topology::path(std::int64_t a, std::int64_t b) const {
  std::vector<std::int32_t> resources;
  if (a == b) return resources;
  const std::size_t top = joint(a, b);
  for (const std::size_t part : chain(top)) {
    resources.push_back(uplink(part, a));
    resources.push_back(downlink(part, b));
    if (const auto through = inner(part, a)) resources.push_back(*through);
    if (const auto through = inner(part, b); part != top && through) resources.push_back(*through);
  }
  return resources;
}

std::string Topology::name(std::int32_t resource) const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const std::int32_t attached = resource - part.first_attachment;
    if (attached >= 0 && attached < 2 * part.attachment_count) {
      return fmt::format("{} of {} {} at {}", attached % 2 == 0 ? "uplink" : "downlink",
                         part.below ? names_[*part.below] : "gpu", attached / 2, names_[i]);
    }
    const std::int32_t inner = resource - part.first_inner.value_or(resource + 1);
    if (inner >= 0 && inner < part.instance_count) return fmt::format("{} {}", names_[i], inner);
  }
  return fmt::format("resource {}", resource);
}

}  // namespace moecast
