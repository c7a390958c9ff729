#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json_document.h"
#include "base/json_reader.h"

namespace moecast {

/// One place of the scenario and the values that go there. The values stand in the sweep document as a list, those of a
/// range too, so that messages about a point name the axis that it came from.
struct AxisTrack {
  std::string name;     // of the column: "interval"
  std::string pointer;  // into the scenario
  std::string values;   // pointer to the list in the sweep document
  std::vector<std::string> labels;
  std::vector<double> numbers;  // one a value; empty if some value is none
  std::string unit;             // of the numbers: "ns", "bytes" ...; empty: plain numbers

  /// Name and unit: "storage_write_bytes_per_second".
  [[nodiscard]] std::string column() const { return unit.empty() ? name : name + "_" + unit; }
};

/// A condition on a point's scenario, or on as much of it as stands already:
///
///   {"pointer": "/campaign/policy/kind", "is": "pec"}             or a list of values
///   {"pointer": "/campaign/policy/persist_experts", "at_most": {"pointer": "/campaign/policy/snapshot_experts"}}
///   {"pointer": "/workload/parallel/expert", "at_least": 2}
///
/// Numbers with units compare by value. A condition on what is not there does not hold.
struct SweepCondition {
  enum class Kind { Is, AtMost, AtLeast };
  std::string pointer;
  Kind kind = Kind::Is;
  std::string operand;  // pointer to "is", "at_most" or "at_least" in the sweep document
  std::string other;    // pointer into the scenario to compare with; empty: the operand is the value
};

/// One dimension of the grid: one track, or several that move together ("zip").
struct SweepAxis {
  std::vector<AxisTrack> tracks;
  std::vector<SweepCondition> when;  // all must hold, else the axis does not apply and has one value: the base's
  [[nodiscard]] std::size_t size() const { return tracks.front().labels.size(); }
  /// "interval"; "hardware / nodes" of several.
  [[nodiscard]] std::string name() const;
  /// Of a value, likewise; empty where the axis does not apply.
  [[nodiscard]] std::string label(std::optional<std::uint32_t> value) const;
};

/// The list that a range stands for: it goes into the sweep document once everything is read.
struct ExpandedRange {
  std::string values;  // pointer of the list
  std::string origin;  // pointer of the range
  std::string text;    // the list as JSON
};

/// Reads "axes"; what their ranges stand for is added to `expanded`. Names are made to differ from each other and from
/// those in `taken`. Problems go to the reader.
///
///   {"pointer": "/campaign/policy/interval", "name": "interval", "values": [10, 20, 50], "labels": [...], "when":
///   {...}}
///   {"pointer": "...", "range": {"from": 10, "to": 50, "step": 10}}
///   {"pointer": "...", "log_range": {"from": "1 GB/s", "to": "100 GB/s", "count": 5}}
///   {"zip": [axis, axis], "when": [...]}
[[nodiscard]] std::vector<SweepAxis> read_axes(JsonReader& root, const std::set<std::string>& taken,
                                               std::vector<ExpandedRange>& expanded);

/// Reads the conditions at `key`: one object, or a list of them; none if there is no such key.
[[nodiscard]] std::vector<SweepCondition> read_conditions(JsonReader& reader, std::string_view key);
[[nodiscard]] bool holds(const SweepCondition& condition, const JsonDocument& scenario, const JsonDocument& sweep);

}  // namespace moecast
