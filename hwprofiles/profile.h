#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "hwprofiles/cluster.h"
#include "models/step_plan.h"

namespace moecast {

/// Where a number comes from. Every number of a profile file has one.
enum class SourceKind { Measured, Datasheet, Published, Assumed };
struct Source {
  SourceKind kind = SourceKind::Assumed;
  std::string reference;  // "moecast calibrate, 2026-11-24, ...", "NVIDIA A100 datasheet", "arXiv ..., table 3"

  friend bool operator==(const Source&, const Source&) = default;
};

/// Memory-bound kernels: one curve of time against bytes for each measured row width; between widths interpolated in
/// log columns, beyond them the nearest curve. (Short rows cost more per byte: a softmax over 8 experts is not a copy.)
struct MemoryCost {
  std::vector<std::int64_t> columns;  // ascending
  std::vector<CostCurve> curves;      // as many
  [[nodiscard]] Duration time(std::int64_t column_count, double bytes) const;

  friend bool operator==(const MemoryCost&, const MemoryCost&) = default;
};

/// Attention core: time against batch * heads for each measured (head_dim, sequence); between them interpolated in
/// log-log space. Beyond the measured head dims time is proportional to head_dim, beyond the sequences to its square.
struct AttentionCost {
  std::vector<std::int64_t> head_dim;  // ascending
  std::vector<std::int64_t> sequence;  // ascending
  std::vector<CostCurve> curves;       // [head_dim][sequence]
  [[nodiscard]] Duration time(const AttentionWork& work) const;

  friend bool operator==(const AttentionCost&, const AttentionCost&) = default;
};

/// Rates of matrix products over a grid of shapes: log rate interpolated in log m, log n, log k; clamped at the edges.
struct GemmTable {
  std::vector<std::int64_t> m, n, k;     // ascending
  std::vector<double> flops_per_second;  // [m][n][k]
  Duration overhead{};                   // launch or call overhead, added once per product
  /// A product without rows takes the overhead alone.
  [[nodiscard]] Duration time(double m_rows, std::int64_t n_columns, std::int64_t k_inner) const;
  /// The rate alone, without the overhead; all arguments positive.
  [[nodiscard]] double rate(double m_rows, double n_columns, double k_inner) const;

  friend bool operator==(const GemmTable&, const GemmTable&) = default;
};

/// One accelerator (or CPU share) as the step plan's kernels see it.
struct DeviceProfile {
  std::string name;
  FlopsPerSecond peak{0};         // dense matrix peak in the compute dtype
  BytesPerSecond memory_rate{0};  // copy bandwidth, bytes read + written
  Bytes memory{0};
  GemmTable gemm;
  GemmTable grouped_gemm;  // m = rows per group; rates are per product, the overhead once per call
  AttentionCost attention_forward;
  AttentionCost attention_backward;
  /// Kernels without an entry are charged as Copy, which is always there.
  std::map<MemoryKernel, MemoryCost> memory_kernels;
  Duration operator_overhead{};  // per operator: queueing, waking a lane
  /// Host time to launch one of the plan's kernels: an operator takes at least this for each. A framework that launches
  /// several small kernels for one of the plan's has a multiple of the driver's few microseconds.
  Duration host_launch{};
  Duration host_micro_batch{};  // host time once a micro-batch, before its Embed: loading and preparing it

  /// Expected time of one kernel, and of an operator of the compute lane (overhead + sum over its work).
  [[nodiscard]] Duration time(const Work& work) const;
  [[nodiscard]] Duration time(const Operator& op) const;

  friend bool operator==(const DeviceProfile&, const DeviceProfile&) = default;

