#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "runtime/backend.h"
#include "runtime/checkpoint/engine.h"
#include "runtime/checkpoint/restore.h"
#include "runtime/comm/inproc.h"
#include "runtime/cpu/cpu_backend.h"

// A made-up training state for checkpoint tests: every element is a function of its name and of the step after which it
// was saved, so that a restored state tells where each element came from.
namespace moecast::testing {

inline const std::filesystem::path kFolder = "run/checkpoints";

/// Two non-expert tensors and `unit_count` experts of two tensors; weight and first moment of each.
class ToyModel {
 public:
  explicit ToyModel(std::int64_t unit_count = 4, std::int64_t scale = 1);

  struct Item {
    std::string tensor;
    Component component;
    DType dtype;
    std::vector<std::int64_t> shape;
    std::int64_t count;
    std::string unit;
  };
  [[nodiscard]] const std::vector<Item>& items() const { return items_; }
  [[nodiscard]] const std::vector<std::string>& units() const { return units_; }
  [[nodiscard]] ModelIdentity identity() const;

 private:
  std::vector<Item> items_;
  std::vector<std::string> units_;
};

/// One rank's copy of the state: all non-expert tensors, and the units with index % ranks == rank. `replicas`: every
/// rank has every unit, and saves its even share of it.
class ToyRank {
 public:
  ToyRank(const ToyModel& model, int rank, int ranks, bool replicas = false);

  /// Every element becomes what it is after this step.
  void set_step(std::int64_t step);
  /// The base in even shares over the ranks, and the chosen units. Units in `memory_only` stay in host memory.
  [[nodiscard]] SnapshotRequest request(std::int64_t step, const std::set<std::size_t>& chosen,
                                        const std::set<std::size_t>& memory_only = {});
  [[nodiscard]] std::vector<RestoreTarget> targets();
  void clear();  // zeros

  /// Is every element of the unit ("" the base) what it is after this step?
  [[nodiscard]] bool is_at(const std::string& unit, std::int64_t step) const;
  /// Everything is what the report says it is.
  void expect(const RestoreReport& report) const;
  [[nodiscard]] bool owns(const std::string& unit) const;

 private:
  struct Data {
    ToyModel::Item item;
    std::vector<std::byte> bytes;
  };
  std::vector<Data> data_;
  const ToyModel& model_;
  int rank_;
  int ranks_;
  bool replicas_;
};

/// All ranks of one run as threads, with their memories, which survive their engines.
class ToyRun {
 public:
  ToyRun(const ToyModel& model, int ranks, bool replicas = false);
  [[nodiscard]] int ranks() const { return static_cast<int>(states_.size()); }
  [[nodiscard]] ToyRank& state(int rank) { return states_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] SnapshotMemory& memory(int rank) { return *memories_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Backend& backend(int rank) { return *backends_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] const Clock& clock() const { return clock_; }

  [[nodiscard]] EngineOptions options() const;
  /// Engines for all ranks, or the first rank's error. `of_rank_0`: another way to the same files for that rank.
  [[nodiscard]] Result<std::vector<std::unique_ptr<CheckpointEngine>>> engines(Environment& environment,
                                                                               const EngineOptions& options,
                                                                               Environment* of_rank_0 = nullptr);
  /// Restores all ranks; every rank sees `memories` (those that survived). The report of each rank.
  [[nodiscard]] Result<std::vector<RestoreReport>> restore_all(Environment& environment,
                                                               const std::vector<const SnapshotMemory*>& memories = {},
                                                               const RestoreBounds& bounds = {},
                                                               const std::filesystem::path& folder = kFolder);
  /// One snapshot of every rank, finished but not drained.
  void snapshot(std::vector<std::unique_ptr<CheckpointEngine>>& engines, std::int64_t step,
                const std::set<std::size_t>& chosen, const std::set<std::size_t>& memory_only = {},
                bool persist = true);

 private:
  void on_ranks(const std::function<void(int)>& run);

  const ToyModel& model_;
  SteadyClock clock_;
  std::vector<ToyRank> states_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<SnapshotMemory>> memories_;
  std::vector<std::unique_ptr<Communicator>> storage_;  // of the engines; made anew for each set
};

void drain(std::vector<std::unique_ptr<CheckpointEngine>>& engines);
[[nodiscard]] std::set<std::size_t> all_units(const ToyModel& model);

}  // namespace moecast::testing
