#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/units.h"
#include "sim/campaign/campaign_scenario.h"

namespace moecast {

/// Consecutive nodes.
struct NodeRange {
  std::int64_t first = 0;
  std::int64_t count = 0;

  friend bool operator==(const NodeRange&, const NodeRange&) = default;
};

/// One failure with everything about it that chance decides.
struct Failure {
  static constexpr std::size_t kMostCompanions = 4;

  Instant at{};
  std::size_t mode_index = 0;
  std::int64_t unit = 0;
  NodeRange nodes;                                         // whose processes stop
  bool replaced = false;                                   // ... and whose memory is lost: they are replaced
  std::array<std::int64_t, kMostCompanions> companions{};  // further nodes
  std::size_t companion_count = 0;
  Duration detection{}, diagnosis{}, repair{};
  Duration lasts{};    // Slow
  Duration latency{};  // Corruption

  friend bool operator==(const Failure&, const Failure&) = default;
};

/// The failures of one replica in order of time: a pure function of the scenario, its seed and the replica's number,
/// the same whatever the job does. It is drawn piece by piece, so that weeks without end need no memory. The scenario
/// outlives the stream.
class FailureStream {
 public:
  FailureStream(const CampaignScenario& scenario, std::int64_t replica);

  /// The next failure; none if no more come (a recorded log at its end, or a fresh clock that stands still).
  [[nodiscard]] const Failure* peek() const { return has_next_ ? &next_ : nullptr; }
  void pop();

  /// FailureClock::Fresh only: training stopped, no failure comes until `restart`, which begins new gaps.
  void halt();
  void restart(Instant now);

 private:
  /// One source of failures: all units of a mode together, or (`each`) its units one by one.
  struct Source {
    std::size_t mode_index = 0;
    std::int64_t units = 1;
    double next = 0;  // seconds; infinite: never
    std::uint64_t gap_draw = 0;
    std::int64_t next_unit = 0;  // `each` only
    // `each`: units that have not failed yet have cumulative hazard `hazard`; those that have, their next failure.
    double hazard = 0;
    std::int64_t untouched = 0;
    std::priority_queue<std::pair<double, std::int64_t>, std::vector<std::pair<double, std::int64_t>>, std::greater<>>
        again;
    double first_untouched = 0;
  };

  void begin(Source& source, double now);
  void step(Source& source);
  void choose_each(Source& source);
  [[nodiscard]] double gap(Source& source);
  void refill();
  [[nodiscard]] Failure draw(const Source& source, double at) const;
  void draw_reach(const FailureMode& mode, std::int64_t unit, Failure& failure) const;

  const CampaignScenario* scenario_;
  std::uint64_t entity_;
  CounterRandom gaps_;
  CounterRandom traits_;
  std::vector<Source> sources_;
  std::size_t recorded_next_ = 0;
  std::uint64_t ordinal_ = 0;
  Failure next_;
  std::size_t source_of_next_ = 0;
  bool has_next_ = false;
};

/// All failures before `until`, for people and tests.
[[nodiscard]] std::vector<Failure> draw_failures(const CampaignScenario& scenario, std::int64_t replica, Instant until);
/// One line a failure: when, what, where, how long.
[[nodiscard]] std::string failure_table(const CampaignScenario& scenario, const std::vector<Failure>& failures);

}  // namespace moecast
