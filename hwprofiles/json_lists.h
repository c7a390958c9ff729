#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_reader.h"
#include "hwprofiles/cost_curve.h"

namespace moecast {

// Lists inside a profile file, read alike wherever they stand. For the readers of hwprofiles/ alone.

inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;

/// At most 60 characters of a value.
[[nodiscard]] std::string shown_json(const nlohmann::ordered_json& value);

/// Values of one key that is a nested list: problems name the key and say where in the list.
class ListReader {
 public:
  ListReader(JsonReader& reader, std::string_view key) : reader_(reader), key_(key), json_(reader.raw(key)) {
    if (json_.is_null()) reader_.problem({}, "missing-key", fmt::format("the key \"{}\"", key), "nothing");
  }
  [[nodiscard]] const nlohmann::ordered_json& json() const { return json_; }
  [[nodiscard]] bool there() const { return !json_.is_null(); }

  void bad(std::string_view where, const std::string& expected, const nlohmann::ordered_json& found,
           const char* code = "wrong-type") {
    reader_.problem(key_, code, where.empty() ? expected : fmt::format("{} at {}", expected, where), shown_json(found));
  }
  /// A list of `count` elements?
  bool is_list(const nlohmann::ordered_json& value, std::size_t count, std::string_view where) {
    if (value.is_array() && value.size() == count) return true;
    bad(where, fmt::format("a list of {}", count), value, "wrong-length");
    return false;
  }
  template <typename T>
  std::optional<T> unit(const nlohmann::ordered_json& value, Result<T> (*parse)(std::string_view),
                        std::string_view where) {
    const Result<T> parsed = parse(value.is_string() ? value.get<std::string>() : shown_json(value));
    if (parsed.ok()) return *parsed;
    bad(where, parsed.error().message, value, "bad-unit");
    return std::nullopt;
  }

 private:
  JsonReader& reader_;
  std::string key_;
  nlohmann::ordered_json json_;
};

/// Ascending positive integers, at least one.
[[nodiscard]] std::vector<std::int64_t> read_axis(JsonReader& reader, std::string_view key);

enum class SizeKind { Plain, InBytes };

/// [[size, "time"], ...] or [{"size": ..., "time": ...}, ...]; sizes ascend, all positive.
[[nodiscard]] CostCurve read_curve(ListReader& list, const nlohmann::ordered_json& value, SizeKind kind,
                                   const std::string& where);

/// [["bytes", fraction], ...] at the key "efficiency"; empty without the key.
[[nodiscard]] std::vector<std::pair<double, double>> read_efficiency(JsonReader& reader);

}  // namespace moecast
