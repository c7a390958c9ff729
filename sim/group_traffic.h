#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hwprofiles/topology.h"
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
  /// An unbalanced direct all-to-all, by rank: of what every member sends, one unit, the share received_shares[i] goes
  /// to member i (itself included: that part stays). The shares sum to 1. With equal ones: build(Direct) times
  /// (n - 1) / n.
  void build_unbalanced(std::span<const std::int32_t> gpus, std::span<const double> received_shares,
                        GroupTraffic& traffic);

 private:
  /// A set of GPUs around each GPU: a block of consecutive ones, or those with its lane in such a block.
  struct Cell {
    std::int64_t block = 1;
    std::int64_t lanes = 0;  // in a node; 0: all GPUs of the block
    std::vector<std::int32_t> counts;
    std::vector<double> sums;  // of shares; empty until an unbalanced pattern is built
  };
  struct Term {
    std::size_t cell = 0;
    double sign = 1;
  };
  struct Steps {
    std::vector<Term> joined;                // direct: members that the part joins to a member are the sum over these
    std::optional<std::size_t> inside;       // ring: the block below; none: the part joins nothing new
    std::size_t outside = 0;                 // the block that it makes
    std::optional<std::size_t> lane_inside;  // a rail: members on its lane, in the block below and the new one
    std::size_t lane_outside = 0;
  };

  [[nodiscard]] std::size_t cell(std::int64_t block, std::int64_t lanes);
  [[nodiscard]] std::size_t common_cell(std::int64_t block, std::int64_t rail_block);
  void plan_steps();
  [[nodiscard]] std::int64_t key(const Cell& of, std::int64_t gpu) const;
  [[nodiscard]] double count(std::size_t of, std::int64_t gpu) const;
  void count_members(std::span<const std::int32_t> gpus, int sign);
  void add(std::size_t part, std::int64_t gpu, double load);
  void load(std::int32_t resource, double amount);
  void add_direct(std::span<const std::int32_t> gpus, double unit);
  void add_direct_by(std::span<const std::int32_t> gpus, std::int64_t block, bool by_lane, double unit);
  void add_ring(std::span<const std::int32_t> gpus);
  void add_path(std::int64_t from, std::int64_t to);
  void write(GroupTraffic& traffic);

  const Topology& topology_;
  std::int64_t rail_lanes_ = 0;  // of the cluster's rails, in one node
  std::vector<Cell> cells_;
  std::vector<Steps> steps_;          // by part
  std::vector<double> loads_;         // by resource
  std::vector<std::int32_t> loaded_;  // resources with a load, in the order in which they came
  std::vector<std::int32_t> lane_order_;
};

}  // namespace moecast
