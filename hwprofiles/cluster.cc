#include "hwprofiles/cluster.h"

#include <algorithm>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"
#include "base/nearest.h"
#include "hwprofiles/interpolation.h"
#include "hwprofiles/topology.h"

namespace moecast {
namespace {

class Problems {
 public:
  explicit Problems(const Cluster& cluster) : cluster_(cluster) {}

  std::vector<ClusterProblem> all() {
    for (std::size_t i = 0; i < cluster_.parts.size(); ++i) check_part(i);
    std::set<std::string> used;
    for (const ClusterPart& part : cluster_.parts) used.insert(part.link);
    for (const auto& [name, link] : cluster_.links) {
      if (!used.contains(name)) found_.push_back({"", name, "", "unused", "a part that is attached by it", "none", ""});
    }
    if (found_.empty()) check_reach();
    return found_;
  }

 private:
  void add(const ClusterPart& part, std::string key, std::string code, std::string expected, std::string found,
           std::string suggestion = {}) {
    found_.push_back(
        {part.name, "", std::move(key), std::move(code), std::move(expected), std::move(found), std::move(suggestion)});
  }

  [[nodiscard]] const ClusterPart* earlier(const std::string& name, std::size_t end) const {
    for (std::size_t i = 0; i < end; ++i) {
      if (cluster_.parts[i].name == name) return &cluster_.parts[i];
    }
    return nullptr;
  }

  [[nodiscard]] std::int64_t span(const ClusterPart& part) const {
    const std::int64_t own = part.gpus ? *part.gpus : part.nodes.value_or(cluster_.node_count) * cluster_.node_gpus;
    return std::min(own, cluster_.gpu_count());
  }

  void check_part(std::size_t index) {
    const ClusterPart& part = cluster_.parts[index];
    const ClusterPart* below = part.joins == "gpu" ? nullptr : earlier(part.joins, index);
    if (part.joins != "gpu" && below == nullptr) {
      std::vector<std::string> known = {"gpu"};
      for (std::size_t i = 0; i < index; ++i) known.push_back(cluster_.parts[i].name);
      const bool later = earlier(part.joins, cluster_.parts.size()) != nullptr;
      add(part, "joins", later ? "cycle" : "unconnected",
          fmt::format("a part that stands earlier: {}", fmt::join(known, ", ")), part.joins,
          nearest_name(part.joins, known));
    }
    if (!cluster_.links.contains(part.link)) {
      std::vector<std::string> known;
      for (const auto& [name, link] : cluster_.links) known.push_back(name);
      add(part, "link", "missing-link", fmt::format("a class of \"links\": {}", fmt::join(known, ", ")), part.link,
          nearest_name(part.link, known));
    }
    check_span(part, below);
  }

  void check_span(const ClusterPart& part, const ClusterPart* below) {
    if (part.gpus && part.nodes) add(part, "gpus", "conflict", "either \"gpus\" or \"nodes\"", "both");
    const std::int64_t own = span(part);
    const std::int64_t node = cluster_.node_gpus;
    const std::string key = part.nodes ? "nodes" : "gpus";
    const bool all = own == cluster_.gpu_count();
    if (!all && own % node != 0 && (own > node || node % own != 0)) {
      add(part, key, "out-of-range", fmt::format("a divisor or a multiple of the {} GPUs of a node", node),
          std::to_string(own));
    }
    const std::int64_t under = below == nullptr ? 1 : span(*below);
    if (own < under || (!all && own % under != 0)) {
      add(part, key, "out-of-range", fmt::format("a multiple of the {} GPUs of a {}", under, part.joins),
          std::to_string(own));
    }
    if (part.rail && (own < node || under > node || (below != nullptr && below->rail))) {
      add(part, "rail", "conflict", "parts below that lie inside a node, and \"nodes\"", part.joins);
    }
  }

