#include "sim/collectives.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/assert.h"

namespace moecast {
namespace {

// NCCL 2.28 src/graph/tuning.cc, microseconds by protocol LL, LL128, Simple.
constexpr double kBaseRing[] = {6.6, 14.0, 8.4};
constexpr double kBaseTree[] = {6.8, 14.0, 8.4};
constexpr double kStepRing[3][3] = {{0.6, 1.9, 3.4}, {1.0, 2.5, 5.7}, {2.7, 4.0, 14.0}};  // [LinkKind][Protocol]
constexpr double kStepTree[3][3] = {{0.6, 1.25, 4.0}, {1.0, 1.9, 4.0}, {5.0, 8.5, 14.0}};
constexpr double kNvlsLatency = 25.0;
constexpr double kRingSimpleBetweenNodes = 1.4;  // on the latency of an all-reduce
// Shares of the links' bandwidth.
constexpr double kRingShare[] = {0.5, 0.92, 1.0};
constexpr double kTreeShare = 0.92;
constexpr double kTreeLl = 1 / 3.8, kTreeLl128Inside = 7.0 / 9, kTreeLl128Between = 120.0 / 128;
constexpr double kNvlsShare = 0.85;
// NCCL has no model of send and receive. Assumed: measured 8-rank all-to-alls and what further peers add to them
// (NVIDIA/nccl contrib/custom_algos/alltoall: 11.75 us at 8 ranks, 28.2 us at 32).
constexpr double kDirectLatency = 12.0, kDirectPeer = 0.69, kDirectFreePeers = 7;
constexpr double kStagedLatency = 15.0, kStagedPeer = 2.0;  // through host memory
constexpr double kSendLatency = 8.0;

Duration microseconds(double value) { return duration_from_seconds(value * 1e-6); }

double log2_up(std::int64_t value) {
  double steps = 0;
  for (std::int64_t reached = 1; reached < value; reached *= 2) ++steps;
  return steps;
}

Duration direct_latency(std::int64_t peers, LinkKind inside) {
  const auto count = static_cast<double>(peers);
  if (inside == LinkKind::Pcie) return microseconds(kStagedLatency + kStagedPeer * count);
  return microseconds(kDirectLatency + kDirectPeer * std::max(0.0, count - kDirectFreePeers));
}

double share(Algorithm algorithm, Protocol protocol, std::int64_t domains) {
  if (algorithm == Algorithm::Ring) return kRingShare[static_cast<std::size_t>(protocol)];
  if (protocol == Protocol::Ll) return kTreeShare * kTreeLl;
  if (protocol == Protocol::Ll128) return kTreeShare * (domains == 1 ? kTreeLl128Inside : kTreeLl128Between);
  return kTreeShare;
}

/// Steps of a ring that stay inside domains, and that lead from one to another.
std::pair<double, double> ring_steps(Collective collective, const GroupShape& s) {
  const double rounds = collective == Collective::AllReduce ? 2 : 1;
  const double all = rounds * static_cast<double>(s.ranks - 1);
  const double between = rounds * static_cast<double>(s.domains - 1);
  return {all - between, between};
}

Duration step_latency(Algorithm algorithm, Protocol protocol, Collective collective, const GroupShape& s) {
  const auto p = static_cast<std::size_t>(protocol);
  const auto kind = static_cast<std::size_t>(s.inside);
  const auto net = static_cast<std::size_t>(LinkKind::Network);
  const double flights = protocol == Protocol::Simple ? 2 : 1;
  const double wire_between = flights * seconds(s.wire_between) * 1e6;
  const double wire_inside = seconds(s.wire_inside) * 1e6;
  if (algorithm == Algorithm::Ring) {
    const auto [inside, between] = ring_steps(collective, s);
    double time =
        kBaseRing[p] + inside * (kStepRing[kind][p] + wire_inside) + between * (kStepRing[net][p] + wire_between);
    const bool slow = protocol == Protocol::Simple && s.domains > 1 && collective == Collective::AllReduce;
    return microseconds(slow ? kRingSimpleBetweenNodes * time : time);
  }
  const double chain = static_cast<double>(s.per_domain - 1) * (kStepTree[kind][p] + wire_inside);
  const double levels = log2_up(s.domains) * (kStepTree[net][p] + wire_between);
  return microseconds(kBaseTree[p] + 2 * (chain + levels));
}

}  // namespace

Duration CollectiveCost::time() const {
  Duration total{};
  for (const CollectivePhase& phase : phases) {
    total += phase.latency;
    if (phase.bytes > 0) total += duration_from_seconds(phase.bytes / phase.rate);
  }
  return total;
}

CollectiveModel::CollectiveModel(const Topology& topology, AlgorithmChoice choice)
    : topology_(topology), choice_(std::move(choice)), domain_gpus_(topology.node_gpus()) {
  for (const Topology::Part& part : topology.parts()) {
    if (part.link.kind == LinkKind::NvLink && !part.storage) domain_gpus_ = std::max(domain_gpus_, part.span);
  }
}

TrafficBuilder& CollectiveModel::traffic_builder() {
  if (!builder_) builder_.emplace(topology_);
  return *builder_;
}

GroupShape CollectiveModel::shape(std::span<const std::int32_t> gpus, std::span<const Pattern> patterns) {
  ASSERT(gpus.size() >= 2, "{} members", gpus.size());
  GroupShape s;
  s.ranks = static_cast<std::int64_t>(gpus.size());
  std::map<std::int64_t, std::int64_t> domains, nodes;
  for (const std::int32_t gpu : gpus) {
    s.per_domain = std::max(s.per_domain, ++domains[gpu / domain_gpus_]);
    s.per_node = std::max(s.per_node, ++nodes[gpu / topology_.node_gpus()]);
  }
  s.domains = static_cast<std::int64_t>(domains.size());
  s.nodes = static_cast<std::int64_t>(nodes.size());
  for (std::size_t part = 0; part < topology_.parts().size(); ++part) {
    if (topology_.parts()[part].storage) continue;
    if (topology_.parts()[part].rail && s.nodes > 1) s.has_rails = true;
    const std::int64_t home = topology_.instance(part, gpus.front());
    const bool holds =
        std::all_of(gpus.begin(), gpus.end(), [&](std::int32_t gpu) { return topology_.instance(part, gpu) == home; });
    if (holds && !s.common_part) s.common_part = part;
  }
  const auto wire = [&](std::int64_t a, std::int64_t b) {
    Duration total{};
    for (const std::size_t part : topology_.chain(topology_.joint(a, b))) total += topology_.parts()[part].link.latency;
    return total;
  };
  for (std::size_t i = 1; i < gpus.size(); ++i) {  // neighbours: the hops of a ring
    const bool within = gpus[i] / domain_gpus_ == gpus[i - 1] / domain_gpus_;
    Duration& longest = within ? s.wire_inside : s.wire_between;
    longest = std::max(longest, wire(gpus[i - 1], gpus[i]));
    if (within) s.inside = topology_.parts()[topology_.joint(gpus[i - 1], gpus[i])].link.kind;
  }
  const bool pair = gpus.size() == 2;
  for (const Pattern pattern : patterns) {
    if (pattern == Pattern::PointToPoint && !pair) continue;
    const bool levels = pattern == Pattern::NodeDirect || pattern == Pattern::LaneDirect;
    if ((levels || pattern == Pattern::RailOptimised) && (s.nodes == 1 || s.per_node == 1)) continue;
    if (gpus.front() > gpus.back() && pattern != Pattern::PointToPoint) continue;
    traffic_builder().build(pattern, gpus, traffic_);
    s.heaviest_load[pattern] = traffic_.heaviest_load;
  }
  return s;
}

double CollectiveModel::rate(const std::vector<double>& heaviest, double scale, Bytes buffer) const {
  double slowest = std::numeric_limits<double>::infinity();
  for (std::size_t part = 0; part < heaviest.size(); ++part) {
    if (heaviest[part] == 0) continue;
    const Topology::Part& through = topology_.parts()[part];
    const LinkProfile curve{Duration(0), BytesPerSecond(1), through.link.efficiency};
    const double usable = through.attachment_bandwidth * curve.efficiency_at(buffer.value());
    slowest = std::min(slowest, usable / (heaviest[part] * scale));
  }
  return slowest;
}

std::optional<CollectiveCost> CollectiveModel::measured(Collective collective, Bytes buffer,
                                                        const GroupShape& s) const {
  if (!s.common_part) return std::nullopt;
  const LinkClass& link = topology_.parts()[*s.common_part].link;
  const auto found = link.measured.find(collective);
  if (found == link.measured.end()) return std::nullopt;
  CollectiveCost cost;
  cost.measured = true;
  const bool ring = collective != Collective::AllToAll && collective != Collective::PointToPoint;
  cost.algorithm = ring ? Algorithm::Ring : Algorithm::Direct;
  CollectivePhase phase;
  phase.pattern = ring                                     ? Pattern::Ring
                  : collective == Collective::PointToPoint ? Pattern::PointToPoint
                                                           : Pattern::Direct;
  phase.latency = found->second.latency(s.ranks);
  const double time = found->second.seconds_of_bytes(s.ranks, buffer.value());
  if (time > 0) {
    phase.bytes = port_bytes(collective, buffer, s.ranks);
    phase.rate = phase.bytes / time;
    // What was measured fits through the links, whatever reduces or multiplies on the way.
    double room = std::numeric_limits<double>::infinity();
    for (std::size_t part = 0; part < topology_.parts().size(); ++part) {
      const double load = s.heaviest_load.at(phase.pattern)[part];
      if (load > 0) room = std::min(room, topology_.parts()[part].attachment_bandwidth / (load * phase.rate));
    }
    phase.scale = std::min(1.0, room);
    if (room < 1) phase.scale = std::nextafter(std::nextafter(phase.scale, 0), 0);
  }
  cost.phases = {phase};
  return cost;
}

CollectiveCost CollectiveModel::all_to_all(Algorithm algorithm, Bytes buffer, const GroupShape& s) const {
  const auto part_of = [](std::int64_t ranks) { return static_cast<double>(ranks - 1) / static_cast<double>(ranks); };
  const LinkKind between = s.domains > 1 ? LinkKind::Network : s.inside;
  const auto phase = [&](Pattern pattern, double fraction, Duration latency) {
    return CollectivePhase{pattern, latency, buffer.value() * fraction, rate(s.heaviest_load.at(pattern), 1, buffer),
                           1};
  };
  CollectiveCost cost;
  cost.algorithm = algorithm;
  if (algorithm == Algorithm::Hierarchical) {
    cost.phases = {
        phase(Pattern::NodeDirect, part_of(s.per_node), direct_latency(s.per_node - 1, s.inside) + s.wire_inside),
        phase(Pattern::LaneDirect, part_of(s.nodes), direct_latency(s.nodes - 1, between) + s.wire_between)};
  } else if (algorithm == Algorithm::RailOptimised) {
    const Duration latency = direct_latency(s.per_node - 1 + s.nodes - 1, between) + s.wire_inside + s.wire_between;
    cost.phases = {phase(Pattern::RailOptimised, part_of(s.ranks), latency)};
  } else {
    const Duration wire = s.domains > 1 ? s.wire_between : s.wire_inside;
    cost.phases = {phase(Pattern::Direct, part_of(s.ranks), direct_latency(s.ranks - 1, between) + wire)};
  }
  return cost;
}

CollectiveCost CollectiveModel::stepwise(Algorithm algorithm, Protocol protocol, Collective collective, Bytes buffer,
                                         const GroupShape& s) const {
  const auto n = static_cast<double>(s.ranks);
  CollectiveCost cost;
  cost.algorithm = algorithm;
  CollectivePhase phase;
  phase.pattern = Pattern::Ring;
  phase.bytes = port_bytes(collective, buffer, s.ranks);
  if (algorithm == Algorithm::Nvls) {
    // A rank sends its buffer, which the switch adds to the others', and its 1/n of the sum, which the switch spreads.
    phase.scale = (n + 1) / (2 * (n - 1));
    phase.latency = microseconds(kNvlsLatency);
    phase.rate = kNvlsShare * rate(s.heaviest_load.at(phase.pattern), phase.scale, buffer);
  } else {
    // Both trees together pass every byte up and down once: 2 B, against 2 B (n - 1) / n of a ring.
    if (algorithm == Algorithm::Tree) phase.scale = n / (n - 1);
    cost.protocol = protocol;
    phase.latency = step_latency(algorithm, protocol, collective, s);
    phase.rate = share(algorithm, protocol, s.domains) * rate(s.heaviest_load.at(phase.pattern), phase.scale, buffer);
  }
  cost.phases = {phase};
  return cost;
}

CollectiveCost CollectiveModel::with(Algorithm algorithm, Collective collective, Bytes buffer,
                                     const GroupShape& s) const {
  if (collective == Collective::AllToAll) return all_to_all(algorithm, buffer, s);
  if (collective == Collective::PointToPoint) {
    const Duration wire = s.domains > 1 ? s.wire_between : s.wire_inside;
    CollectiveCost cost;
    cost.phases = {{Pattern::PointToPoint, microseconds(kSendLatency) + wire, buffer.value(),
                    rate(s.heaviest_load.at(Pattern::PointToPoint), 1, buffer), 1}};
    return cost;
  }
  if (algorithm == Algorithm::Nvls) return stepwise(algorithm, Protocol::Simple, collective, buffer, s);
  std::optional<CollectiveCost> best;
  for (const Protocol protocol : {Protocol::Simple, Protocol::Ll128, Protocol::Ll}) {
    if (protocol == Protocol::Ll128 && s.inside == LinkKind::Pcie) continue;  // its stores are not kept together there
    CollectiveCost candidate = stepwise(algorithm, protocol, collective, buffer, s);
    if (!best || candidate.time() < best->time()) best = std::move(candidate);
  }
  return *best;
}

CollectiveCost CollectiveModel::cost(Collective collective, Bytes buffer, const GroupShape& s) const {
  const auto fits = [&](Algorithm algorithm) {
    const bool levels = s.nodes > 1 && s.per_node > 1;
    if (algorithm == Algorithm::Hierarchical) return levels;
    if (algorithm == Algorithm::RailOptimised) return levels && s.has_rails;
    if (algorithm == Algorithm::Nvls) {
      return s.domains == 1 && s.common_part && topology_.parts()[*s.common_part].link.multicast;
    }
    return true;
  };
  const auto chosen = choice_.find(collective);
  if (chosen != choice_.end() && fits(chosen->second)) return with(chosen->second, collective, buffer, s);
  if (chosen == choice_.end()) {
    if (std::optional<CollectiveCost> table = measured(collective, buffer, s)) return *std::move(table);
  }
  std::optional<CollectiveCost> best;
  for (const Algorithm algorithm : algorithms_of(collective)) {
    if (!fits(algorithm) || algorithm == Algorithm::Hierarchical) continue;  // NCCL has no two-level all-to-all
    CollectiveCost candidate = with(algorithm, collective, buffer, s);
    if (!best || candidate.time() < best->time()) best = std::move(candidate);
  }
  return *best;
}

CollectiveCost CollectiveModel::uneven_all_to_all(Bytes buffer, const GroupShape& shape,
                                                  std::span<const std::int32_t> gpus, const MemberWeights& weights) {
  CollectiveCost cost = this->cost(Collective::AllToAll, buffer, shape);
  for (CollectivePhase& phase : cost.phases) {
    traffic_builder().build_uneven(phase.pattern, gpus, weights, traffic_);
    phase.rate *= rate(traffic_.heaviest_load, phase.scale, buffer) /
                  rate(shape.heaviest_load.at(phase.pattern), phase.scale, buffer);
    if (phase.pattern != Pattern::Direct) continue;
    if (!fair_) fair_.emplace(topology_);
    // Links are as fast up as down: unequal senders are unequal receivers with time turned round.
    const auto differ = [](const std::vector<double>& all) {
      return std::adjacent_find(all.begin(), all.end(), std::not_equal_to<>()) != all.end();
    };
    phase.rate /= fair_->slowdown(gpus, differ(weights.received) ? weights.received : weights.sent);
  }
  return cost;
}

std::vector<Pattern> patterns_of(Collective collective, const GroupShape& shape, const AlgorithmChoice& choice) {
  if (collective == Collective::PointToPoint) return {Pattern::PointToPoint};
  if (collective != Collective::AllToAll) return {Pattern::Ring};
  std::vector<Pattern> patterns = {Pattern::Direct};
  if (shape.nodes == 1 || shape.per_node == 1) return patterns;
  const auto chosen = choice.find(collective);
  if (chosen == choice.end() || chosen->second == Algorithm::RailOptimised) patterns.push_back(Pattern::RailOptimised);
  if (chosen != choice.end() && chosen->second == Algorithm::Hierarchical) {
    patterns.insert(patterns.end(), {Pattern::NodeDirect, Pattern::LaneDirect});
  }
  return patterns;
}

std::vector<Algorithm> algorithms_of(Collective collective) {
  switch (collective) {
    case Collective::AllToAll:
      return {Algorithm::Direct, Algorithm::RailOptimised, Algorithm::Hierarchical};
    case Collective::AllReduce:
      return {Algorithm::Ring, Algorithm::Tree, Algorithm::Nvls};
    case Collective::PointToPoint:
      return {Algorithm::Direct};
    case Collective::ReduceScatter:
    case Collective::AllGather:
    case Collective::Broadcast:
      return {Algorithm::Ring};
  }
  return {};
}

std::string_view to_text(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::Direct:
      return "direct";
    case Algorithm::Hierarchical:
      return "hierarchical";
    case Algorithm::RailOptimised:
      return "rail_optimised";
    case Algorithm::Ring:
      return "ring";
    case Algorithm::Tree:
      return "tree";
    case Algorithm::Nvls:
      return "nvls";
  }
  return "";
}

std::string_view to_text(Protocol protocol) {
  switch (protocol) {
    case Protocol::Ll:
      return "ll";
    case Protocol::Ll128:
      return "ll128";
    case Protocol::Simple:
      return "simple";
  }
  return "";
}

}  // namespace moecast
