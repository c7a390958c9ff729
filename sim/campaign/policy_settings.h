#pragma once

#include <cstdint>
#include <string_view>
#include <variant>

#include "base/units.h"
#include "models/checkpoint/policy.h"

namespace moecast {

/// Copies in the host memory of other machines, storage as the last resort (Gemini, SOSP'23).
struct PeerReplicaSettings {
  std::int64_t interval = 1;       // steps between memory checkpoints
  std::int64_t copies = 2;         // machines that hold each state, the own one included; groups of consecutive nodes
  std::int64_t storage_every = 0;  // each n-th memory checkpoint also goes to storage; 0: none
  double hidden = 1;               // share of the transfer that network idle time hides

  friend bool operator==(const PeerReplicaSettings&, const PeerReplicaSettings&) = default;
};

/// Healthy data-parallel replicas save their state after the failure (Just-in-time checkpointing, EuroSys'24); a
/// periodic checkpoint for what has no replica.
struct JustInTimeSettings {
  std::int64_t copies = 2;            // data-parallel copies of every shard, on nodes a stride apart
  std::int64_t storage_interval = 0;  // steps between asynchronous full checkpoints; 0: none

  friend bool operator==(const JustInTimeSettings&, const JustInTimeSettings&) = default;
};

/// Sparse snapshots over a window of steps, kept by peers; recovery replays the window (MoEvement, arXiv 2412.15411).
struct SparseWindowSettings {
  std::int64_t window = 10;        // steps until every operator was saved once (W_sparse)
  std::int64_t copies = 2;         // machines that hold a snapshot, the own one included
  Duration stall_per_step{};       // what of the snapshot does not fit beside a step
  double conversion_factor = 1;    // time of a replayed step of the window, as a multiple of a step
  double replay_factor = 1;        // ... of a lost step after it (localised: only one pipeline computes)
  std::int64_t storage_every = 0;  // each n-th window also goes to storage; 0: none

  friend bool operator==(const SparseWindowSettings&, const SparseWindowSettings&) = default;
};

/// Training goes on with the survivors; a rollback only if some expert has no copy left (Lazarus, arXiv 2407.04656).
struct ElasticSettings {
  std::int64_t copies = 2;            // of every expert, on nodes a stride apart
  Duration reconfiguration{};         // regroup and move state, without detection
  std::int64_t storage_interval = 0;  // steps between asynchronous full checkpoints; 0: none
  double least_nodes = 0.5;           // with a smaller share of the nodes the job waits for repairs

  friend bool operator==(const ElasticSettings&, const ElasticSettings&) = default;
};

/// CheckpointPolicy: none, blocking full, asynchronous full and the two kinds of PEC, as the runtime has them.
using PolicySettings =
    std::variant<CheckpointPolicy, PeerReplicaSettings, JustInTimeSettings, SparseWindowSettings, ElasticSettings>;

}  // namespace moecast
