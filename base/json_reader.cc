#include "base/json_reader.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_parser.h"
#include "base/nearest.h"

namespace moecast {

namespace {

using json::child;
using json::Json;

constexpr std::size_t kMaxProblems = 50;

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

struct JsonReader::State {
  struct Node {
    const Json* value;  // null for an object that is not there
    std::string pointer;
    std::set<std::string, std::less<>> asked;
    bool all_known = false;
  };
  const JsonDocument* document;
  std::vector<Node> nodes;
  std::vector<Problem> problems;
  std::size_t dropped = 0;  // problems beyond kMaxProblems

  void report(const std::string& pointer, std::string code, std::string expected, std::string found,
              std::string suggestion) {
    const JsonPlace place = document->place(pointer);
    report({place.file, place.line, place.column, pointer, std::move(code), std::move(expected), std::move(found),
            std::move(suggestion)});
  }

  void report(Problem problem) {
    if (problems.size() < kMaxProblems) {
      problems.push_back(std::move(problem));
    } else {
      ++dropped;
    }
  }
};

JsonReader::JsonReader(const JsonDocument& document) : state_(std::make_shared<State>()) {
  state_->document = &document;
  const Json& root = document.json();
  state_->nodes.push_back({root.is_object() ? &root : nullptr, "", {}, false});
  if (!root.is_object()) state_->report("", "wrong-type", "an object", shown(root), "");
}

JsonReader::JsonReader(std::shared_ptr<State> state, std::size_t node) : state_(std::move(state)), node_(node) {}

std::string JsonReader::pointer() const { return state_->nodes[node_].pointer; }
bool JsonReader::good() const { return state_->problems.empty(); }
std::size_t JsonReader::problem_count() const { return state_->problems.size() + state_->dropped; }

bool JsonReader::has(std::string_view key) {
  State::Node& node = state_->nodes[node_];
  node.asked.emplace(key);
  return node.value != nullptr && node.value->contains(std::string(key));
}

std::string JsonReader::kind(std::string_view key) {
  if (!has(key)) return "";
  return (*state_->nodes[node_].value)[std::string(key)].type_name();
}

const Json* JsonReader::find(std::string_view key, bool optional) {
  if (has(key)) return &(*state_->nodes[node_].value)[std::string(key)];
  State::Node& node = state_->nodes[node_];
  if (!optional && node.value != nullptr) {
    // The nearest key that stands there is offered when the unknown keys are reported; here we only say what is
    // missing.
    state_->report(child(node.pointer, key), "missing-key", fmt::format("the key \"{}\"", key), "nothing", "");
  }
  return nullptr;
}

void JsonReader::problem(std::string_view key, std::string code, std::string expected, std::string found,
                         std::string suggestion) {
  const std::string& at = state_->nodes[node_].pointer;
  state_->report(key.empty() ? at : child(at, key), std::move(code), std::move(expected), std::move(found),
                 std::move(suggestion));
}

void JsonReader::problems_of(std::string_view key, const Error& error) {
  for (const Problem& found : error.problems) state_->report(found);
  if (error.problems.empty()) problem(key, "unreadable", "a readable file", error.text());
}

namespace {
std::string integer_range(std::int64_t low, std::int64_t high) {
  if (high == INT64_MAX) return low == 0 ? "an integer, 0 or more" : fmt::format("an integer, {} or more", low);
  return fmt::format("an integer in {}..{}", low, high);
}
std::string number_range(double low, double high) {
  if (std::isinf(low) && std::isinf(high)) return "a number";
  if (std::isinf(high) || high >= 1e300) return fmt::format("a number, {} or more", low);
  return fmt::format("a number in {}..{}", low, high);
}
bool integer_in(const Json& value, std::int64_t low, std::int64_t high) {
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) return false;
  return value.is_number_integer() && value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
}
bool number_in(const Json& value, double low, double high) {
  return value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= low &&
         value.get<double>() <= high;
}
std::string number_code(const Json& value) { return value.is_number() ? "out-of-range" : "wrong-type"; }
}  // namespace

std::int64_t JsonReader::integer(std::string_view key, std::int64_t low, std::int64_t high,
                                 std::optional<std::int64_t> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(low);
  if (integer_in(*value, low, high)) return value->get<std::int64_t>();
  problem(key, value->is_number_integer() ? "out-of-range" : "wrong-type", integer_range(low, high), shown(*value));
  return fallback.value_or(low);
}

double JsonReader::number(std::string_view key, double low, double high, std::optional<double> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(low);
  if (number_in(*value, low, high)) return value->get<double>();
  problem(key, number_code(*value), number_range(low, high), shown(*value));
  return fallback.value_or(low);
}

bool JsonReader::boolean(std::string_view key, std::optional<bool> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(false);
  if (value->is_boolean()) return value->get<bool>();
  problem(key, "wrong-type", "true or false", shown(*value));
  return fallback.value_or(false);
}

std::string JsonReader::text(std::string_view key, std::optional<std::string> fallback) {
  const Json* value = find(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or("");
  if (value->is_string()) return value->get<std::string>();
  problem(key, "wrong-type", "a text in quotes", shown(*value));
  return fallback.value_or("");
}

std::filesystem::path JsonReader::path(std::string_view key, std::optional<std::filesystem::path> fallback) {
  const bool there = has(key);
  const std::string name = text(key, fallback ? std::optional<std::string>(fallback->string()) : std::nullopt);
  if (!there || name.empty()) return fallback.value_or("");
  const std::filesystem::path found(name);
  const std::filesystem::path file(state_->document->place(child(pointer(), key)).file);
  if (found.is_absolute() || !file.has_parent_path() || file.string().starts_with("--set")) return found;
  return (file.parent_path() / found).lexically_normal();
}

template <typename T, typename Parse>
T JsonReader::unit(std::string_view key, const std::optional<T>& fallback, Parse parse) {
  const Json* value = find(key, fallback.has_value());
  if (value == nullptr) return fallback.value_or(T{});
  // A bare number is parsed too, as text without a unit: the message then shows the form that was meant.
  if (!value->is_string() && !value->is_number()) {
    problem(key, "wrong-type", "a text with a number and a unit", shown(*value));
    return fallback.value_or(T{});
  }
  const Result<T> parsed = parse(value->is_string() ? value->get<std::string>() : value->dump());
  if (parsed.ok()) return *parsed;
  problem(key, "bad-unit", parsed.error().message, shown(*value));
  return fallback.value_or(T{});
}

Bytes JsonReader::bytes(std::string_view key, std::optional<Bytes> fallback) {
  return unit(key, fallback, parse_bytes);
}
Flops JsonReader::flops(std::string_view key, std::optional<Flops> fallback) {
  return unit(key, fallback, parse_flops);
}
BytesPerSecond JsonReader::bytes_per_second(std::string_view key, std::optional<BytesPerSecond> fallback) {
  return unit(key, fallback, parse_bytes_per_second);
}
FlopsPerSecond JsonReader::flops_per_second(std::string_view key, std::optional<FlopsPerSecond> fallback) {
  return unit(key, fallback, parse_flops_per_second);
}
Duration JsonReader::duration(std::string_view key, std::optional<Duration> fallback) {
  return unit(key, fallback, parse_duration);
}

namespace {
template <typename T, typename Accept>
std::vector<T> list(const Json* value, std::size_t& bad, Accept accept) {
  std::vector<T> out;
  bad = SIZE_MAX;
  for (std::size_t i = 0; i < value->size(); ++i) {
    if (!accept((*value)[i])) {
      bad = i;
      return out;
    }
    out.push_back((*value)[i].template get<T>());
  }
  return out;
}
}  // namespace

std::vector<std::int64_t> JsonReader::integers(std::string_view key, std::int64_t low, std::int64_t high) {
  const Json* value = find(key, false);
  if (value == nullptr) return {};
  std::size_t bad = SIZE_MAX;
  if (!value->is_array()) {
    problem(key, "wrong-type", "a list of integers", shown(*value));
    return {};
  }
  auto out = list<std::int64_t>(value, bad, [&](const Json& v) { return integer_in(v, low, high); });
  if (bad != SIZE_MAX)
    problem(key, "out-of-range", integer_range(low, high) + fmt::format(" at position {}", bad), shown((*value)[bad]));
  return out;
}

std::vector<double> JsonReader::numbers(std::string_view key, double low, double high) {
  const Json* value = find(key, false);
  if (value == nullptr) return {};
  std::size_t bad = SIZE_MAX;
  if (!value->is_array()) {
    problem(key, "wrong-type", "a list of numbers", shown(*value));
    return {};
  }
  auto out = list<double>(value, bad, [&](const Json& v) { return number_in(v, low, high); });
  if (bad != SIZE_MAX)
    problem(key, "out-of-range", number_range(low, high) + fmt::format(" at position {}", bad), shown((*value)[bad]));
  return out;
}

std::vector<std::string> JsonReader::texts(std::string_view key) {
  const Json* value = find(key, false);
  if (value == nullptr) return {};
  std::size_t bad = SIZE_MAX;
  if (!value->is_array()) {
    problem(key, "wrong-type", "a list of texts", shown(*value));
    return {};
  }
  auto out = list<std::string>(value, bad, [](const Json& v) { return v.is_string(); });
  if (bad != SIZE_MAX) problem(key, "wrong-type", fmt::format("a text at position {}", bad), shown((*value)[bad]));
  return out;
}

std::optional<std::size_t> JsonReader::choice_index(std::string_view key, const std::vector<std::string_view>& names,
                                                    bool optional) {
  const Json* value = find(key, optional);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> candidates(names.begin(), names.end());
  if (value->is_string()) {
    const auto at = std::find(candidates.begin(), candidates.end(), value->get<std::string>());
    if (at != candidates.end()) return static_cast<std::size_t>(at - candidates.begin());
  }
  problem(key, value->is_string() ? "unknown-value" : "wrong-type",
          fmt::format("one of {}", fmt::join(candidates, ", ")), shown(*value),
          value->is_string() ? nearest_name(value->get<std::string>(), candidates) : "");
  return std::nullopt;
}

JsonReader JsonReader::object(std::string_view key, bool optional) {
  const Json* value = find(key, optional);
  if (value != nullptr && !value->is_object()) {
    problem(key, "wrong-type", "an object", shown(*value));
    value = nullptr;
  }
  state_->nodes.push_back({value, child(pointer(), key), {}, false});
  return JsonReader(state_, state_->nodes.size() - 1);
}

std::vector<JsonReader> JsonReader::objects(std::string_view key, bool optional) {
  const Json* value = find(key, optional);
  std::vector<JsonReader> out;
  if (value == nullptr) return out;
  if (!value->is_array()) {
    problem(key, "wrong-type", "a list of objects", shown(*value));
    return out;
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Json& element = (*value)[i];
    const std::string at = fmt::format("{}/{}", child(pointer(), key), i);
    if (!element.is_object()) {
      state_->report(at, "wrong-type", "an object", shown(element), "");
      continue;
    }
    state_->nodes.push_back({&element, at, {}, false});
    out.push_back(JsonReader(state_, state_->nodes.size() - 1));
  }
  return out;
}

std::vector<std::string> JsonReader::keys() {
  State::Node& node = state_->nodes[node_];
  node.all_known = true;
  std::vector<std::string> out;
  if (node.value == nullptr) return out;
  for (const auto& entry : node.value->items()) out.push_back(entry.key());
  return out;
}

Json JsonReader::raw(std::string_view key) {
  const Json* value = find(key, true);
  return value == nullptr ? Json() : *value;
}

Status JsonReader::finish() {
  for (State::Node& node : state_->nodes) {
    if (node.value == nullptr || node.all_known) continue;
    node.all_known = true;  // each unknown key is reported once, however often finish() is called
    const std::vector<std::string> known(node.asked.begin(), node.asked.end());
    for (const auto& entry : node.value->items()) {
      if (node.asked.contains(entry.key())) continue;
      state_->report(child(node.pointer, entry.key()), "unknown-key",
                     fmt::format("one of the keys {}", fmt::join(known, ", ")), fmt::format("\"{}\"", entry.key()),
                     nearest_name(entry.key(), known));
    }
  }
  if (state_->problems.empty()) return {};
  std::stable_sort(state_->problems.begin(), state_->problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.file, a.line, a.column) < std::tie(b.file, b.line, b.column);
  });
  std::string more;
  if (state_->dropped > 0)
    more = fmt::format("{} problems, the first {}:", state_->dropped + kMaxProblems, kMaxProblems);
  return Error{ErrorKind::BadInput, "", std::move(more), state_->problems};
}

}  // namespace moecast
