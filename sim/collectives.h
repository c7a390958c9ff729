#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "hwprofiles/profile.h"
#include "hwprofiles/topology.h"
#include "sim/fair_exchange.h"
#include "sim/group_traffic.h"

namespace moecast {

enum class Algorithm {
  Direct,         // all-to-all, point-to-point: every message on its own path
  Hierarchical,   // all-to-all in two phases: inside nodes, then between equal places of nodes
  RailOptimised,  // all-to-all that changes rails inside the sender's node, in one phase
  Ring,
  Tree,  // double binary tree between nodes, a chain inside
  Nvls,  // all-reduce in the NVSwitch
};
enum class Protocol { Ll, Ll128, Simple };  // NCCL's: a flag with every 8 bytes, with every 128, or none

/// Algorithms that a user prescribes; the others are chosen by time.
using AlgorithmChoice = std::map<Collective, Algorithm>;

/// After `latency` every rank sends `bytes`, along `pattern`, all at once.
struct CollectivePhase {
  Pattern pattern = Pattern::Direct;
  Duration latency{};
  double bytes = 0;  // through each rank's port, one direction
  double rate = 0;   // bytes per second when nothing else moves
  double scale = 1;  // load of a byte, in units of the pattern
};
struct CollectiveCost {
  Algorithm algorithm = Algorithm::Direct;
  std::optional<Protocol> protocol;  // of rings and trees
  bool measured = false;             // latency and rate are a measured table's
  std::vector<CollectivePhase> phases;
  [[nodiscard]] Duration time() const;  // alone
};

inline constexpr std::array kAllPatterns = {Pattern::Direct,     Pattern::Ring,          Pattern::NodeDirect,
                                            Pattern::LaneDirect, Pattern::RailOptimised, Pattern::PointToPoint};

/// What the cost of a collective depends on, for one group of GPUs.
struct GroupShape {
  std::int64_t ranks = 1;
  std::int64_t domains = 1;     // blocks (NVLink domains, else nodes) over which it is spread
  std::int64_t per_domain = 1;  // the most members in one
  std::int64_t nodes = 1;
  std::int64_t per_node = 1;
  LinkKind inside = LinkKind::NvLink;      // of the links inside a domain
  bool has_rails = false;                  // a rail joins its nodes
  std::optional<std::size_t> common_part;  // the first part of which one instance holds all members
  Duration wire_inside{}, wire_between{};  // latency of the links on a path inside a domain, between domains
  std::map<Pattern, std::vector<double>> heaviest_load;  // as GroupTraffic, of every pattern that could be used
};

/// Costs of collectives on a topology: closed forms of bytes and steps, NCCL's latencies for each step and protocol
/// (NCCL 2.28 src/graph/tuning.cc: constants and formulas), rates from the slowest link that a pattern loads. In groups
/// inside one instance of a part whose links have a measured table for the collective, the table's latency and rate
/// hold instead. Of the algorithms that fit the fastest is taken, as NCCL's tuner does, unless `choice` prescribes one.
class CollectiveModel {
 public:
  /// `topology` outlives this.
  explicit CollectiveModel(const Topology& topology, AlgorithmChoice choice = {});

  /// `gpus`: ascending (point-to-point: sender, receiver), at least two.
  [[nodiscard]] GroupShape shape(std::span<const std::int32_t> gpus) { return shape(gpus, kAllPatterns); }
  /// The same with the loads of these patterns alone: enough for cost() of collectives that take no other
  /// (patterns_of()).
  [[nodiscard]] GroupShape shape(std::span<const std::int32_t> gpus, std::span<const Pattern> patterns);
  /// For whoever builds more traffic over the same topology.
  [[nodiscard]] TrafficBuilder& traffic_builder();
  [[nodiscard]] CollectiveCost cost(Collective collective, Bytes buffer, const GroupShape& shape) const;
  /// An all-to-all whose members send and receive unequal parts of `buffer`, the mean: the phases of the balanced one,
  /// slower where the busiest link is busier, and the direct one where its messages hold each other up.
  [[nodiscard]] CollectiveCost uneven_all_to_all(Bytes buffer, const GroupShape& shape,
                                                 std::span<const std::int32_t> gpus, const MemberWeights& weights);

 private:
  [[nodiscard]] std::optional<CollectiveCost> measured(Collective collective, Bytes buffer, const GroupShape& s) const;
  [[nodiscard]] CollectiveCost with(Algorithm algorithm, Collective collective, Bytes buffer,
                                    const GroupShape& s) const;
  [[nodiscard]] CollectiveCost all_to_all(Algorithm algorithm, Bytes buffer, const GroupShape& s) const;
  [[nodiscard]] CollectiveCost stepwise(Algorithm algorithm, Protocol protocol, Collective collective, Bytes buffer,
                                        const GroupShape& s) const;
  /// Of the slowest link, loaded as GroupTraffic::heaviest_load says.
  [[nodiscard]] double rate(const std::vector<double>& heaviest_load, double scale, Bytes buffer) const;

  const Topology& topology_;
  AlgorithmChoice choice_;
  std::int64_t domain_gpus_ = 1;
  std::optional<TrafficBuilder> builder_;
  std::optional<FairExchange> fair_;  // of uneven exchanges
  GroupTraffic traffic_;
};

/// Every pattern that cost() could take for groups of this shape.
[[nodiscard]] std::vector<Pattern> patterns_of(Collective collective, const GroupShape& shape,
                                               const AlgorithmChoice& choice);
/// Algorithms that can carry a collective, the default first.
[[nodiscard]] std::vector<Algorithm> algorithms_of(Collective collective);
[[nodiscard]] std::string_view to_text(Algorithm algorithm);  // "rail_optimised"
[[nodiscard]] std::string_view to_text(Protocol protocol);    // "ll", "ll128", "simple"

}  // namespace moecast
