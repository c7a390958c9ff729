#include "base/json_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxProblems = 50;

struct Place {
  std::string file;
  int line = 0;
  int column = 0;
};
using Places = std::map<std::string, Place, std::less<>>;  // by JSON pointer

std::string escaped(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

std::string unescaped(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size())
      out += token[++i] == '1' ? '/' : '~';
    else
      out += token[i];
  }
  return out;
}

std::string join(std::string_view pointer, std::string_view key) { return fmt::format("{}/{}", pointer, escaped(key)); }

Place place_at(std::string_view text, std::size_t offset, const std::string& file) {
  Place place{file, 1, 1};
  std::size_t i = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  for (; i < std::min(offset, text.size()); ++i) {
    if (text[i] == '\n') {
      ++place.line;
      place.column = 1;
    } else if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) {
      ++place.column;  // UTF-8 continuation bytes are no columns
    }
  }
  return place;
}

/// Counts how far the parser has read. nlohmann takes iterators, so the position comes for free.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  const char& operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    if (seen_ != nullptr) *seen_ = at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

/// Builds the document and remembers where each value starts.
class PositionedParser : public nlohmann::json_sax<Json> {
 public:
  PositionedParser(std::string_view text, std::string file, Places& places, std::vector<Problem>& problems)
      : text_(text), file_(std::move(file)), places_(places), problems_(problems), seen_(text.data()) {}

