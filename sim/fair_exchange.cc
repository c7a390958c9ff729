#include "sim/fair_exchange.h"

#include <algorithm>
#include <limits>

#include "base/assert.h"

namespace moecast {
namespace {

constexpr double kTogether = 0.002;  // ends within this part of the busiest link's time are one event
constexpr double kSaturated = 1e-9;  // what may be left of a capacity that is used up
constexpr std::int32_t kNone = -1;

}  // namespace

FairExchange::FairExchange(const Topology& topology)
    : topology_(topology),
      joined_(topology),
      local_of_(topology.capacities().size(), kNone),
      keys_(joined_.cells().size()),
      sums_(joined_.cells().size()) {
  for (std::size_t part = 0; part < joined_.steps().size(); ++part) {
    if (!joined_.steps()[part].joined.empty()) direct_.push_back(part);
  }
}

std::int32_t FairExchange::local(std::int32_t resource) {
  std::int32_t& number = local_of_[static_cast<std::size_t>(resource)];
  if (number == kNone) {
    number = static_cast<std::int32_t>(numbered_.size());
    numbered_.push_back(resource);
    capacities_.push_back(topology_.capacities()[static_cast<std::size_t>(resource)]);
  }
  return number;
}

void FairExchange::number_resources(std::span<const std::int32_t> gpus) {
  for (const std::int32_t resource : numbered_) local_of_[static_cast<std::size_t>(resource)] = kNone;
  numbered_.clear();
  capacities_.clear();
  places_.assign(topology_.parts().size() * member_count_, {});
  for (std::size_t part = 0; part < topology_.parts().size(); ++part) {
    if (topology_.parts()[part].storage) continue;
    for (std::size_t i = 0; i < member_count_; ++i) {
      Place& place = places_[row(part, i)];
      place = {local(topology_.uplink(part, gpus[i])), local(topology_.downlink(part, gpus[i])), kNone};
      if (const auto inner = topology_.inner(part, gpus[i])) place.inner = local(*inner);
    }
  }
}

void FairExchange::number_keys(std::span<const std::int32_t> gpus) {
  std::vector<std::size_t> seen;
  for (std::size_t cell = 0; cell < keys_.size(); ++cell) {
    seen.clear();
    for (const std::int32_t gpu : gpus) seen.push_back(joined_.key(cell, gpu));
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    keys_[cell].clear();
    for (const std::int32_t gpu : gpus) {
      const auto found = std::lower_bound(seen.begin(), seen.end(), joined_.key(cell, gpu));
      keys_[cell].push_back(static_cast<std::int32_t>(found - seen.begin()));
    }
    sums_[cell].assign(seen.size(), 0);
  }
}

/// joined_sum_[i] = the sum of values[j] over the members j that the part joins to member i.
void FairExchange::sum_joined(std::size_t part, std::span<const double> values) {
  joined_sum_.assign(member_count_, 0);
  for (const JoinedMembers::Term& term : joined_.steps()[part].joined) {
    std::vector<double>& sums = sums_[term.cell];
    const std::vector<std::int32_t>& keys = keys_[term.cell];
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t i = 0; i < member_count_; ++i) sums[static_cast<std::size_t>(keys[i])] += values[i];
    for (std::size_t i = 0; i < member_count_; ++i) {
      joined_sum_[i] += term.sign * sums[static_cast<std::size_t>(keys[i])];
    }
  }
}

/// load_ = what all messages load together, values[row] each.
void FairExchange::load(std::span<const double> values) {
  load_.assign(capacities_.size(), 0);
  const auto add = [&](std::int32_t resource, double amount) {
    if (resource != kNone) load_[static_cast<std::size_t>(resource)] += amount;
  };
  for (const std::size_t part : direct_) {
    sum_joined(part, values.subspan(row(part, 0), member_count_));
    for (const std::size_t through : topology_.chain(part)) {
      for (std::size_t i = 0; i < member_count_; ++i) {
        const Place& place = places_[row(through, i)];
        const double received = values[row(part, i)] * senders_[row(part, i)];
        add(place.up, joined_sum_[i]);
        add(place.down, received);
        add(place.inner, through == part ? joined_sum_[i] : joined_sum_[i] + received);
      }
    }
  }
}

