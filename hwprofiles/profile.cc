#include "hwprofiles/profile.h"

#include <algorithm>
#include <array>

#include "base/math.h"
#include "base/overloaded.h"
#include "hwprofiles/interpolation.h"

namespace moecast {
namespace {

/// The point of `grid` beyond which `value` lies, or `value` itself inside.
double clamp_to(const std::vector<std::int64_t>& grid, double value) {
  return std::clamp(value, static_cast<double>(grid.front()), static_cast<double>(grid.back()));
}

}  // namespace

Duration MemoryCost::time(std::int64_t column_count, double bytes) const {
  ASSERT(columns.size() == curves.size(), "{} widths, {} curves", columns.size(), curves.size());
  const auto [low, fraction] = place_in_log_grid(columns, static_cast<double>(std::max<std::int64_t>(1, column_count)));
  if (fraction == 0) return curves[low].time(bytes);
  return duration_from_seconds(
      between(seconds(curves[low].time(bytes)), seconds(curves[low + 1].time(bytes)), fraction));
}

Duration AttentionCost::time(const AttentionWork& work) const {
  ASSERT(curves.size() == head_dim.size() * sequence.size(), "{} curves for {} x {}", curves.size(), head_dim.size(),
         sequence.size());
  const auto parallel = static_cast<double>(work.batch * work.heads) / static_cast<double>(work.context);
  const auto dim = static_cast<double>(work.head_dim);
  const auto length = static_cast<double>(work.sequence);
  const auto [low_dim, dim_fraction] = place_in_log_grid(head_dim, dim);
  const auto [low_length, length_fraction] = place_in_log_grid(sequence, length);
  const auto at = [&](std::size_t d, std::size_t s) { return seconds(curves[d * sequence.size() + s].time(parallel)); };
  const auto at_dim = [&, s = low_length, f = length_fraction](std::size_t d) {
    return f == 0 ? at(d, s) : between(at(d, s), at(d, s + 1), f);
  };
  const double inside =
      dim_fraction == 0 ? at_dim(low_dim) : between(at_dim(low_dim), at_dim(low_dim + 1), dim_fraction);
  const double beyond_length = length / clamp_to(sequence, length);
  // Measured with values as wide as keys and without a window; others take their share of the work.
  const AttentionWork measured{work.batch, work.sequence, work.heads, work.kv_heads, work.head_dim, work.backward};
  const double share = flops(work) / flops(measured);
  return duration_from_seconds(inside * (dim / clamp_to(head_dim, dim)) * beyond_length * beyond_length * share);
}

double GemmTable::rate(double m_rows, double n_columns, double k_inner) const {
  ASSERT(flops_per_second.size() == m.size() * n.size() * k.size(), "{} rates for {} x {} x {}",
         flops_per_second.size(), m.size(), n.size(), k.size());
  const std::array<GridPlace, 3> places = {place_in_log_grid(m, m_rows), place_in_log_grid(n, n_columns),
                                           place_in_log_grid(k, k_inner)};
  double log_rate = 0;
  for (unsigned corner = 0; corner < 8; ++corner) {
    std::array<std::size_t, 3> index{};
    double weight = 1;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const bool upper = (corner >> axis & 1U) != 0;
      weight *= upper ? places[axis].fraction : 1 - places[axis].fraction;
      index[axis] = places[axis].low + (upper ? 1 : 0);
    }
    if (weight == 0) continue;  // also: the upper neighbour of an edge does not exist
    log_rate += weight * portable_log(flops_per_second[(index[0] * n.size() + index[1]) * k.size() + index[2]]);
  }
  return portable_exp(log_rate);
}

Duration GemmTable::time(double m_rows, std::int64_t n_columns, std::int64_t k_inner) const {
  if (m_rows <= 0 || n_columns <= 0 || k_inner <= 0) return overhead;
  const auto columns = static_cast<double>(n_columns);
  const auto inner = static_cast<double>(k_inner);
  return overhead + duration_from_seconds(2 * m_rows * columns * inner / rate(m_rows, columns, inner));
}

/// Few queries over many keys: what it takes to read those, or the arithmetic at the device's peak.
Duration DeviceProfile::cached_attention_time(const AttentionWork& work) const {
  const double moved = bytes(work, work.cache_element).value();
  const Duration reading = memory_kernels.at(MemoryKernel::Copy).time(1, moved);
  return std::max(reading, duration_from_seconds(flops(work).value() / peak.value()));
}