  bool parse(Json& out) {
    CountingIterator begin(text_.data(), &seen_);
    CountingIterator end(text_.data() + text_.size(), nullptr);
    const bool ok = Json::sax_parse(begin, end, this, nlohmann::detail::input_format_t::json, true, false);
    out = std::move(root_);
    return ok && problems_.empty();
  }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(std::int64_t value) override { return add(Json(value), true); }
  bool number_unsigned(std::uint64_t value) override { return add(Json(value), true); }
  bool number_float(double value, const std::string&) override { return add(Json(value), true); }
  bool string(std::string& value) override { return add(Json(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = stack_.back();
    if (level.value->contains(name)) {
      report(start_of_token(false), join(level.pointer, name), "duplicate-key", "each key once",
             fmt::format("\"{}\" twice", name));
    }
    level.key = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    if (const std::size_t at = what.find(": syntax error"); at != std::string::npos) what = what.substr(at + 2);
    (void)last_token;
    const Place place = place_at(text_, position == 0 ? 0 : position - 1, file_);
    problems_.push_back({file_, place.line, place.column, "", "syntax", "valid JSON", what, ""});
    return false;
  }

 private:
  struct Level {
    Json* value;
    std::string pointer;
    std::string key;
  };

  [[nodiscard]] std::size_t offset() const { return static_cast<std::size_t>(seen_ - text_.data()); }

  /// The parser stands one past the token, after numbers one further (it had to look ahead), except at the end of
  /// input.
  [[nodiscard]] std::size_t start_of_token(bool number) const {
    std::size_t end = std::min(offset(), text_.size());
    if (number) {
      const auto in_number = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
      };
      while (end > 0 && !in_number(text_[end - 1])) --end;
      while (end > 0 && in_number(text_[end - 1])) --end;
      return end;
    }
    if (end == 0) return 0;
    if (text_[end - 1] == '"') {
      std::size_t at = end - 1;
      while (at > 0) {
        --at;
        if (text_[at] != '"') continue;
        std::size_t slashes = 0;
        while (slashes < at && text_[at - 1 - slashes] == '\\') ++slashes;
        if (slashes % 2 == 0) break;
      }
      return at;
    }
    if (text_[end - 1] == '{' || text_[end - 1] == '[') return end - 1;
    while (end > 0 && std::isalpha(static_cast<unsigned char>(text_[end - 1]))) --end;
    return end;
  }

  void report(std::size_t at, std::string pointer, std::string code, std::string expected, std::string found) {
    const Place place = place_at(text_, at, file_);
    problems_.push_back({file_, place.line, place.column, std::move(pointer), std::move(code), std::move(expected),
                         std::move(found), ""});
  }

  Json* insert(Json value, bool number) {
    const std::size_t at = start_of_token(number);
    if (stack_.empty()) {
      root_ = std::move(value);
      places_[""] = place_at(text_, at, file_);
      return &root_;
    }
    Level& level = stack_.back();
    const bool array = level.value->is_array();
    places_[child_pointer()] = place_at(text_, at, file_);
    if (array) {
      level.value->push_back(std::move(value));
      return &level.value->back();
    }
    Json& slot = (*level.value)[level.key];
    slot = std::move(value);
    return &slot;
  }

  [[nodiscard]] std::string child_pointer() const {
    const Level& level = stack_.back();
    return level.value->is_array() ? fmt::format("{}/{}", level.pointer, level.value->size())
                                   : join(level.pointer, level.key);
  }

  bool add(Json value, bool number = false) {
    insert(std::move(value), number);
    return true;
  }

  bool open(Json value) {
    if (stack_.size() >= kMaxDepth) {
      report(start_of_token(false), "", "depth", fmt::format("at most {} levels", kMaxDepth), "more");
      return false;
    }
    const std::string pointer = stack_.empty() ? "" : child_pointer();
    Json* slot = insert(std::move(value), false);
    stack_.push_back({slot, pointer, ""});
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string file_;
  Places& places_;
  std::vector<Problem>& problems_;
  const char* seen_;
  Json root_;
  std::vector<Level> stack_;
};

/// RFC 7386 merge patch that carries the places along.
void merge(Json& target, Places& target_places, const Json& patch, const Places& patch_places,
           const std::string& pointer) {
  if (!patch.is_object() || !target.is_object()) {
    target = patch;
    for (auto at = target_places.lower_bound(pointer); at != target_places.end() && at->first.starts_with(pointer);) {
      const bool below = at->first.size() == pointer.size() || at->first[pointer.size()] == '/';
      at = below ? target_places.erase(at) : std::next(at);
    }
    for (auto at = patch_places.lower_bound(pointer); at != patch_places.end() && at->first.starts_with(pointer);
         ++at) {
      if (at->first.size() == pointer.size() || at->first[pointer.size()] == '/') target_places[at->first] = at->second;
    }
    return;
  }
  if (const auto place = patch_places.find(pointer); place != patch_places.end())
    target_places[pointer] = place->second;
  for (const auto& [key, value] : patch.items()) {
    const std::string child = join(pointer, key);
    if (value.is_null()) {
      target.erase(key);
    } else if (!target.contains(key)) {
      Json& slot = target[key];
      slot = nullptr;
      merge(slot, target_places, value, patch_places, child);
    } else {
      merge(target[key], target_places, value, patch_places, child);
    }
  }
}

struct Loaded {
  Json json;
  Places places;
};

Error syntax_error(std::vector<Problem> problems) { return Error{ErrorKind::BadInput, "", "", std::move(problems)}; }

Result<Loaded> load_text(std::string_view text, const std::string& name, const std::filesystem::path& folder,
                         std::vector<std::filesystem::path> chain);

Result<Loaded> load_file(const std::filesystem::path& path, std::vector<std::filesystem::path> chain) {
  std::error_code ignored;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, ignored);
  if (std::find(chain.begin(), chain.end(), canonical) != chain.end()) {
    std::string shown;
    for (const std::filesystem::path& link : chain) shown += link.filename().string() + " -> ";
    return Error{ErrorKind::BadInput, path.string(),
                 fmt::format("extends itself: {}{}", shown, canonical.filename().string())};
  }
  chain.push_back(canonical);
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return text.error();
  return load_text(*text, path.string(), path.has_parent_path() ? path.parent_path() : ".", std::move(chain));
}

Result<Loaded> load_text(std::string_view text, const std::string& name, const std::filesystem::path& folder,
                         std::vector<std::filesystem::path> chain) {
  Loaded own;
  std::vector<Problem> problems;
  if (!PositionedParser(text, name, own.places, problems).parse(own.json)) return syntax_error(std::move(problems));
  if (!own.json.is_object() || !own.json.contains("extends")) return own;

  const Json bases = own.json["extends"].is_array() ? own.json["extends"] : Json::array({own.json["extends"]});
  const Place place = own.places["/extends"];
  own.json.erase("extends");
  Loaded merged{Json::object(), {}};
  for (const Json& base : bases) {
    if (!base.is_string()) {
      return syntax_error({{place.file, place.line, place.column, "/extends", "wrong-type", "a path or a list of paths",
                            base.dump(), ""}});
    }
    const Result<Loaded> loaded = load_file(folder / base.get<std::string>(), chain);
    if (!loaded.ok()) {
      Error error = loaded.error();
      if (error.problems.empty())
        error.place = fmt::format("{}:{}:{}: /extends: {}", place.file, place.line, place.column, error.place);
      return error;
    }
    merge(merged.json, merged.places, loaded->json, loaded->places, "");
  }
  merge(merged.json, merged.places, own.json, own.places, "");
  return merged;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

// JsonDocument
// ---------------------------------------------------------------------------------------------------------

struct JsonDocument::Data {
  std::string file;
  Json json;
  Places places;
};

JsonDocument::JsonDocument(std::unique_ptr<Data> data) : data_(std::move(data)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::read(const std::filesystem::path& path) {
  Result<Loaded> loaded = load_file(path, {});
  if (!loaded.ok()) return loaded.error();
  return JsonDocument(std::make_unique<Data>(Data{path.string(), std::move(loaded->json), std::move(loaded->places)}));
}

Result<JsonDocument> JsonDocument::parse(std::string_view text, std::string name, const std::filesystem::path& folder) {
  Result<Loaded> loaded = load_text(text, name, folder, {});
  if (!loaded.ok()) return loaded.error();
  return JsonDocument(
      std::make_unique<Data>(Data{std::move(name), std::move(loaded->json), std::move(loaded->places)}));
}

Status JsonDocument::set(std::string_view pointer, std::string_view value) {
  const auto bad = [&](std::string message) {
    return Error{ErrorKind::BadInput, fmt::format("--set {}", pointer), std::move(message)};
  };
  if (!pointer.starts_with('/')) return bad("a JSON pointer starts with '/', as in /batch/sequence=128");
  Json* at = &data_->json;
  std::string so_far;
  std::string_view rest = pointer.substr(1);
  while (true) {
    const std::size_t slash = rest.find('/');
    const std::string token = unescaped(rest.substr(0, slash));
    if (at->is_array()) {
      std::size_t index = 0;
      const auto [end, code] = std::from_chars(token.data(), token.data() + token.size(), index);
      if (code != std::errc() || end != token.data() + token.size() || index >= at->size()) {
        return bad(fmt::format("{} is a list of {} elements; \"{}\" is none of them", so_far, at->size(), token));
      }
      at = &(*at)[index];
    } else if (at->is_object()) {
      at = &(*at)[token];
      if (at->is_null() && slash != std::string_view::npos) *at = Json::object();
    } else {
      return bad(fmt::format("{} is neither an object nor a list", so_far.empty() ? "the document" : so_far));
    }
    so_far = join(so_far, token);
    if (slash == std::string_view::npos) break;
    rest = rest.substr(slash + 1);
  }
  Places ignored;
  std::vector<Problem> problems;
  Json parsed;
  if (!PositionedParser(value, "--set", ignored, problems).parse(parsed)) parsed = std::string(value);
  *at = std::move(parsed);
  auto& places = data_->places;
  for (auto place = places.lower_bound(so_far); place != places.end() && place->first.starts_with(so_far);) {
    place = places.erase(place);
  }
  places[so_far] = Place{fmt::format("--set {}", pointer), 0, 0};
  return {};
}

const std::string& JsonDocument::file() const { return data_->file; }
const Json& JsonDocument::json() const { return data_->json; }

// JsonReader
// -----------------------------------------------------------------------------------------------------------

struct JsonReader::State {
  struct Node {
    const Json* value;  // null for an object that is not there
    std::string pointer;
    std::set<std::string, std::less<>> asked;
    bool all_known = false;
  };
  const JsonDocument::Data* document;
  std::vector<Node> nodes;
  std::vector<Problem> problems;

  [[nodiscard]] Place place_of(std::string pointer) const {
    while (true) {
      if (const auto at = document->places.find(pointer); at != document->places.end()) return at->second;
      if (pointer.empty()) return {document->file, 0, 0};
      pointer.resize(pointer.rfind('/'));
    }
  }

  void report(const std::string& pointer, std::string code, std::string expected, std::string found,
              std::string suggestion) {
    if (problems.size() >= kMaxProblems) return;
    const Place place = place_of(pointer);
    problems.push_back({place.file, place.line, place.column, pointer, std::move(code), std::move(expected),
                        std::move(found), std::move(suggestion)});
  }
};

JsonReader::JsonReader(const JsonDocument& document) : state_(std::make_shared<State>()) {
  state_->document = document.data_.get();
  const Json& root = document.data_->json;
  state_->nodes.push_back({root.is_object() ? &root : nullptr, "", {}, false});
  if (!root.is_object()) state_->report("", "wrong-type", "an object", shown(root), "");
}

JsonReader::JsonReader(std::shared_ptr<State> state, std::size_t node) : state_(std::move(state)), node_(node) {}

std::string JsonReader::pointer() const { return state_->nodes[node_].pointer; }
bool JsonReader::good() const { return state_->problems.empty(); }

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
    state_->report(join(node.pointer, key), "missing-key", fmt::format("the key \"{}\"", key), "nothing", "");
  }
  return nullptr;
}

void JsonReader::problem(std::string_view key, std::string code, std::string expected, std::string found,
                         std::string suggestion) {
  const std::string& at = state_->nodes[node_].pointer;
  state_->report(key.empty() ? at : join(at, key), std::move(code), std::move(expected), std::move(found),
                 std::move(suggestion));
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
  const std::filesystem::path file(state_->place_of(join(pointer(), key)).file);
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
  state_->nodes.push_back({value, join(pointer(), key), {}, false});
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
    const std::string at = fmt::format("{}/{}", join(pointer(), key), i);
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
  for (std::size_t i = 0; i < state_->nodes.size(); ++i) {
    const State::Node& node = state_->nodes[i];
    if (node.value == nullptr || node.all_known) continue;
    const std::vector<std::string> known(node.asked.begin(), node.asked.end());
    for (const auto& entry : node.value->items()) {
      if (node.asked.contains(entry.key())) continue;
      state_->report(join(node.pointer, entry.key()), "unknown-key",
                     fmt::format("one of the keys {}", fmt::join(known, ", ")), fmt::format("\"{}\"", entry.key()),
                     nearest_name(entry.key(), known));
    }
  }
  if (state_->problems.empty()) return {};
  std::stable_sort(state_->problems.begin(), state_->problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.file, a.line, a.column) < std::tie(b.file, b.line, b.column);
  });
  return Error{ErrorKind::BadInput, "", "", state_->problems};
}

}  // namespace moecast
