#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/ids.h"
#include "base/json_reader.h"
#include "base/units.h"
#include "models/step_plan.h"
#include "runtime/checkpoint/faulty_environment.h"

namespace moecast {

enum class FaultKind {
  KillRank,  // a rank dies when it begins an operator; its host memory survives, as that of a node's agent does
  LoseNode,  // ranks die, and their host memory is gone
  FlipBits,  // one bit of every block that is written for a while is turned over
  FillDisk,  // the storage is full for a while
  SlowDisk,  // the storage is slow for a while
};

/// One fault. It strikes once; that of a disk lasts for certain steps, also when they are done again.
struct Fault {
  FaultKind kind = FaultKind::KillRank;
  std::vector<std::int64_t> ranks;  // disks: empty means all
  std::int64_t step = 0;            // counts from 0
  std::string operator_name;        // KillRank, LoseNode; Operator::name(): "L1.Dispatch.F"; "": the step's first
  std::int64_t step_count = 1;      // disks
  BytesPerSecond rate{0};           // SlowDisk

  [[nodiscard]] bool kills() const { return kind == FaultKind::KillRank || kind == FaultKind::LoseNode; }
  [[nodiscard]] bool concerns(Rank rank) const;
  /// "rank 1 is killed at L1.Dispatch.F of step 31" (steps count from 1 in what people read).
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Fault&, const Fault&) = default;
};

/// What a killed rank throws.
struct InjectedFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The faults of a run. Any thread may call.
class FaultSchedule {
 public:
  explicit FaultSchedule(std::vector<Fault> faults);

  /// A rank begins an operator: throws InjectedFault if it is to die here.
  void begin(Rank rank, std::int64_t step, const Operator& op);
  /// What has killed a rank since the last call.
  [[nodiscard]] std::optional<Fault> take_killer();
  /// A rank begins a step: its way to the storage suffers what is due.
  void begin_step(Rank rank, std::int64_t step, FaultyEnvironment& environment);

 private:
  struct Entry {
    Fault fault;
    bool struck = false;
  };
  std::mutex mutex_;
  std::vector<Entry> entries_;
  std::optional<Fault> killer_;
};

/// Reads the array "faults" of `root`, if there is one, for a run of so many ranks and steps:
///
///   {"kind": "kill_rank", "rank": 1, "step": 30, "operator": "L1.Dispatch.F"}
///   {"kind": "lose_node", "ranks": [0, 1], "step": 30}
///   {"kind": "flip_bits", "rank": 0, "step": 30, "steps": 20}
///   {"kind": "fill_disk", "step": 30, "steps": 20}
///   {"kind": "slow_disk", "step": 30, "steps": 20, "rate": "10 MB/s"}
///
/// "mean_steps" instead of "step": again and again, after exponential gaps with this mean drawn from the run's seed.
[[nodiscard]] std::vector<Fault> read_faults(JsonReader& root, std::int64_t rank_count, std::int64_t step_count,
                                             std::uint64_t seed);
[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<Fault>& faults);

}  // namespace moecast