  void check_reach() {
    const bool all = std::any_of(cluster_.parts.begin(), cluster_.parts.end(), [&](const ClusterPart& part) {
      return !part.rail && !part.storage && span(part) >= cluster_.gpu_count();
    });
    if (all || cluster_.gpu_count() == 1) return;
    found_.push_back(
        {"", "", "parts", "unconnected",
         fmt::format("a part that joins all {} GPUs (without \"gpus\" and \"nodes\")", cluster_.gpu_count()), "none",
         ""});
  }

  const Cluster& cluster_;
  std::vector<ClusterProblem> found_;
};

}  // namespace

Duration CollectiveTable::latency(std::int64_t group_size) const {
  ASSERT(!ranks.empty() && ranks.size() == curves.size(), "{} sizes, {} curves", ranks.size(), curves.size());
  const auto first_time = [&](std::size_t i) { return seconds(curves[i].points.front().time); };
  const std::size_t last = ranks.size() - 1;
  if (group_size > ranks.back() && last > 0) {
    const double slope = (first_time(last) - first_time(last - 1)) / static_cast<double>(ranks[last] - ranks[last - 1]);
    return duration_from_seconds(first_time(last) +
                                 std::max(0.0, slope) * static_cast<double>(group_size - ranks[last]));
  }
  const auto [low, fraction] = place_in_log_grid(ranks, static_cast<double>(group_size));
  if (fraction == 0) return curves[low].points.front().time;
  return duration_from_seconds((1 - fraction) * first_time(low) + fraction * first_time(low + 1));
}

double CollectiveTable::seconds_of_bytes(std::int64_t group_size, double buffer_bytes) const {
  const auto [low, fraction] = place_in_log_grid(ranks, static_cast<double>(group_size));
  const double at_low = curves[low].linear_seconds(buffer_bytes);
  if (fraction == 0) return at_low;
  return (1 - fraction) * at_low + fraction * curves[low + 1].linear_seconds(buffer_bytes);
}

std::vector<ClusterProblem> problems_of(const Cluster& cluster) { return Problems(cluster).all(); }

std::string describe(const Cluster& cluster) {
  const Topology topology(cluster);
  std::string out = fmt::format("Cluster: {} nodes of {} GPUs, {} in all\n", cluster.node_count, cluster.node_gpus,
                                cluster.gpu_count());
  for (std::size_t i = 0; i < cluster.parts.size(); ++i) {
    const ClusterPart& from = cluster.parts[i];
    const Topology::Part& part = topology.parts()[i];
    const double covered = static_cast<double>(topology.gpu_count()) / static_cast<double>(part.attachment_count);
    const double for_gpu = part.attachment_bandwidth / covered;
    out += fmt::format("  {:<14} {:>6} x, each {} {} {} by {} x {} ({}): {} a GPU", from.name, part.instance_count,
                       from.rail ? "a rail of" : "of", part.span / (from.rail ? part.lanes : 1),
                       from.rail ? "nodes' " + from.joins + "s" : "GPUs, " + from.joins + "s attached", from.links,
                       from.link, pretty(part.link.bandwidth), pretty(BytesPerSecond(for_gpu)));
    if (part.below) {
      const Topology::Part& below = topology.parts()[*part.below];
      const double entering = below.attachment_bandwidth * static_cast<double>(below.attachment_count) /
                              static_cast<double>(below.instance_count);
      if (entering > part.attachment_bandwidth) {
        out += fmt::format(", oversubscribed {:.2g} : 1", entering / part.attachment_bandwidth);
      }
    }
    if (from.capacity) out += fmt::format(", {} inside", pretty(*from.capacity));
    if (from.storage) out += ", storage";
    out += "\n";
  }
  return out;
}

std::string_view to_text(LinkKind kind) {
  switch (kind) {
    case LinkKind::NvLink:
      return "nvlink";
    case LinkKind::Pcie:
      return "pcie";
    case LinkKind::Network:
      return "network";
  }
  return "";
}

}  // namespace moecast
