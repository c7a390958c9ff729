#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_reader.h"
#include "base/units.h"
#include "hwprofiles/profile.h"
#include "hwprofiles/time_distribution.h"

namespace moecast {

enum class FailedComponent { Gpu, Hbm, Nic, Host, Switch, Storage, Software };
/// What a rate counts, and how far a failure reaches.
enum class FailureUnit { Gpu, Node, Rack, Cluster };
enum class FailureEffect {
  Crash,       // the job stops
  Slow,        // every step takes `slow_factor` times as long while it lasts (training is synchronous)
  Corruption,  // nothing stops; after `latency` it is found, and versions written since it began are worthless
};

/// One way in which things fail. Rates are per unit, so a profile fits a cluster of any size.
struct FailureMode {
  std::string name;
  FailedComponent component = FailedComponent::Gpu;
  FailureUnit per = FailureUnit::Gpu;
  double mean_between = 0;   // seconds between failures of one unit, averaged over a long time
  TimeDistribution gap_law;  // law of the gaps, mean 1
  bool each = false;         // false: the gaps of all units together follow the law; true: those of every unit alone
  FailureEffect effect = FailureEffect::Crash;
  FailureUnit reach = FailureUnit::Gpu;  // Gpu and Node: the node of the unit; Rack: its rack; Cluster: every node
  double replaced = 1;                   // probability that the nodes it reaches are replaced, and their memory lost
  double spreads_to_rack = 0;            // probability that it takes the whole rack
  double companion = 0;                  // probability that one more node fails with it, then another ... (at most 4)
  std::optional<TimeDistribution> detection, diagnosis, repair;  // none: those of the profile
  double slow_factor = 1;                                        // Slow
  TimeDistribution lasts;                                        // Slow: until it is gone or mitigated
  TimeDistribution latency;                                      // Corruption: until it is found

  friend bool operator==(const FailureMode&, const FailureMode&) = default;
};

/// One failure of a recorded log, replayed as it is.
struct RecordedFailure {
  double at = 0;  // seconds since the start
  std::size_t mode_index = 0;
  std::int64_t unit = 0;

  friend bool operator==(const RecordedFailure&, const RecordedFailure&) = default;
};

/// What follows a failure, apart from loading state.
struct RecoveryTimes {
  TimeDistribution detection;       // until somebody knows that the job stands still
  TimeDistribution diagnosis;       // until it is known which nodes go
  TimeDistribution repair;          // until a replaced node is back
  TimeDistribution process_start;   // containers, processes, libraries
  double communicator_fixed = 0;    // seconds
  double communicator_per_gpu = 0;  // seconds for each GPU of the job

  friend bool operator==(const RecoveryTimes&, const RecoveryTimes&) = default;
};

struct ReliabilityProfile {
  std::string name;
  std::string description;
  std::map<std::string, Source> sources;  // by JSON pointer prefix; the longest prefix wins
  std::vector<FailureMode> modes;
  std::vector<RecordedFailure> recorded;  // ascending in time; empty: failures are drawn
  RecoveryTimes recovery;

  /// Failures per second of a whole cluster, all modes (drawn ones).
  [[nodiscard]] double rate(std::int64_t gpus, std::int64_t nodes, std::int64_t racks) const;

  friend bool operator==(const ReliabilityProfile&, const ReliabilityProfile&) = default;
};

[[nodiscard]] std::int64_t unit_count(FailureUnit unit, std::int64_t gpus, std::int64_t nodes, std::int64_t racks);
[[nodiscard]] std::string_view name_of(FailedComponent component);
[[nodiscard]] std::string_view name_of(FailureUnit unit);
[[nodiscard]] std::string_view name_of(FailureEffect effect);

/// A reliability file (format: hwprofiles/reliability/README.md). Problems go to the reader; every mode and "recovery"
/// need an entry in "sources".
[[nodiscard]] ReliabilityProfile read_reliability(JsonReader& reader);
[[nodiscard]] Result<ReliabilityProfile> load_reliability(const std::filesystem::path& path);

/// As find_profile: a built-in profile by name (hwprofiles/reliability/*.json), else a file relative to `relative_to`.
[[nodiscard]] Result<ReliabilityProfile> find_reliability(std::string_view name_or_path,
                                                          const std::filesystem::path& relative_to);
[[nodiscard]] std::vector<std::string> built_in_reliability_profiles();
/// Reads back to the same profile, to rounding.
[[nodiscard]] nlohmann::ordered_json to_json(const ReliabilityProfile& profile);

/// One screen of text: every mode with its rate per unit and on a cluster of this size, recovery times, sources.
[[nodiscard]] std::string describe(const ReliabilityProfile& profile, std::int64_t gpus, std::int64_t gpus_per_node,
                                   std::int64_t nodes_per_rack);

}  // namespace moecast