/// Rows that cross a link without free capacity stop rising.
void FairExchange::freeze(double level) {
  const auto full = [&](std::int32_t resource) {
    if (resource == kNone) return false;
    const auto at = static_cast<std::size_t>(resource);
    return load_[at] > 0 && free_[at] <= kSaturated * capacities_[at];
  };
  for (const std::size_t part : direct_) {
    flags_.assign(member_count_, 0);  // senders whose links are full
    for (const std::size_t through : topology_.chain(part)) {
      for (std::size_t i = 0; i < member_count_; ++i) {
        const Place& place = places_[row(through, i)];
        if (full(place.up) || full(place.inner)) flags_[i] = 1;
      }
    }
    sum_joined(part, flags_);
    for (std::size_t i = 0; i < member_count_; ++i) {
      if (rising_[row(part, i)] == 0) continue;
      bool stops = joined_sum_[i] > 0.5;
      for (const std::size_t through : topology_.chain(part)) {
        const Place& place = places_[row(through, i)];
        stops = stops || full(place.down) || (through != part && full(place.inner));
      }
      if (!stops) continue;
      rising_[row(part, i)] = 0;
      rate_[row(part, i)] = level;
    }
  }
}

/// rate_ = max-min fair rates of the rows with something left.
void FairExchange::fill() {
  free_ = capacities_;
  rising_.assign(left_.size(), 0);
  rate_.assign(left_.size(), 0);
  for (std::size_t r = 0; r < left_.size(); ++r) rising_[r] = left_[r] > 0 ? 1 : 0;
  for (double level = 0; std::any_of(rising_.begin(), rising_.end(), [](double rises) { return rises > 0; });) {
    load(rising_);
    double rise = std::numeric_limits<double>::infinity();
    for (std::size_t r = 0; r < load_.size(); ++r) {
      if (load_[r] > 0) rise = std::min(rise, std::max(0.0, free_[r]) / load_[r]);
    }
    ASSERT(rise < std::numeric_limits<double>::infinity(), "messages that cross no link");
    level += rise;
    for (std::size_t r = 0; r < load_.size(); ++r) free_[r] -= rise * load_[r];
    freeze(level);
  }
}

double FairExchange::slowdown(std::span<const std::int32_t> gpus, std::span<const double> received) {
  ASSERT(gpus.size() == received.size() && gpus.size() > 1, "{} members, {} weights", gpus.size(), received.size());
  member_count_ = gpus.size();
  number_resources(gpus);
  number_keys(gpus);
  senders_.assign(topology_.parts().size() * member_count_, 0);
  left_.assign(senders_.size(), 0);
  const std::vector<double> ones(member_count_, 1);
  for (const std::size_t part : direct_) {
    sum_joined(part, ones);
    for (std::size_t i = 0; i < member_count_; ++i) {
      senders_[row(part, i)] = joined_sum_[i];
      if (joined_sum_[i] > 0.5) left_[row(part, i)] = received[i];
    }
  }
  load(left_);
  double busiest = 0;
  for (std::size_t r = 0; r < load_.size(); ++r) busiest = std::max(busiest, load_[r] / capacities_[r]);
  if (busiest == 0) return 1;
  double time = 0;
  while (std::any_of(left_.begin(), left_.end(), [](double left) { return left > 0; })) {
    fill();
    double next = std::numeric_limits<double>::infinity();
    for (std::size_t r = 0; r < left_.size(); ++r) {
      if (left_[r] > 0) next = std::min(next, left_[r] / rate_[r]);
    }
    const double until = next + kTogether * busiest;
    double last = next;
    for (std::size_t r = 0; r < left_.size(); ++r) {
      if (left_[r] == 0) continue;
      const double end = left_[r] / rate_[r];
      if (end <= until) last = std::max(last, end);
    }
    for (std::size_t r = 0; r < left_.size(); ++r) {
      if (left_[r] == 0) continue;
      left_[r] = left_[r] / rate_[r] <= until ? 0 : left_[r] - rate_[r] * last;
    }
    time += last;
  }
  return std::max(1.0, time / busiest);
}

}  // namespace moecast
