#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hwprofiles/topology.h"
#include "sim/joined_members.h"
#include "sim/sharing.h"

namespace moecast {

/// How the bytes of a collective travel. Each rank sends one unit and receives one (a point-to-point: the first member
/// sends, the second receives).
enum class Pattern {
  Direct,         // all-to-all: an equal part to every other member
  NodeDirect,     // the same among the members inside each node: first level of a hierarchical all-to-all
  LaneDirect,     // among members with one place in their nodes: its second level
  RailOptimised,  // all-to-all whose messages change to the receiver's rail inside the sender's node (NCCL's PXN)
  Ring,           // all to the next member; rings enter and leave every block once and change through its ranks
  PointToPoint,
};

/// How much of an all-to-all each member of a group sends and receives, relative to the others. Integers (rows) keep
/// sums exact.
struct MemberWeights {
  std::vector<double> sent, received;

  friend bool operator==(const MemberWeights&, const MemberWeights&) = default;
};

/// What one unit of a pattern loads, for one group of GPUs.
struct GroupTraffic {
  std::vector<ResourceUse> uses;      // each resource once
  std::vector<double> heaviest_load;  // by part of the topology: of the most loaded of its attachments
};

/// Computes traffic of many groups over one topology; the working memory stays. Cost O(members * parts).
class TrafficBuilder {
 public:
  /// `topology` outlives this.
  explicit TrafficBuilder(const Topology& topology);

  /// `gpus`: the members, ascending (point-to-point: sender, receiver).
  void build(Pattern pattern, std::span<const std::int32_t> gpus, GroupTraffic& traffic);
  /// An uneven all-to-all along Direct, NodeDirect, LaneDirect or RailOptimised: what member i sends to member j is
  /// proportional to weights.sent[i] * weights.received[j] (itself included: that part stays). A unit is what a rank
  /// sends to others in the mean if all weights are equal: then the same as build().
  void build_uneven(Pattern pattern, std::span<const std::int32_t> gpus, const MemberWeights& weights,
                    GroupTraffic& traffic);

 private:
  [[nodiscard]] double count(std::size_t cell, std::int64_t gpu) const { return counts_[cell][joined_.key(cell, gpu)]; }
  /// Of a GPU at a part: its uplink (its downlink is the next) and inner capacity, kNone if there is none.
  struct Place {
    std::int32_t up = 0;
    std::int32_t inner = kNone;
  };
  static constexpr std::int32_t kNone = -1;
  [[nodiscard]] const Place& place(std::size_t part, std::int32_t gpu) const {
    return places_[part * static_cast<std::size_t>(topology_.gpu_count()) + static_cast<std::size_t>(gpu)];
  }
  void count_members(std::span<const std::int32_t> gpus, int sign);
  void add(std::size_t part, std::int32_t gpu, double load);
  void load(std::int32_t resource, double amount);
  void add_direct(std::span<const std::int32_t> gpus, double unit);
  void add_direct_by(std::span<const std::int32_t> gpus, std::int64_t block, bool by_lane, double unit);
  void add_uneven(std::span<const std::int32_t> gpus, const MemberWeights& weights, double scale);
  void add_uneven_by(std::span<const std::int32_t> gpus, const MemberWeights& weights, bool by_lane, double scale);
  void add_ring(std::span<const std::int32_t> gpus);
  void add_path(std::int64_t from, std::int64_t to);
  void write(GroupTraffic& traffic);

  const Topology& topology_;
  JoinedMembers joined_;
  std::vector<Place> places_;                         // [part][gpu]
  std::vector<std::size_t> part_of_;                  // by resource; the number of parts: an inner capacity
  std::vector<std::vector<std::int32_t>> counts_;     // [cell][key]: members
  std::vector<std::vector<double>> sent_, received_;  // [cell][key]: sums of weights; of uneven patterns
  std::vector<double> loads_;                         // by resource
  std::vector<std::int32_t> loaded_;                  // resources with a load, in the order in which they came
  std::vector<std::int32_t> lane_order_;
};

}  // namespace moecast
