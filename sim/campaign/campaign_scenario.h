#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/units.h"
#include "hwprofiles/reliability.h"
#include "models/checkpoint/policy.h"
#include "sim/campaign/policy_settings.h"

namespace moecast {

/// Nodes that stand by. Repaired nodes join them.
struct SpareNodes {
  enum class Kind { None, Hot, Warm };
  Kind kind = Kind::None;
  std::int64_t count = 0;  // at the start; 0 for None
  TimeDistribution swap;   // until a spare is in its place: 0 when hot

  friend bool operator==(const SpareNodes&, const SpareNodes&) = default;
};

struct CampaignCluster {
  std::int64_t gpus = 8;  // of the job, all needed
  std::int64_t gpus_per_node = 8;
  std::int64_t nodes_per_rack = 4;
  SpareNodes spares;
  double price_per_gpu_hour = 0;  // any currency

  [[nodiscard]] std::int64_t nodes() const { return (gpus + gpus_per_node - 1) / gpus_per_node; }
  [[nodiscard]] std::int64_t racks() const { return (nodes() + nodes_per_rack - 1) / nodes_per_rack; }

  friend bool operator==(const CampaignCluster&, const CampaignCluster&) = default;
};

/// The end is at `steps` or at `horizon`, whichever comes first; 0 means no such limit, and one of them is given.
struct CampaignTraining {
  std::int64_t steps = 0;
  Duration horizon{};
  Duration step{};              // one step without checkpoint, > 0
  Duration forward_backward{};  // the part of it beside which a snapshot may run

  /// Length of the whole training in steps, over which PLT is a proportion.
  [[nodiscard]] std::int64_t planned_steps() const { return steps > 0 ? steps : horizon.count() / step.count(); }

  friend bool operator==(const CampaignTraining&, const CampaignTraining&) = default;
};

/// Where the routed experts live: pipeline stages of consecutive layers on consecutive GPUs; within a stage GPU g holds
/// expert-parallel position g mod expert_parallel, which has experts_per_layer / expert_parallel neighbours of each
/// layer. Every copy writes its part of an expert, so memory has an expert only while all its holders keep theirs.
struct ExpertPlacement {
  std::int64_t experts_per_layer = 0;  // 0: no experts
  std::int64_t layers = 0;             // with experts
  std::int64_t expert_parallel = 1;    // divides experts_per_layer
  std::int64_t pipeline = 1;           // divides layers and the GPU count
  double zipf = 0;                     // load of expert i proportional to 1 / (i + 1)^zipf; 0: uniform

  friend bool operator==(const ExpertPlacement&, const ExpertPlacement&) = default;
};

/// What the rank that has most moves of a checkpoint with this share of the experts.
struct RankShare {
  CheckpointLevel level = CheckpointLevel::Memory;
  double share = 0;
  Bytes bytes{0};

  friend bool operator==(const RankShare&, const RankShare&) = default;
};

/// Sizes and rates of saved state. `rank`: of the rank that has most; `total`: of the whole job, each byte once. The
/// expert part scales with the share of experts that a checkpoint holds, except for a rank where `uneven` says
/// otherwise: few experts are not the same number on every rank.
struct CheckpointCosts {
  Bytes rank_non_expert{0}, rank_expert{0};
  std::vector<RankShare> uneven;
  Bytes total_non_expert{0}, total_expert{0};
  /// What a rank reads to go on, more than it wrote where every replica needs what one of them has written; none: as
  /// much as it wrote.
  struct Held {
    Bytes non_expert{0}, expert{0};
    friend bool operator==(const Held&, const Held&) = default;
  };
  std::optional<Held> held = std::nullopt;
  BytesPerSecond snapshot_rate{0};     // device to host memory of one rank, serialisation included
  BytesPerSecond memory_load_rate{0};  // host memory to device of one rank
  BytesPerSecond persist_rate{0};      // host memory to storage of one rank
  BytesPerSecond load_rate{0};         // storage to device of one rank
  BytesPerSecond peer_rate{0};         // between two nodes, of one rank
  std::optional<BytesPerSecond> storage_write = std::nullopt;  // all ranks together; none: no limit
  std::optional<BytesPerSecond> storage_read = std::nullopt;
  Duration commit{};                 // after the last byte
  double snapshot_interference = 0;  // training loses this share of the time during which a snapshot runs beside it
  double persist_interference = 0;   // ... or a write to storage

  /// `share`: part of the experts, 0 .. 1.
  [[nodiscard]] Duration snapshot_time(double share) const;
  [[nodiscard]] Duration persist_time(double share) const;  // commit included
  [[nodiscard]] Duration peer_time(double copies) const;    // the whole rank's state to `copies` peers
  [[nodiscard]] Duration memory_load_time() const;
  [[nodiscard]] Duration peer_load_time() const;
  /// `share`: part of the experts that the whole job reads; a rank that lost its memory reads all it holds.
  [[nodiscard]] Duration storage_load_time(double share) const;
  [[nodiscard]] double rank_bytes(CheckpointLevel level, double share) const;
  [[nodiscard]] double held_bytes(double share) const;
  [[nodiscard]] double total_bytes(double share) const;

  friend bool operator==(const CheckpointCosts&, const CheckpointCosts&) = default;
};

/// When clocks of failures run. Wall: always, so failures strike during recovery too. Fresh: each restart begins a new
/// gap and recovery is free of failures (the setting of renewal formulas).
enum class FailureClock { Wall, Fresh };

struct CampaignScenario {
  std::string name;
  CampaignCluster cluster;
  CampaignTraining training;
  ExpertPlacement experts;
  CheckpointCosts costs;
  ReliabilityProfile reliability;
  FailureClock clock = FailureClock::Wall;
  PolicySettings policy;
  std::int64_t replicas = 100;
  std::uint64_t seed = 1;
  double confidence = 0.95;  // of the intervals of the summary
  /// What was not stated but worked out, and from what: for people.
  std::vector<std::string> derived;

  friend bool operator==(const CampaignScenario&, const CampaignScenario&) = default;
};

}  // namespace moecast
