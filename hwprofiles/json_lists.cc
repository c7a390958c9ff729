#include "hwprofiles/json_lists.h"

#include <algorithm>
#include <functional>

#include <fmt/ranges.h>

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

std::optional<double> read_size(ListReader& list, const Json& value, SizeKind kind, const std::string& where) {
  if (kind == SizeKind::InBytes) {
    const auto size = list.unit(value, parse_bytes, where);
    return size ? std::optional(size->value()) : std::nullopt;
  }
  if (value.is_number()) return value.get<double>();
  list.bad(where, "a number", value);
  return std::nullopt;
}

}  // namespace

std::string shown_json(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

std::vector<std::int64_t> read_axis(JsonReader& reader, std::string_view key) {
  std::vector<std::int64_t> axis = reader.integers(key, 1, kMaxSize);
  const bool ascends = std::adjacent_find(axis.begin(), axis.end(), std::greater_equal<>()) == axis.end();
  if (!ascends) reader.problem(key, "out-of-range", "sizes that ascend", fmt::format("{}", fmt::join(axis, ", ")));
  if (axis.empty() && reader.good()) reader.problem(key, "out-of-range", "at least one size", "none");
  return axis;
}

CostCurve read_curve(ListReader& list, const Json& value, SizeKind kind, const std::string& where) {
  CostCurve curve;
  if (!value.is_array() || value.empty()) {
    list.bad(where, "a list of [size, time]", value);
    return curve;
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const Json& point = value[i];
    const std::string at = fmt::format("{}{}point {}", where, where.empty() ? "" : ", ", i);
    const bool pair = point.is_array() && point.size() == 2;
    const bool object = point.is_object() && point.size() == 2 && point.contains("size") && point.contains("time");
    if (!pair && !object) {
      list.bad(at, "[size, time] or {\"size\": ..., \"time\": ...}", point);
      continue;
    }
    const auto size = read_size(list, pair ? point[0] : point["size"], kind, at);
    const auto time = list.unit(pair ? point[1] : point["time"], parse_duration, at);
    if (!size || !time) continue;
    const bool rises = curve.points.empty() || *size > curve.points.back().size;
    if (!(*size > 0) || !rises || time->count() <= 0) {
      list.bad(at, "sizes that ascend and times, all above zero", point, "out-of-range");
      continue;
    }
    curve.points.push_back({*size, *time});
  }
  return curve;
}

std::vector<std::pair<double, double>> read_efficiency(JsonReader& reader) {
  std::vector<std::pair<double, double>> curve;
  if (!reader.has("efficiency")) return curve;
  ListReader list(reader, "efficiency");
  if (!list.json().is_array()) {
    list.bad("", "a list of [bytes, fraction]", list.json());
    return curve;
  }
  for (std::size_t i = 0; i < list.json().size(); ++i) {
    const Json& point = list.json()[i];
    const std::string at = fmt::format("point {}", i);
    if (!list.is_list(point, 2, at)) continue;
    const auto size = read_size(list, point[0], SizeKind::InBytes, at);
    const bool fraction = point[1].is_number() && point[1].get<double>() > 0 && point[1].get<double>() <= 1;
    const bool rises = size && *size > 0 && (curve.empty() || *size > curve.back().first);
    if (!fraction || !rises) {
      list.bad(at, "bytes that ascend and a fraction above 0 and up to 1", point, "out-of-range");
      continue;
    }
    curve.emplace_back(*size, point[1].get<double>());
  }
  return curve;
}

}  // namespace moecast
