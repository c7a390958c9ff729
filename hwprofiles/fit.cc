#include "hwprofiles/fit.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/statistics.h"

namespace moecast {
namespace {

constexpr double kSameSize = 1.05;

/// Pools neighbours whose values fall until all ascend; the value of a pool is its weighted mean.
std::vector<double> isotonic(const std::vector<double>& values, const std::vector<double>& weights) {
  struct Pool {
    double value, weight;
    std::size_t count;
  };
  std::vector<Pool> pools;
  for (std::size_t i = 0; i < values.size(); ++i) {
    pools.push_back({values[i], weights[i], 1});
    while (pools.size() > 1 && pools[pools.size() - 2].value > pools.back().value) {
      const Pool last = pools.back();
      pools.pop_back();
      Pool& merged = pools.back();
      merged.value = (merged.value * merged.weight + last.value * last.weight) / (merged.weight + last.weight);
      merged.weight += last.weight;
      merged.count += last.count;
    }
  }
  std::vector<double> result;
  for (const Pool& pool : pools) result.insert(result.end(), pool.count, pool.value);
  return result;
}

/// Samples with the same `key` become one curve.
template <typename Key>
std::map<Key, CostCurve> curves_by(const std::map<Key, std::vector<CostCurve::Point>>& points) {
  std::map<Key, CostCurve> curves;
  for (const auto& [key, of_key] : points) curves[key] = fit_curve(of_key);
  return curves;
}

double log_distance(std::int64_t a, std::int64_t b) {
  return std::fabs(std::log(static_cast<double>(a) / static_cast<double>(b)));
}

using DimAndLength = std::pair<std::int64_t, std::int64_t>;

/// The curve at `wanted`, from the nearest one that there is: time goes with head_dim * sequence^2.
CostCurve scaled_from_nearest(const std::map<DimAndLength, CostCurve>& curves, const DimAndLength& wanted) {
  const auto distance = [&](const DimAndLength& key) {
    return log_distance(key.first, wanted.first) + 2 * log_distance(key.second, wanted.second);
  };
  const auto nearest = std::min_element(curves.begin(), curves.end(), [&](const auto& a, const auto& b) {
    return distance(a.first) < distance(b.first);
  });
  const auto [dim, length] = nearest->first;
  const double longer = static_cast<double>(wanted.second) / static_cast<double>(length);
  const double factor = static_cast<double>(wanted.first) / static_cast<double>(dim) * longer * longer;
  CostCurve curve = nearest->second;
  for (CostCurve::Point& point : curve.points) point.time = duration_from_seconds(seconds(point.time) * factor);
  return curve;
}

}  // namespace

CostCurve fit_curve(std::vector<CostCurve::Point> points) {
  ASSERT(!points.empty());
  std::sort(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.size < b.size; });
  std::vector<double> log_size, log_time, weight;
  double first = 0;
  for (const CostCurve::Point& point : points) {
    ASSERT(point.size > 0 && point.time.count() > 0, "size {}, time {} ns", point.size, point.time.count());
    if (weight.empty() || point.size > first * kSameSize) {
      first = point.size;
      log_size.push_back(0);
      log_time.push_back(0);
      weight.push_back(0);
    }
    log_size.back() += std::log(point.size);
    log_time.back() += std::log(seconds(point.time));
    weight.back() += 1;
  }
  for (std::size_t i = 0; i < weight.size(); ++i) {
    log_size[i] /= weight[i];
    log_time[i] /= weight[i];
  }
  log_time = isotonic(log_time, weight);
  CostCurve curve;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const double size = std::max(1.0, std::round(std::exp(log_size[i])));
    if (!curve.points.empty() && size <= curve.points.back().size) continue;
    curve.points.push_back({size, duration_from_seconds(std::exp(log_time[i]))});
  }
  return curve;
}

AttentionCost fit_attention(std::span<const KernelSample> samples, bool backward) {
  std::map<DimAndLength, std::vector<CostCurve::Point>> points;
  std::set<std::int64_t> dims, lengths;
  for (const KernelSample& sample : samples) {
    const auto* work = std::get_if<AttentionWork>(&sample.work);
    if (work == nullptr || work->backward != backward || sample.held_out) continue;
    dims.insert(work->head_dim);
    lengths.insert(work->sequence);
    points[{work->head_dim, work->sequence}].push_back({static_cast<double>(work->batch * work->heads), sample.time});
  }
  ASSERT(!points.empty(), "no attention was measured");
  const std::map<DimAndLength, CostCurve> curves = curves_by(points);
  AttentionCost cost;
  cost.head_dim.assign(dims.begin(), dims.end());
  cost.sequence.assign(lengths.begin(), lengths.end());
  for (const std::int64_t dim : cost.head_dim) {
    for (const std::int64_t length : cost.sequence) {
      const auto found = curves.find({dim, length});
      cost.curves.push_back(found != curves.end() ? found->second : scaled_from_nearest(curves, {dim, length}));
    }
  }
  return cost;
}

