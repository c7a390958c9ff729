#include "sim/joined_members.h"

#include <algorithm>

namespace moecast {

JoinedMembers::JoinedMembers(const Topology& topology) : topology_(topology) {
  for (const Topology::Part& part : topology.parts()) {
    if (part.rail) rail_lanes_ = part.lanes;
  }
  plan_steps();
  number_keys();
}

std::size_t JoinedMembers::cell(std::int64_t block, std::int64_t lanes) {
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    if (cells_[i].block == block && cells_[i].lanes == lanes) return i;
  }
  const std::int64_t blocks = (topology_.gpu_count() + block - 1) / block;
  cells_.push_back({block, lanes, blocks * std::max<std::int64_t>(1, lanes)});
  return cells_.size() - 1;
}

/// The lane of a rail over `rail_block` GPUs inside a block of consecutive ones.
std::size_t JoinedMembers::common_cell(std::int64_t block, std::int64_t rail_block) {
  const std::int64_t node = topology_.node_gpus();
  if (block >= node) return cell(std::min(block, rail_block), rail_lanes_);
  return cell(std::min(block, node / rail_lanes_), 0);
}

void JoinedMembers::plan_steps() {
  std::int64_t block = 1;       // C
  std::int64_t rail_block = 0;  // R; 0: none yet
  std::int64_t ring_block = 1;
  for (const Topology::Part& part : topology_.parts()) {
    Steps steps;
    const std::int64_t span = part.span;
    const bool direct = !part.storage && (part.rail ? span > rail_block && span > block : span > block);
    if (direct && part.rail) {
      steps.joined = {{cell(span, part.lanes), 1}, {common_cell(block, span), -1}};
      if (rail_block > 0) {
        steps.joined.push_back({cell(rail_block, part.lanes), -1});
        steps.joined.push_back({common_cell(block, rail_block), 1});
      }
      rail_block = span;
    } else if (direct) {
      steps.joined = {{cell(span, 0), 1}, {cell(block, 0), -1}};
      if (rail_block > 0) {
        steps.joined.push_back({common_cell(span, rail_block), -1});
        steps.joined.push_back({common_cell(block, rail_block), 1});
      }
      block = span;
    }
    if (!part.storage && span > ring_block) {
      steps.inside = cell(ring_block, 0);
      steps.outside = cell(span, 0);
      if (part.rail) {
        steps.lane_inside = common_cell(ring_block, span);
        steps.lane_outside = cell(span, part.lanes);
      }
      if (!part.rail) ring_block = span;
    }
    steps_.push_back(std::move(steps));
  }
}

void JoinedMembers::number_keys() {
  const std::int64_t node = topology_.node_gpus();
  for (const Cell& cell : cells_) {
    std::vector<std::int32_t>& keys = keys_.emplace_back();
    keys.reserve(static_cast<std::size_t>(topology_.gpu_count()));
    for (std::int64_t first = 0; first < topology_.gpu_count(); first += cell.block) {
      const std::int64_t end = std::min(first + cell.block, topology_.gpu_count());
      const std::int64_t block = first / cell.block;
      for (std::int64_t gpu = first; gpu < end; ++gpu) {
        const std::int64_t key = cell.lanes == 0 ? block : block * cell.lanes + gpu % node / (node / cell.lanes);
        keys.push_back(static_cast<std::int32_t>(key));
      }
    }
  }
}

}  // namespace moecast
