#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "hwprofiles/profile.h"
#include "models/parallel_layout.h"
#include "models/step_plan.h"
#include "sim/collectives.h"

namespace moecast {

/// What one operator costs on a rank where nothing disturbs it.
struct OperatorCost {
  /// Without bytes: all of its time. With bytes: what passes between the arrival of the last rank and the first byte.
  Duration fixed{};
  double port_bytes = 0;  // collectives in groups of several ranks: bytes through every rank's port, one direction
  double rate = 0;        // bytes per second at which they pass when alone: bandwidth * efficiency(buffer)
  double port_load = 1;   // capacity of the port that a rate of 1 takes: port capacity / bandwidth of this collective
  std::optional<std::int32_t> uneven = std::nullopt;  // into PlanCosts::uneven: members of an expert group differ
};

/// What an operator costs where the members of an expert group, by position, differ.
struct UnevenCost {
  MemberWeights weights;        // an all-to-all: what they send and receive
  std::vector<Duration> times;  // compute: instead of OperatorCost::fixed
};

/// The costs of a plan's operators and of what they share. Ports are full duplex and every collective of one node loads
/// both directions alike, so one capacity stands for both.
struct PlanCosts {
  std::vector<OperatorCost> operators;  // by OpId, stage after stage
  BytesPerSecond port{0};               // capacity of each rank's port: the larger of the two links' bandwidths
  std::optional<BytesPerSecond> switch_bandwidth = std::nullopt;  // bytes of all ports together; no value: no limit
  Interference interference = {};
  /// A cluster: its links stand instead of ports and switch, and `operators` holds the times of compute and copies
  /// alone.
  std::optional<Topology> topology = std::nullopt;
  AlgorithmChoice algorithms = {};
  std::vector<UnevenCost> uneven = {};
  std::vector<std::pair<std::int32_t, double>> degraded = {};  // resources of the topology, what is left of each
};

/// `stages`: one plan for each pipeline stage; operators are numbered through them.
[[nodiscard]] PlanCosts plan_costs(std::span<const StepPlan> stages, const ParallelLayout& layout,
                                   const HardwareProfile& hardware);

/// Time of an operator alone: what a schedule with slot "auto" is chosen by. Refers to `hardware`, which must outlive
/// it.
[[nodiscard]] OperatorTime operator_time(const ParallelLayout& layout, const HardwareProfile& hardware,
                                         AlgorithmChoice algorithms = {});

}  // namespace moecast
