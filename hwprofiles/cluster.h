#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "hwprofiles/cost_curve.h"
#include "models/step_plan.h"

namespace moecast {

/// What kind of wire, as NCCL's tuning model tells them apart: latencies of a step depend on it (sim/collectives.h).
enum class LinkKind { NvLink, Pcie, Network };

/// Measured times of one collective in groups that lie inside one instance of a part: a curve of time against the
/// buffer of a rank (bytes) for each measured group size.
struct CollectiveTable {
  std::vector<std::int64_t> ranks;  // ascending
  std::vector<CostCurve> curves;    // as many; times ascend
  /// What passes before the first byte: the time of the smallest buffer. Between group sizes linear in log ranks,
  /// beyond the largest one it grows with ranks as between the last two.
  [[nodiscard]] Duration latency(std::int64_t group_size) const;
  /// The rest of the time, linear in bytes between the points (so it never falls); interpolated as the latency, but
  /// beyond the largest group it stays.
  [[nodiscard]] double seconds_of_bytes(std::int64_t group_size, double buffer_bytes) const;

  friend bool operator==(const CollectiveTable&, const CollectiveTable&) = default;
};

/// A class of links. Numbers are of one direction; links are full duplex.
struct LinkClass {
  LinkKind kind = LinkKind::Network;
  BytesPerSecond bandwidth{0};
  Duration latency{};                                 // of the wire, its adapters and switches, for each crossing
  std::vector<std::pair<double, double>> efficiency;  // (buffer bytes of a rank, fraction of bandwidth), as LinkProfile
  bool multicast = false;                             // the part that it leads to adds and copies (NVLink SHARP)
  std::map<Collective, CollectiveTable> measured;     // of groups inside one instance of the part that it leads to

  friend bool operator==(const LinkClass&, const LinkClass&) = default;
};

/// A kind of vertex of the topology: GPUs or parts "below" it are attached to its instances by links. A cluster is
/// described by its kinds of parts, whatever its size.
struct ClusterPart {
  std::string name;
  std::string joins;       // the part below: "gpu", or one that stands earlier
  std::string link;        // class of the links between each instance below and this part
  std::int64_t links = 1;  // so many of them in parallel
  /// An instance covers so many consecutive GPUs, or so many nodes; neither: the whole cluster. A rail covers the parts
  /// below with one position in their nodes, over `nodes` nodes.
  std::optional<std::int64_t> gpus;
  std::optional<std::int64_t> nodes;
  bool rail = false;
  std::optional<BytesPerSecond> capacity;  // of all that crosses an instance; none: non-blocking
  bool storage = false;                    // GPUs reach it; what they send to each other does not cross it

  friend bool operator==(const ClusterPart&, const ClusterPart&) = default;
};

/// A regular cluster: nodes that are alike and parts that join their GPUs. What two GPUs send to each other crosses the
/// first part of the list that joins them: it goes up from the one through the parts below to their common instance and
/// down to the other.
struct Cluster {
  std::int64_t node_count = 1;
  std::int64_t node_gpus = 1;  // of a node; GPUs are numbered through the nodes
  std::map<std::string, LinkClass> links;
  std::vector<ClusterPart> parts;

  [[nodiscard]] std::int64_t gpu_count() const { return node_count * node_gpus; }

  friend bool operator==(const Cluster&, const Cluster&) = default;
};

/// What is wrong with a part or a link, for a message at its key; `part` and `link` are mutually exclusive, both empty
/// for the cluster as a whole.
struct ClusterProblem {
  std::string part, link;
  std::string key;
  std::string code;
  std::string expected, found, suggestion;
};

/// All that keeps a cluster from being one graph: a part that joins an unknown one, itself or a later one (a cycle), a
/// missing or unused link class, sizes that do not divide, GPUs that nothing joins.
[[nodiscard]] std::vector<ClusterProblem> problems_of(const Cluster& cluster);

/// Lines for people: parts with counts, links, bandwidth for a GPU and oversubscription.
[[nodiscard]] std::string describe(const Cluster& cluster);

[[nodiscard]] std::string_view to_text(LinkKind kind);  // "nvlink", "pcie", "network"

}  // namespace moecast
