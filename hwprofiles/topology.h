#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hwprofiles/cluster.h"

namespace moecast {

/// A cluster compiled for arithmetic: which instance of a part a GPU belongs to, and a flat list of capacities. Nothing
/// is stored by GPU but the capacities.
///
/// Resources are numbered from 0: for each part, in the order of the file, the uplink and the downlink of every
/// instance below it (2 i and 2 i + 1), then the inner capacity of each of its instances, if it has one.
class Topology {
 public:
  /// The cluster has no problems.
  explicit Topology(const Cluster& cluster);

  struct Part {
    std::optional<std::size_t> below;  // the part that it joins; none: GPUs
    LinkClass link;
    double attachment_bandwidth = 0;  // bytes per second of one attachment and direction: links * bandwidth
    std::int64_t span = 1;   // consecutive GPUs that an instance covers; a rail: GPUs of the nodes that it spans
    std::int64_t lanes = 1;  // a rail: instances below in one node; else 1
    bool rail = false;
    bool storage = false;
    std::int64_t instance_count = 1;
    std::int64_t attachment_count = 1;  // instances below
    std::int32_t first_attachment = 0;
    std::optional<std::int32_t> first_inner;  // resources of the inner capacity
  };

  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  [[nodiscard]] std::int64_t gpu_count() const { return gpu_count_; }
  [[nodiscard]] std::int64_t node_gpus() const { return node_gpus_; }
  /// Bytes per second, by resource.
  [[nodiscard]] const std::vector<double>& capacities() const { return capacities_; }

  /// The instance of a part to which the GPU belongs.
  [[nodiscard]] std::int64_t instance(std::size_t part, std::int64_t gpu) const;
  /// By what the GPU is attached to the part: its instance of the part below.
  [[nodiscard]] std::int64_t attachment(std::size_t part, std::int64_t gpu) const;
  [[nodiscard]] std::int32_t uplink(std::size_t part, std::int64_t gpu) const {
    return parts_[part].first_attachment + static_cast<std::int32_t>(2 * attachment(part, gpu));
  }
  [[nodiscard]] std::int32_t downlink(std::size_t part, std::int64_t gpu) const { return uplink(part, gpu) + 1; }
  [[nodiscard]] std::optional<std::int32_t> inner(std::size_t part, std::int64_t gpu) const;

  /// The part that carries what two different GPUs send to each other: the first that joins them.
  [[nodiscard]] std::size_t joint(std::int64_t a, std::int64_t b) const;
  /// The parts from the GPU up to `part`, the outermost first.
  [[nodiscard]] const std::vector<std::size_t>& chain(std::size_t part) const { return chains_[part]; }
  /// What a byte from `a` to `b` crosses; empty for a GPU and itself.
  [[nodiscard]] std::vector<std::int32_t> path(std::int64_t a, std::int64_t b) const;
  /// "uplink of leaf 12 to spine": for messages.
  [[nodiscard]] std::string name(std::int32_t resource) const;

 private:
  std::int64_t gpu_count_ = 1;
  std::int64_t node_gpus_ = 1;
  std::vector<Part> parts_;
  std::vector<std::string> names_;
  std::vector<std::vector<std::size_t>> chains_;
  std::vector<double> capacities_;
};

}  // namespace moecast