std::map<MemoryKernel, MemoryCost> fit_memory_kernels(std::span<const KernelSample> samples) {
  std::map<std::pair<MemoryKernel, std::int64_t>, std::vector<CostCurve::Point>> points;
  for (const KernelSample& sample : samples) {
    const auto* work = std::get_if<MemoryWork>(&sample.work);
    if (work == nullptr || sample.held_out || work->bytes.count() <= 0) continue;
    const std::int64_t width = work->rows == 1 ? 1 : work->columns;
    points[{work->kernel, width}].push_back({work->bytes.value(), sample.time});
  }
  std::map<MemoryKernel, MemoryCost> kernels;
  for (const auto& [key, curve] : curves_by(points)) {
    kernels[key.first].columns.push_back(key.second);  // the map ascends: so do the widths
    kernels[key.first].curves.push_back(curve);
  }
  return kernels;
}

namespace {

struct Transfer {
  double buffer, port, time;  // bytes, bytes, seconds
};

std::vector<Transfer> transfers_of(std::span<const LinkSample> samples) {
  std::vector<Transfer> transfers;
  for (const LinkSample& sample : samples) {
    if (sample.held_out) continue;
    const double port = port_bytes(sample.communication.collective, sample.communication.buffer, sample.ranks);
    transfers.push_back({sample.communication.buffer.value(), port, seconds(sample.time)});
  }
  std::sort(transfers.begin(), transfers.end(), [](const auto& a, const auto& b) { return a.buffer < b.buffer; });
  return transfers;
}

/// alpha of  min sum ((alpha + beta p - t) / t)^2, and never more than 80 % of the time of the largest transfer.
double latency_of(const std::vector<Transfer>& transfers) {
  double aa = 0, ab = 0, bb = 0, a1 = 0, b1 = 0;
  for (const Transfer& transfer : transfers) {
    const double a = 1 / transfer.time;
    const double b = transfer.port / transfer.time;
    aa += a * a;
    ab += a * b;
    bb += b * b;
    a1 += a;
    b1 += b;
  }
  const double determinant = aa * bb - ab * ab;
  const bool solvable = determinant > 1e-9 * aa * bb;  // all of one size: nothing tells latency from transfer
  const double alpha = solvable ? (a1 * bb - b1 * ab) / determinant : 0;
  return std::clamp(alpha, 0.0, 0.8 * transfers.back().time);
}

}  // namespace

LinkProfile fit_link(std::span<const LinkSample> samples, std::optional<BytesPerSecond> bandwidth) {
  const std::vector<Transfer> transfers = transfers_of(samples);
  ASSERT(!transfers.empty() && transfers.back().port > 0, "{} transfers", transfers.size());
  const double latency = latency_of(transfers);
  double best = 0;
  std::vector<CostCurve::Point> moving;  // what is left after the latency, by buffer
  std::map<double, double> port_of;
  for (const Transfer& transfer : transfers) {
    const double rest = transfer.time - latency;
    if (transfer.port <= 0 || (rest < 0.2 * transfer.time && &transfer != &transfers.back())) continue;
    best = std::max(best, transfer.port / rest);
    moving.push_back({transfer.buffer, duration_from_seconds(rest)});
    port_of[transfer.buffer] = transfer.port / transfer.buffer;
  }
  LinkProfile link;
  link.latency = duration_from_seconds(latency);
  link.bandwidth = bandwidth.value_or(BytesPerSecond(best));
  const double port_share = port_of.rbegin()->second;
  for (const CostCurve::Point& point : fit_curve(moving).points) {
    const double reached = point.size * port_share / seconds(point.time) / link.bandwidth.value();
    link.efficiency.emplace_back(point.size, std::min(1.0, reached));
  }
  return link;
}

FitQuality fit_quality(const HardwareProfile& profile, std::span<const KernelSample> kernels,
                       std::span<const LinkSample> links) {
  std::vector<double> used, held_out;
  const auto judge = [&](Duration predicted, Duration measured, bool apart) {
    (apart ? held_out : used).push_back(std::fabs(seconds(predicted) - seconds(measured)) / seconds(measured));
  };
  for (const KernelSample& sample : kernels) judge(profile.device.time(sample.work), sample.time, sample.held_out);
  for (const LinkSample& sample : links) {
    judge(profile.time(sample.communication, sample.ranks), sample.time, sample.held_out);
  }
  FitQuality quality;
  if (!used.empty()) quality.fit_median_error = median(used);
  if (!held_out.empty()) quality.held_out_median_error = median(held_out);
  quality.held_out_count = static_cast<std::int64_t>(held_out.size());
  return quality;
}

}  // namespace moecast
