#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "models/step_plan.h"

namespace moecast {

/// Where a number comes from. Every number of a profile file has one.
enum class SourceKind { Measured, Datasheet, Published, Assumed };
struct Source {
  SourceKind kind = SourceKind::Assumed;
  std::string reference;  // "moecast calibrate, 2026-11-24, ...", "NVIDIA A100 datasheet", "arXiv ..., table 3"
};

/// Time of a kernel class by size: time = interpolated in log-log space between measured points, beyond the ends by the
/// nearest slope (a rate cannot exceed the device's peak, a time cannot fall below the smallest measured one).
struct CostCurve {
  struct Point {
    double size = 0;  // bytes of MemoryWork, flops of AttentionWork per (batch * heads) ...: said by the owner
    Duration time{};
  };
  std::vector<Point> points;  // ascending in size
  [[nodiscard]] Duration time(double size) const;
};

/// Rates of matrix products over a grid of shapes: interpolated in log m, log n, log k; clamped at the edges.
struct GemmTable {
  std::vector<std::int64_t> m, n, k;             // ascending
  std::vector<double> flops_per_second;          // [m][n][k]
  Duration overhead{};                           // launch or call overhead, added once
  [[nodiscard]] Duration time(double m_rows, std::int64_t n_columns, std::int64_t k_inner) const;
};

/// One accelerator (or CPU share) as the step plan's kernels see it.
struct DeviceProfile {
  std::string name;
  FlopsPerSecond peak{0};          // dense matrix peak in the compute dtype
  BytesPerSecond memory_rate{0};   // copy bandwidth, bytes read + written
  Bytes memory{0};
  GemmTable gemm;
  GemmTable grouped_gemm;          // m = rows per group; several groups in one call
  std::vector<CostCurve> attention_forward;   // one curve for each of attention_sequence: time against batch*heads
  std::vector<CostCurve> attention_backward;
  std::vector<std::int64_t> attention_sequence;
  std::int64_t attention_head_dim = 64;       // at which it was measured; others scale with head_dim
  std::map<MemoryKernel, CostCurve> memory_kernels;  // time against bytes
  Duration operator_overhead{};    // per operator: queueing, waking a lane

  /// Expected time of one kernel, and of an operator of the compute lane (overhead + sum over its work).
  [[nodiscard]] Duration time(const Work& work) const;
  [[nodiscard]] Duration time(const Operator& op) const;
};

/// What one transfer between ranks costs when it is alone: latency + bytes / (bandwidth * efficiency(bytes)).
struct LinkProfile {
  Duration latency{};
  BytesPerSecond bandwidth{0};         // of one rank's port, one direction
  std::vector<std::pair<double, double>> efficiency;  // (bytes of the rank's buffer, fraction of bandwidth), ascending
  [[nodiscard]] double efficiency_at(double bytes) const;  // 1 when the curve is empty
};

/// One node: `ranks` devices with a full-duplex port each, all ports meet in a switch of `switch_bandwidth` (no value:
/// non-blocking).
struct NodeProfile {
  std::int64_t ranks = 1;
  LinkProfile all_to_all;
  LinkProfile all_reduce;  // ring: 2 (n-1)/n bytes cross each port
  std::optional<BytesPerSecond> switch_bandwidth;
};

/// Compute slowed while communication runs beside it on the same device: time * factor. Measured; 1 = no effect.
struct Interference {
  double compute_beside_communication = 1.0;
  double communication_beside_compute = 1.0;
};

struct FitQuality {
  double fit_median_error = 0;       // relative, over the shapes that were used
  double held_out_median_error = 0;  // relative, over shapes kept apart
  std::int64_t held_out_count = 0;
};

struct HardwareProfile {
  std::string name;
  std::string description;
  std::map<std::string, Source> sources;  // by JSON pointer prefix; the longest prefix wins
  DeviceProfile device;
  NodeProfile node;
  Interference interference;
  std::optional<FitQuality> fit;  // calibrated profiles only
};

}  // namespace moecast
