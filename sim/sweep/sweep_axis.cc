#include "sim/sweep/sweep_axis.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/sweep/sweep_range.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

std::string last_token(const std::string& pointer) { return pointer.substr(pointer.rfind('/') + 1); }

std::string read_pointer(JsonReader& reader) {
  const std::string pointer = reader.text("pointer");
  if (!pointer.empty() && (pointer.front() != '/' || pointer.back() == '/')) {
    reader.problem("pointer", "bad-pointer", "a JSON pointer such as /campaign/policy/interval", pointer);
  }
  return pointer;
}

/// The values of an axis as a JSON list; an empty one after a problem.
Json read_range_values(JsonReader& axis, std::string_view kind) {
  JsonReader range = axis.object(kind);
  const Json from = range.raw("from"), to = range.raw("to");
  const bool linear = kind == "range";
  const Json step = linear ? range.raw("step") : Json(0);
  const std::int64_t count = linear ? 2 : range.integer("count", 2, kMostAxisValues);
  for (const char* key : {"from", "to", "step"}) {
    if (linear || std::string_view(key) != "step") {
      if (!range.has(key)) range.problem(key, "missing-key", fmt::format("the key \"{}\"", key), "nothing");
    }
  }
  if (from.is_null() || to.is_null() || step.is_null()) return Json::array();
  const Result<Json> values = linear ? linear_values(from, to, step) : logarithmic_values(from, to, count);
  if (values.ok()) return *values;
  const Json found = axis.raw(kind);
  axis.problem(kind, "bad-range", values.error().message, found.dump());
  return Json::array();
}

/// A short text for a value: objects by their name or kind.
std::string label_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    for (const char* key : {"name", "kind"}) {
      if (value.contains(key) && value[key].is_string()) return value[key].get<std::string>();
    }
  }
  std::string text = value.dump();
  return text.size() <= 40 ? text : text.substr(0, 37) + "...";
}

/// Labels of objects may repeat ("pec", "pec"): with `distinct` the later ones get a number.
std::vector<std::string> labels_of(const Json& values, bool distinct) {
  std::vector<std::string> labels;
  std::set<std::string> seen;
  for (const Json& value : values) {
    std::string label = label_of(value);
    for (int i = 2; distinct && !seen.insert(label).second; ++i) label = fmt::format("{} ({})", label_of(value), i);
    labels.push_back(std::move(label));
  }
  return labels;
}

/// Numbers and their unit, if all values have numbers of one unit.
void add_numbers(const Json& values, AxisTrack& track) {
  for (const Json& value : values) {
    const std::optional<Magnitude> magnitude = magnitude_of(value);
    if (!magnitude || (!track.numbers.empty() && magnitude->family != track.unit)) {
      track.numbers.clear();
      track.unit.clear();
      return;
    }
    track.unit = magnitude->family;
    track.numbers.push_back(magnitude->value);
  }
}

/// `distinct`: a value may not come twice, as two points would be the same.
Json read_values(JsonReader& axis, bool distinct) {
  const Json values = axis.raw("values");
  if (values.is_array() && !values.empty()) {
    for (std::size_t i = 0; i < values.size() && distinct; ++i) {
      const auto same = std::find(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i), values[i]);
      if (same == values.begin() + static_cast<std::ptrdiff_t>(i)) continue;
      axis.problem("values", "duplicate", "every value once", values[i].dump());
      return Json::array();
    }
    return values;
  }
  axis.problem("values", "wrong-type", "a list with at least one value", values.is_array() ? "[]" : values.dump());
  return Json::array();
}

AxisTrack read_track(JsonReader& axis, bool zipped, std::vector<ExpandedRange>& expanded) {
  AxisTrack track;
  track.pointer = read_pointer(axis);
  track.name = axis.text("name", last_token(track.pointer));
  track.values = axis.pointer() + "/values";
  std::vector<std::string_view> given;
  for (const char* key : {"values", "range", "log_range"}) {
    if (axis.has(key)) given.emplace_back(key);
  }
  if (given.size() != 1) {
    axis.problem("", "missing-key", "one of \"values\", \"range\" and \"log_range\"",
                 fmt::format("{} of them", given.size()));
    return track;
  }
  const bool listed = given.front() == "values";
  const Json values = listed ? read_values(axis, !zipped) : read_range_values(axis, given.front());
  if (!listed) expanded.push_back({track.values, fmt::format("{}/{}", axis.pointer(), given.front()), values.dump()});
  track.labels = labels_of(values, !zipped);
  add_numbers(values, track);
  if (axis.has("labels")) {
    const std::vector<std::string> labels = axis.texts("labels");
    if (labels.size() != values.size()) {
      axis.problem("labels", "wrong-length", fmt::format("one label for each of the {} values", values.size()),
                   std::to_string(labels.size()));
    }
    track.labels = labels;
  }
  return track;
}