 private:
  [[nodiscard]] Duration cached_attention_time(const AttentionWork& work) const;
};

/// What one transfer between ranks costs when it is alone, from the moment when all ranks have come:
/// latency + bytes through the busiest port / (bandwidth * efficiency(buffer)).
struct LinkProfile {
  Duration latency{};
  BytesPerSecond bandwidth{0};                        // of one rank's port, one direction
  std::vector<std::pair<double, double>> efficiency;  // (bytes of the rank's buffer, fraction of bandwidth), ascending
  /// Interpolated in log bytes, clamped at the ends; 1 when the curve is empty.
  [[nodiscard]] double efficiency_at(double buffer_bytes) const;
  [[nodiscard]] Duration time(double port_bytes, Bytes buffer) const;

  friend bool operator==(const LinkProfile&, const LinkProfile&) = default;
};

/// Bytes that cross each rank's port, one direction, in a group of `ranks`: (n-1)/n of the buffer for all-to-all,
/// reduce-scatter and all-gather, 2 (n-1)/n for all-reduce (ring), all of it for broadcast and point-to-point; 0 alone.
[[nodiscard]] double port_bytes(Collective collective, Bytes buffer, std::int64_t ranks);

/// The way of one device to its host's memory and back, one direction: PCIe.
struct HostLink {
  BytesPerSecond bandwidth{0};
  bool shared = false;  // what ranks send to each other crosses it too

  friend bool operator==(const HostLink&, const HostLink&) = default;
};

/// One node: `ranks` devices with a full-duplex port each, all ports meet in a switch of `switch_bandwidth` (no value:
/// non-blocking).
struct NodeProfile {
  std::int64_t ranks = 1;
  LinkProfile all_to_all;  // and point-to-point
  LinkProfile all_reduce;  // ring: 2 (n-1)/n bytes cross each port; and the other collectives
  std::optional<BytesPerSecond> switch_bandwidth = std::nullopt;
  std::optional<HostLink> host_link = std::nullopt;  // no value: nothing is known of it

  [[nodiscard]] const LinkProfile& link(Collective collective) const;

  friend bool operator==(const NodeProfile&, const NodeProfile&) = default;
};

/// Compute slowed while communication, or a copy to the host, runs beside it on the same device: time * factor.
/// Measured; 1 = no effect.
struct Interference {
  double compute_beside_communication = 1.0;
  double communication_beside_compute = 1.0;
  double compute_beside_copy = 1.0;

  friend bool operator==(const Interference&, const Interference&) = default;
};

struct FitQuality {
  double fit_median_error = 0;       // relative, over the shapes that were used
  double held_out_median_error = 0;  // relative, over shapes kept apart
  std::int64_t held_out_count = 0;

  friend bool operator==(const FitQuality&, const FitQuality&) = default;
};

struct HardwareProfile {
  std::string name;
  std::string description;
  std::map<std::string, Source> sources;  // by JSON pointer prefix; the longest prefix wins
  DeviceProfile device;
  NodeProfile node;
  Interference interference;
  std::optional<FitQuality> fit;                  // calibrated profiles only
  std::optional<Cluster> cluster = std::nullopt;  // none: one node, as `node` says

  /// GPUs that a layout can use.
  [[nodiscard]] std::int64_t rank_count() const { return cluster ? cluster->gpu_count() : node.ranks; }
  /// A collective alone on the node, in a group of `ranks`. In a group of one an all-to-all is a copy on the device and
  /// the others are free.
  [[nodiscard]] Duration time(const Communication& communication, std::int64_t ranks) const;
  /// What crosses the device's link to its host, alone on it; there is such a link.
  [[nodiscard]] Duration host_copy_time(Bytes bytes) const;
  /// The source of the value at a JSON pointer ("/device/gemm/rate"): the longest prefix that `sources` has.
  [[nodiscard]] const Source* source_of(const std::string& pointer) const;

  friend bool operator==(const HardwareProfile&, const HardwareProfile&) = default;
};

/// One screen of text for people: what the machine is, its rates at a few shapes, and where the numbers come from.
[[nodiscard]] std::string describe(const HardwareProfile& profile);

}  // namespace moecast
