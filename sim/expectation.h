#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "models/metrics.h"
#include "models/timeline.h"

namespace moecast {

/// What a published value is about: the fields of StepMetrics, and ratios to another scenario.
enum class Metric {
  StepTime,
  Compute,
  Communication,
  Exposed,
  AllToAll,
  ExposedAllToAll,
  Overlap,
  CommunicationShare,
  Speedup,  // step time of another scenario / step time of this one
};

/// Which operators of a step count. Times of a scope are those of its operators alone: a "step_time" from the first
/// start to the last end among them.
enum class Scope {
  Step,
  Forward,
  Backward,
  ForwardBlocks,  // forward without embedding and head: what block-level measurements show
  Blocks,         // forward and backward without embedding and update; the head between them counts in step_time
};
inline constexpr int kScopeCount = 5;

/// Another scenario that runs `times` times beside the two of a speedup.
struct Beside {
  std::filesystem::path scenario;
  std::int64_t times = 1;
  Scope scope = Scope::Step;
};

/// One published value, in a scenario file:
///
///   {"metric": "step_time", "scope": "forward", "value": "12.7 ms", "tolerance": "10 %", "source": "..."}
///   {"metric": "speedup", "relative_to": "top2.json", "value": 1.43, "tolerance": "5 %", "source": "..."}
///
/// "forward_time" is "step_time" in the scope "forward". Times have units, ratios are numbers; a tolerance is relative
/// ("10 %") or, for times, a time ("0.5 ms"). "note" says why a tolerance is wide.
///
/// "known_deviation": "-8 %" stands where ours is known to miss the tolerance, with a note that says why: the value
/// then counts as missed, but does not fail as long as the deviation is this one to half a percentage point.
///
/// "beside": [{"scenario": "stem.json", "times": 2, "scope": "step"}] lists what runs, unchanged, before or after both
/// scenarios of a speedup (in the same scope unless said), and "times": 9 how often these two run themselves.
struct Expectation {
  Metric metric = Metric::StepTime;
  Scope scope = Scope::Step;
  double value = 0;       // seconds or a ratio
  std::string tolerance;  // as written
  double allowed = 0;     // |ours - value| at most; seconds or a ratio
  std::string source;
  std::string note;
  std::optional<std::filesystem::path> relative_to = std::nullopt;  // of Speedup: another scenario file
  std::vector<Beside> beside = {};                                  // of Speedup
  std::int64_t times = 1;                                           // of Speedup, with `beside`
  std::optional<double> known_deviation = std::nullopt;             // (ours - value) / value
};

/// What a value of ours is, held against an expectation.
enum class Judgement { Pass, Known, Fail };
[[nodiscard]] Judgement judgement_of(const Expectation& expectation, double ours);

/// The array "expect" of `scenario`; empty if there is none. Problems go to the reader.
[[nodiscard]] std::vector<Expectation> read_expectations(JsonReader& scenario);
[[nodiscard]] nlohmann::ordered_json to_json(const Expectation& expectation);

[[nodiscard]] bool is_time(Metric metric);
/// "forward_blocks.step_time", "speedup": metric and scope in one word.
[[nodiscard]] std::string name_of(Metric metric, Scope scope);
/// "12.7 ms" or "1.43": for tables.
[[nodiscard]] std::string pretty(Metric metric, double value);

/// The timeline's metrics as if it had only the operators of the scope.
[[nodiscard]] StepMetrics metrics_of(const Timeline& timeline, Scope scope);
/// The metric's value; not for Speedup.
[[nodiscard]] double value_of(Metric metric, const StepMetrics& metrics);

}  // namespace moecast