Duration DeviceProfile::time(const Work& work) const {
  return std::visit(Overloaded{
                        [&](const GemmWork& w) { return gemm.time(static_cast<double>(w.m), w.n, w.k); },
                        [&](const GroupedGemmWork& w) {
                          const Duration product = grouped_gemm.time(w.rows, w.n, w.k) - grouped_gemm.overhead;
                          return grouped_gemm.overhead + product * w.groups;
                        },
                        [&](const AttentionWork& w) {
                          if (w.cached > 0) return cached_attention_time(w);
                          return (w.backward ? attention_backward : attention_forward).time(w);
                        },
                        [&](const MemoryWork& w) {
                          const auto found = memory_kernels.find(w.kernel);
                          const MemoryCost& cost =
                              found != memory_kernels.end() ? found->second : memory_kernels.at(MemoryKernel::Copy);
                          return cost.time(w.columns, w.bytes.value());
                        },
                    },
                    work);
}

Duration DeviceProfile::time(const Operator& op) const {
  Duration kernels{};
  for (const Work& work : op.work) kernels += time(work);
  Duration total = operator_overhead + std::max(kernels, host_launch * static_cast<std::int64_t>(op.work.size()));
  if (op.kind == OpKind::Embed && op.phase == Phase::Forward) total += host_micro_batch;
  return total;
}

double LinkProfile::efficiency_at(double buffer_bytes) const {
  if (efficiency.empty()) return 1;
  if (buffer_bytes <= efficiency.front().first) return efficiency.front().second;
  if (buffer_bytes >= efficiency.back().first) return efficiency.back().second;
  const auto above = std::upper_bound(efficiency.begin(), efficiency.end(), buffer_bytes,
                                      [](double value, const auto& point) { return value < point.first; });
  const auto& low = *(above - 1);
  const double begin = portable_log(low.first);
  const double fraction = (portable_log(buffer_bytes) - begin) / (portable_log(above->first) - begin);
  return low.second + fraction * (above->second - low.second);
}

Duration LinkProfile::time(double port_bytes, Bytes buffer) const {
  if (port_bytes <= 0) return latency;
  return latency + duration_from_seconds(port_bytes / (bandwidth.value() * efficiency_at(buffer.value())));
}

double port_bytes(Collective collective, Bytes buffer, std::int64_t ranks) {
  if (ranks <= 1) return 0;
  const double others = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  switch (collective) {
    case Collective::AllToAll:
    case Collective::ReduceScatter:
    case Collective::AllGather:
      return buffer.value() * others;
    case Collective::AllReduce:
      return buffer.value() * others * 2;
    case Collective::Broadcast:
    case Collective::PointToPoint:
      return buffer.value();
  }
  return 0;
}

const LinkProfile& NodeProfile::link(Collective collective) const {
  const bool direct = collective == Collective::AllToAll || collective == Collective::PointToPoint;
  return direct ? all_to_all : all_reduce;
}

Duration HardwareProfile::time(const Communication& communication, std::int64_t ranks) const {
  const Bytes buffer = communication.buffer;
  if (ranks > 1) {
    return node.link(communication.collective).time(port_bytes(communication.collective, buffer, ranks), buffer);
  }
  if (communication.collective != Collective::AllToAll) return Duration(0);
  return device.time(MemoryWork{MemoryKernel::Copy, 1, buffer.count(), buffer * 2});
}

Duration HardwareProfile::host_copy_time(Bytes bytes) const {
  ASSERT(node.host_link, "{} knows no link to the host", name);
  return duration_from_seconds(bytes.value() / node.host_link->bandwidth.value());
}

const Source* HardwareProfile::source_of(const std::string& pointer) const {
  const Source* best = nullptr;
  std::size_t best_length = 0;
  for (const auto& [prefix, source] : sources) {
    const bool covers =
        pointer.starts_with(prefix) && (pointer.size() == prefix.size() || pointer[prefix.size()] == '/');
    if (!covers || (best != nullptr && prefix.size() < best_length)) continue;
    best = &source;
    best_length = prefix.size();
  }
  return best;
}

}  // namespace moecast
