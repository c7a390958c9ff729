#include "sim/group_traffic.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

// Which part carries a pair is decided by the list of parts: the first that joins the two. Seen from one GPU every part
// joins a set around it, a block of consecutive GPUs or a lane of such a block, and blocks are nested, lanes too. So
// the members that a part is the first to join are counted by inclusion and exclusion over at most four such sets: with
// C the largest block and R the largest lane before it, a new set S adds |S| - |S n C| - |S n R| + |S n C n R|.

TrafficBuilder::TrafficBuilder(const Topology& topology) : topology_(topology), loads_(topology.capacities().size()) {
  for (const Topology::Part& part : topology.parts()) {
    if (part.rail) rail_lanes_ = part.lanes;
  }
  plan_steps();
}

std::size_t TrafficBuilder::cell(std::int64_t block, std::int64_t lanes) {
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    if (cells_[i].block == block && cells_[i].lanes == lanes) return i;
  }
  const std::int64_t blocks = (topology_.gpu_count() + block - 1) / block;
  const auto keys = static_cast<std::size_t>(blocks * std::max<std::int64_t>(1, lanes));
  cells_.push_back({block, lanes, std::vector<std::int32_t>(keys), {}});
  return cells_.size() - 1;
}

/// The lane of a rail over `rail_block` GPUs inside a block of consecutive ones.
std::size_t TrafficBuilder::common_cell(std::int64_t block, std::int64_t rail_block) {
  const std::int64_t node = topology_.node_gpus();
  if (block >= node) return cell(std::min(block, rail_block), rail_lanes_);
  return cell(std::min(block, node / rail_lanes_), 0);
}

