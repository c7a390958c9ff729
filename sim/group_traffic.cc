#include "sim/group_traffic.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/assert.h"

namespace moecast {

namespace {

double sum_of(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

TrafficBuilder::TrafficBuilder(const Topology& topology)
    : topology_(topology), joined_(topology), loads_(topology.capacities().size()) {
  for (const JoinedMembers::Cell& cell : joined_.cells()) {
    counts_.emplace_back(static_cast<std::size_t>(cell.key_count));
  }
  part_of_.resize(loads_.size(), topology.parts().size());
  for (std::size_t part = 0; part < topology.parts().size(); ++part) {
    const Topology::Part& of = topology.parts()[part];
    std::fill_n(part_of_.begin() + of.first_attachment, 2 * of.attachment_count, part);
    for (std::int64_t gpu = 0; gpu < topology.gpu_count(); ++gpu) {
      places_.push_back({topology.uplink(part, gpu), topology.inner(part, gpu).value_or(kNone)});
    }
  }
}

void TrafficBuilder::count_members(std::span<const std::int32_t> gpus, int sign) {
  for (std::size_t cell = 0; cell < counts_.size(); ++cell) {
    for (const std::int32_t gpu : gpus) counts_[cell][joined_.key(cell, gpu)] += sign;
  }
}

void TrafficBuilder::load(std::int32_t resource, double amount) {
  double& sum = loads_[static_cast<std::size_t>(resource)];
  if (amount == 0) return;
  if (sum == 0) loaded_.push_back(resource);
  sum += amount;
}

/// `amount` goes up from the GPU to the part and as much comes down.
void TrafficBuilder::add(std::size_t part, std::int32_t gpu, double amount) {
  for (const std::size_t through : topology_.chain(part)) {
    const Place& at = place(through, gpu);
    load(at.up, amount);
    load(at.up + 1, amount);
    if (at.inner != kNone) load(at.inner, through == part ? amount : 2 * amount);
  }
}

/// Every member sends `unit` in equal parts to the others.
void TrafficBuilder::add_direct(std::span<const std::int32_t> gpus, double unit) {
  if (gpus.size() < 2) return;
  count_members(gpus, 1);
  const double to_each = unit / static_cast<double>(gpus.size() - 1);
  const std::vector<JoinedMembers::Steps>& steps = joined_.steps();
  for (std::size_t part = 0; part < steps.size(); ++part) {
    if (steps[part].joined.empty()) continue;
    for (const std::int32_t gpu : gpus) {
      double joined = 0;
      for (const JoinedMembers::Term& term : steps[part].joined) joined += term.sign * count(term.cell, gpu);
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
    for (std::size_t part = 0; part < joined_.steps().size(); ++part) {
      const JoinedMembers::Steps& steps = joined_.steps()[part];
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

/// As Topology::path().
void TrafficBuilder::add_path(std::int64_t from, std::int64_t to) {
  if (from == to) return;
  const std::size_t top = topology_.joint(from, to);
  for (const std::size_t part : topology_.chain(top)) {
    const Place& sends = place(part, static_cast<std::int32_t>(from));
    const Place& receives = place(part, static_cast<std::int32_t>(to));
    load(sends.up, 1);
    load(receives.up + 1, 1);
    if (sends.inner != kNone) load(sends.inner, 1);
    if (receives.inner != kNone && part != top) load(receives.inner, 1);
  }
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

/// Member i sends scale * sent[i] * received[j] to each other member j.
void TrafficBuilder::add_uneven(std::span<const std::int32_t> gpus, const MemberWeights& weights, double scale) {
  count_members(gpus, 1);
  sent_.resize(counts_.size());
  received_.resize(counts_.size());
  for (std::size_t cell = 0; cell < counts_.size(); ++cell) {
    sent_[cell].resize(counts_[cell].size());
    received_[cell].resize(counts_[cell].size());
    for (const std::int32_t gpu : gpus)
      sent_[cell][joined_.key(cell, gpu)] = received_[cell][joined_.key(cell, gpu)] = 0;
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      sent_[cell][joined_.key(cell, gpus[i])] += weights.sent[i];
      received_[cell][joined_.key(cell, gpus[i])] += weights.received[i];
    }
  }
  for (std::size_t part = 0; part < joined_.steps().size(); ++part) {
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      double others = 0, theirs_sent = 0, theirs_received = 0;
      for (const JoinedMembers::Term& term : joined_.steps()[part].joined) {
        const std::size_t key = joined_.key(term.cell, gpus[i]);
        others += term.sign * counts_[term.cell][key];
        theirs_sent += term.sign * sent_[term.cell][key];
        theirs_received += term.sign * received_[term.cell][key];
      }
      if (others <= 0) continue;
      const double sent = scale * weights.sent[i] * std::max(0.0, theirs_received);
      const double received = scale * weights.received[i] * std::max(0.0, theirs_sent);
      for (const std::size_t through : topology_.chain(part)) {
        const Place& at = place(through, gpus[i]);
        load(at.up, sent);
        load(at.up + 1, received);
        if (at.inner != kNone) load(at.inner, through == part ? sent : sent + received);
      }
    }
  }
  count_members(gpus, -1);
}

/// One level of an exchange in two: to the receiver's place inside the sender's node, or between nodes at one place.
void TrafficBuilder::add_uneven_by(std::span<const std::int32_t> gpus, const MemberWeights& weights, bool by_lane,
                                   double scale) {
  const std::int64_t node = topology_.node_gpus();
  std::map<std::int64_t, double> sent_by_node, received_by_lane;
  std::map<std::int64_t, std::vector<std::size_t>> parts;  // by lane or by node
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    sent_by_node[gpus[i] / node] += weights.sent[i];
    received_by_lane[gpus[i] % node] += weights.received[i];
    parts[by_lane ? gpus[i] % node : gpus[i] / node].push_back(i);
  }
  std::vector<std::int32_t> members;
  MemberWeights own;
  for (const auto& [place, indices] : parts) {
    members.clear();
    own.sent.clear();
    own.received.clear();
    for (const std::size_t i : indices) {
      members.push_back(gpus[i]);
      own.sent.push_back(by_lane ? sent_by_node[gpus[i] / node] : weights.sent[i]);
      own.received.push_back(by_lane ? weights.received[i] : received_by_lane[gpus[i] % node]);
    }
    add_uneven(members, own, scale);
  }
}

void TrafficBuilder::build_uneven(Pattern pattern, std::span<const std::int32_t> gpus, const MemberWeights& weights,
                                  GroupTraffic& traffic) {
  ASSERT(gpus.size() == weights.sent.size() && gpus.size() == weights.received.size() && gpus.size() > 1,
         "{} members, {} and {} weights", gpus.size(), weights.sent.size(), weights.received.size());
  const auto n = static_cast<double>(gpus.size());
  const double all = n / (sum_of(weights.sent) * sum_of(weights.received));  // in buffers of a rank
  const std::int64_t node = topology_.node_gpus();
  const auto same_node =
      std::count_if(gpus.begin(), gpus.end(), [&](std::int32_t gpu) { return gpu / node == gpus.front() / node; });
  const auto k = static_cast<double>(same_node);
  switch (pattern) {  // units as in build(): what leaves a rank in each of them
    case Pattern::Direct:
      add_uneven(gpus, weights, all * n / (n - 1));
      break;
    case Pattern::NodeDirect:
      add_uneven_by(gpus, weights, false, all * k / (k - 1));
      break;
    case Pattern::LaneDirect:
      add_uneven_by(gpus, weights, true, all * n / (n - k));
      break;
    case Pattern::RailOptimised:
      if (k < n) add_uneven_by(gpus, weights, true, all * n / (n - 1));
      if (k > 1) add_uneven_by(gpus, weights, false, all * n / (n - 1));
      break;
    default:
      ASSERT(false, "pattern {} is of no all-to-all", static_cast<int>(pattern));
  }
  write(traffic);
}

void TrafficBuilder::write(GroupTraffic& traffic) {
  traffic.uses.clear();
  traffic.heaviest_load.assign(topology_.parts().size(), 0);
  for (const std::int32_t resource : loaded_) {
    double& amount = loads_[static_cast<std::size_t>(resource)];
    traffic.uses.push_back({ResourceId(resource), amount});
    const std::size_t part = part_of_[static_cast<std::size_t>(resource)];
    if (part < traffic.heaviest_load.size()) {
      traffic.heaviest_load[part] = std::max(traffic.heaviest_load[part], amount);
    }
    amount = 0;
  }
  loaded_.clear();
}

}  // namespace moecast
