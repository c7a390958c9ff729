#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "hwprofiles/topology.h"

namespace moecast {

/// Whom each part of a topology joins to a GPU, in sets that can be counted.
///
/// Which part carries a pair is decided by the list of parts: the first that joins the two. Seen from one GPU every
/// part joins a set around it, a block of consecutive GPUs or a lane of such a block, and blocks are nested, lanes too.
/// So the members that a part is the first to join are counted by inclusion and exclusion over at most four such sets:
/// with C the largest block and R the largest lane before it, a new set S adds |S| - |S n C| - |S n R| + |S n C n R|.
class JoinedMembers {
 public:
  /// `topology` outlives this.
  explicit JoinedMembers(const Topology& topology);

  /// A set of GPUs around each GPU: a block of consecutive ones, or those with its lane in such a block.
  struct Cell {
    std::int64_t block = 1;
    std::int64_t lanes = 0;      // in a node; 0: all GPUs of the block
    std::int64_t key_count = 0;  // of such sets
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

  [[nodiscard]] const std::vector<Cell>& cells() const { return cells_; }
  [[nodiscard]] const std::vector<Steps>& steps() const { return steps_; }  // by part
  /// Number of the set around a GPU.
  [[nodiscard]] std::size_t key(std::size_t cell, std::int64_t gpu) const {
    return static_cast<std::size_t>(keys_[cell][static_cast<std::size_t>(gpu)]);
  }

 private:
  [[nodiscard]] std::size_t cell(std::int64_t block, std::int64_t lanes);
  [[nodiscard]] std::size_t common_cell(std::int64_t block, std::int64_t rail_block);
  void plan_steps();
  void number_keys();

  const Topology& topology_;
  std::int64_t rail_lanes_ = 0;  // of the cluster's rails, in one node
  std::vector<Cell> cells_;
  std::vector<Steps> steps_;
  std::vector<std::vector<std::int32_t>> keys_;  // [cell][gpu]
};

}  // namespace moecast