SweepAxis read_axis(JsonReader& reader, std::vector<ExpandedRange>& expanded) {
  SweepAxis axis;
  if (reader.has("zip")) {
    for (JsonReader& part : reader.objects("zip")) axis.tracks.push_back(read_track(part, true, expanded));
    if (axis.tracks.empty()) reader.problem("zip", "wrong-length", "at least one axis", "none");
  } else {
    axis.tracks.push_back(read_track(reader, false, expanded));
  }
  for (std::size_t i = 1; i < axis.tracks.size(); ++i) {
    if (axis.tracks[i].labels.size() == axis.size()) continue;
    reader.problem("zip", "wrong-length", fmt::format("as many values in each as in the first, {}", axis.size()),
                   std::to_string(axis.tracks[i].labels.size()));
  }
  axis.when = read_conditions(reader, "when");
  return axis;
}

/// Columns need names of their own: "interval" of two pointers becomes "interval" and "other.interval".
void make_names_unique(JsonReader& root, std::vector<SweepAxis>& axes, std::set<std::string> seen) {
  for (std::size_t i = 0; i < axes.size(); ++i) {
    for (AxisTrack& track : axes[i].tracks) {
      if (track.name.empty() || seen.insert(track.column()).second) continue;
      const std::string parent = last_token(track.pointer.substr(0, track.pointer.rfind('/')));
      track.name = fmt::format("{}.{}", parent, track.name);
      if (seen.insert(track.column()).second) continue;
      root.problem("axes", "duplicate", "a \"name\" that no other column of the results has", track.name);
    }
  }
}

}  // namespace

std::string SweepAxis::name() const {
  std::string out;
  for (const AxisTrack& track : tracks) out += (out.empty() ? "" : " / ") + track.name;
  return out;
}

std::string SweepAxis::label(std::optional<std::uint32_t> value) const {
  std::string out;
  if (!value) return out;
  for (const AxisTrack& track : tracks) out += (out.empty() ? "" : " / ") + track.labels[*value];
  return out;
}

std::vector<SweepAxis> read_axes(JsonReader& root, const std::set<std::string>& taken,
                                 std::vector<ExpandedRange>& expanded) {
  std::vector<SweepAxis> axes;
  for (JsonReader& reader : root.objects("axes")) axes.push_back(read_axis(reader, expanded));
  make_names_unique(root, axes, taken);
  return axes;
}

namespace {

SweepCondition read_condition(JsonReader& reader) {
  SweepCondition condition;
  condition.pointer = read_pointer(reader);
  int given = 0;
  const auto take = [&](const char* key, SweepCondition::Kind kind) {
    if (!reader.has(key)) return;
    ++given;
    condition.kind = kind;
    condition.operand = fmt::format("{}/{}", reader.pointer(), key);
    if (kind == SweepCondition::Kind::Is) return;
    if (reader.kind(key) == "object") {
      JsonReader other = reader.object(key);
      condition.other = read_pointer(other);
    } else if (!magnitude_of(reader.raw(key))) {
      reader.problem(key, "wrong-type", "a number, a text with a number and a unit, or {\"pointer\": \"...\"}",
                     reader.raw(key).dump());
    }
  };
  take("is", SweepCondition::Kind::Is);
  take("at_most", SweepCondition::Kind::AtMost);
  take("at_least", SweepCondition::Kind::AtLeast);
  if (given != 1) {
    reader.problem("", "missing-key", "one of \"is\", \"at_most\" and \"at_least\"", fmt::format("{} of them", given));
  }
  return condition;
}

const Json* value_at(const JsonDocument& document, const std::string& pointer) {
  const Json::json_pointer at(pointer);
  return document.json().contains(at) ? &document.json().at(at) : nullptr;
}

}  // namespace

std::vector<SweepCondition> read_conditions(JsonReader& reader, std::string_view key) {
  std::vector<SweepCondition> out;
  if (!reader.has(key)) return out;
  if (reader.kind(key) == "object") {
    JsonReader one = reader.object(key);
    out.push_back(read_condition(one));
  } else {
    for (JsonReader& each : reader.objects(key)) out.push_back(read_condition(each));
  }
  return out;
}

bool holds(const SweepCondition& condition, const JsonDocument& scenario, const JsonDocument& sweep) {
  const Json* found = value_at(scenario, condition.pointer);
  if (found == nullptr) return false;
  const Json& operand = sweep.json().at(Json::json_pointer(condition.operand));
  if (condition.kind == SweepCondition::Kind::Is) {
    if (!operand.is_array()) return *found == operand;
    return std::find(operand.begin(), operand.end(), *found) != operand.end();
  }
  const Json* limit = condition.other.empty() ? &operand : value_at(scenario, condition.other);
  if (limit == nullptr) return false;
  const std::optional<Magnitude> a = magnitude_of(*found), b = magnitude_of(*limit);
  if (!a || !b || a->family != b->family) return false;
  return condition.kind == SweepCondition::Kind::AtMost ? a->value <= b->value : a->value >= b->value;
}

}  // namespace moecast