void TrafficBuilder::plan_steps() {
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

std::int64_t TrafficBuilder::key(const Cell& of, std::int64_t gpu) const {
  const std::int64_t block = gpu / of.block;
  if (of.lanes == 0) return block;
  const std::int64_t node = topology_.node_gpus();
  return block * of.lanes + gpu % node / (node / of.lanes);
}

double TrafficBuilder::count(std::size_t of, std::int64_t gpu) const {
  return cells_[of].counts[static_cast<std::size_t>(key(cells_[of], gpu))];
}

void TrafficBuilder::count_members(std::span<const std::int32_t> gpus, int sign) {
  for (Cell& each : cells_) {
    for (const std::int32_t gpu : gpus) each.counts[static_cast<std::size_t>(key(each, gpu))] += sign;
  }
}

void TrafficBuilder::load(std::int32_t resource, double amount) {
  double& sum = loads_[static_cast<std::size_t>(resource)];
  if (amount == 0) return;
  if (sum == 0) loaded_.push_back(resource);
  sum += amount;
}

/// `amount` goes up from the GPU to the part and as much comes down.
void TrafficBuilder::add(std::size_t part, std::int64_t gpu, double amount) {
  for (const std::size_t through : topology_.chain(part)) {
    load(topology_.uplink(through, gpu), amount);
    load(topology_.downlink(through, gpu), amount);
    if (const auto inner = topology_.inner(through, gpu)) load(*inner, through == part ? amount : 2 * amount);
  }
}

/// Every member sends `unit` in equal parts to the others.
void TrafficBuilder::add_direct(std::span<const std::int32_t> gpus, double unit) {
  if (gpus.size() < 2) return;
  count_members(gpus, 1);
  const double to_each = unit / static_cast<double>(gpus.size() - 1);
  for (std::size_t part = 0; part < steps_.size(); ++part) {
    if (steps_[part].joined.empty()) continue;
    for (const std::int32_t gpu : gpus) {
      double joined = 0;
      for (const Term& term : steps_[part].joined) joined += term.sign * count(term.cell, gpu);
      if (joined > 0) add(part, gpu, joined * to_each);
    }
  }
  count_members(gpus, -1);
}

/// Direct inside each block of `block` GPUs, or among members with one place in their blocks; a member sends as much of
/// `unit` as others of the whole group lie there: unit * (k - 1) / (n - 1) * n / k for k of n members by block.
void TrafficBuilder::add_direct_by(std::span<const std::int32_t> gpus, std::int64_t block, bool by_lane, double unit) {
  lane_order_.assign(gpus.begin(), gpus.end());
  const auto place = [&](std::int32_t gpu) { return by_lane ? gpu % block : gpu / block; };
  std::stable_sort(lane_order_.begin(), lane_order_.end(),
                   [&](std::int32_t a, std::int32_t b) { return place(a) < place(b); });
  for (std::size_t first = 0, last = 0; first < lane_order_.size(); first = last) {
    while (last < lane_order_.size() && place(lane_order_[last]) == place(lane_order_[first])) ++last;
    add_direct(std::span(lane_order_).subspan(first, last - first), unit);
  }
}

/// Of all hops of a ring that visits the blocks one after another, each block of k members is left by one in k: so a
/// member sends 1 / k beyond its block, and what does not leave the next larger one crosses the part that joins there.
void TrafficBuilder::add_ring(std::span<const std::int32_t> gpus) {
  count_members(gpus, 1);
  const auto all = static_cast<double>(gpus.size());
  for (const std::int32_t gpu : gpus) {
    double inside = 1;  // members of the block that the ring has filled
    for (std::size_t part = 0; part < steps_.size(); ++part) {
      const Steps& steps = steps_[part];
      if (!steps.inside) continue;
      const double outside = count(steps.outside, gpu);
      const bool lane_ends =
          steps.lane_inside && count(steps.lane_outside, gpu) <= std::max(1.0, count(*steps.lane_inside, gpu));
      if (outside <= inside || lane_ends) continue;
      add(part, gpu, 1 / inside - (outside < all ? 1 / outside : 0));
      inside = outside;
    }
  }
  count_members(gpus, -1);
}

void TrafficBuilder::add_path(std::int64_t from, std::int64_t to) {
  for (const std::int32_t resource : topology_.path(from, to)) load(resource, 1);
}

void TrafficBuilder::build(Pattern pattern, std::span<const std::int32_t> gpus, GroupTraffic& traffic) {
  const std::int64_t node = topology_.node_gpus();
  switch (pattern) {
    case Pattern::Direct:
      add_direct(gpus, 1);
      break;
    case Pattern::NodeDirect:
      add_direct_by(gpus, node, false, 1);
      break;
    case Pattern::LaneDirect:
      add_direct_by(gpus, node, true, 1);
      break;
    case Pattern::RailOptimised: {
      // k of n members share a node: (n - k) / (n - 1) of the bytes leave it on the receiver's lane, and of all bytes
      // to other lanes, n (k - 1) / (k (n - 1)), each crosses the node once.
      const auto n = static_cast<double>(gpus.size());
      const auto same_node =
          std::count_if(gpus.begin(), gpus.end(), [&](std::int32_t gpu) { return gpu / node == gpus.front() / node; });
      const auto k = static_cast<double>(same_node);
      if (k < n) add_direct_by(gpus, node, true, (n - k) / (n - 1));
      if (k > 1) add_direct_by(gpus, node, false, n * (k - 1) / (k * (n - 1)));
      break;
    }
    case Pattern::Ring:
      add_ring(gpus);
      break;
    case Pattern::PointToPoint:
      ASSERT(gpus.size() == 2, "{} ends", gpus.size());
      add_path(gpus[0], gpus[1]);
      break;
  }
  write(traffic);
}

void TrafficBuilder::build_unbalanced(std::span<const std::int32_t> gpus, std::span<const double> received_shares,
                                      GroupTraffic& traffic) {
  ASSERT(gpus.size() == received_shares.size(), "{} members, {} shares", gpus.size(), received_shares.size());
  count_members(gpus, 1);
  for (Cell& each : cells_) {
    each.sums.assign(each.counts.size(), 0);
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      each.sums[static_cast<std::size_t>(key(each, gpus[i]))] += received_shares[i];
    }
  }
  for (std::size_t part = 0; part < steps_.size(); ++part) {
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      double senders = 0, sent = 0;
      for (const Term& term : steps_[part].joined) {
        const Cell& of = cells_[term.cell];
        const auto at = static_cast<std::size_t>(key(of, gpus[i]));
        senders += term.sign * of.counts[at];
        sent += term.sign * of.sums[at];
      }
      if (senders <= 0) continue;
      const double received = senders * received_shares[i];
      for (const std::size_t through : topology_.chain(part)) {
        load(topology_.uplink(through, gpus[i]), std::max(0.0, sent));
        load(topology_.downlink(through, gpus[i]), received);
        const auto inner = topology_.inner(through, gpus[i]);
        if (inner) load(*inner, std::max(0.0, sent) + (through == part ? 0 : received));
      }
    }
  }
  count_members(gpus, -1);
  write(traffic);
}

void TrafficBuilder::write(GroupTraffic& traffic) {
  traffic.uses.clear();
  traffic.heaviest_load.assign(topology_.parts().size(), 0);
  for (const std::int32_t resource : loaded_) {
    double& amount = loads_[static_cast<std::size_t>(resource)];
    traffic.uses.push_back({ResourceId(resource), amount});
    for (std::size_t part = 0; part < topology_.parts().size(); ++part) {
      const std::int64_t attached = resource - topology_.parts()[part].first_attachment;
      if (attached < 0 || attached >= 2 * topology_.parts()[part].attachment_count) continue;
      traffic.heaviest_load[part] = std::max(traffic.heaviest_load[part], amount);
    }
    amount = 0;
  }
  loaded_.clear();
}

}  // namespace moecast
