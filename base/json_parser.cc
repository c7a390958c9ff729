#include "base/json_parser.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace moecast::json {

namespace {

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
class Parser : public nlohmann::json_sax<Json> {
 public:
  explicit Parser(std::shared_ptr<const Source> source)
      : source_(std::move(source)), text_(source_->text), seen_(text_.data()) {}

  Result<Positioned> parse() {
    CountingIterator begin(text_.data(), &seen_);
    CountingIterator end(text_.data() + text_.size(), nullptr);
    const bool ok = Json::sax_parse(begin, end, this, nlohmann::detail::input_format_t::json, true, false);
    if (!ok || !problems_.empty()) return Error{ErrorKind::BadInput, "", "", std::move(problems_)};
    return Positioned{std::move(root_), std::move(positions_)};
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
      report(start_of_token(false), child(level.pointer, name), "duplicate-key", "each key once",
             fmt::format("\"{}\" twice", name));
    }
    level.key = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    if (const std::size_t at = what.find(": syntax error"); at != std::string::npos) what = what.substr(at + 2);
    report(position == 0 ? 0 : position - 1, "", "syntax", "valid JSON", what);
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
    const LineColumn place = line_column({source_, at});
    problems_.push_back({source_->file, place.line, place.column, std::move(pointer), std::move(code),
                         std::move(expected), std::move(found), ""});
  }

  Json* insert(Json value, bool number) {
    const std::size_t at = start_of_token(number);
    if (stack_.empty()) {
      root_ = std::move(value);
      positions_[""] = {source_, at};
      return &root_;
    }
    Level& level = stack_.back();
    const bool array = level.value->is_array();
    positions_[child_pointer()] = {source_, at};
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
                                   : child(level.pointer, level.key);
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

  std::shared_ptr<const Source> source_;
  std::string_view text_;
  const char* seen_;
  Positions positions_;
  std::vector<Problem> problems_;
  Json root_;
  std::vector<Level> stack_;
};

/// Is `pointer` the value at `top` or one inside it?
bool is_below(std::string_view pointer, std::string_view top) {
  return pointer.starts_with(top) && (pointer.size() == top.size() || pointer[top.size()] == '/');
}

/// One level of RFC 7386: MergePatch(target, patch).
void merge_at(Json& target, Positions& target_positions, const Json& patch, const Positions& patch_positions,
              const std::string& pointer) {
  if (!patch.is_object()) {
    target = patch;
    erase_below(target_positions, pointer);
    for (auto at = patch_positions.lower_bound(pointer); at != patch_positions.end() && at->first.starts_with(pointer);
         ++at) {
      if (is_below(at->first, pointer)) target_positions[at->first] = at->second;
    }
    return;
  }
  if (!target.is_object()) {
    target = Json::object();
    erase_below(target_positions, pointer);
  }
  if (const auto at = patch_positions.find(pointer); at != patch_positions.end()) {
    target_positions[pointer] = at->second;
  }
  for (const auto& [key, value] : patch.items()) {
    const std::string below = child(pointer, key);
    if (value.is_null()) {
      target.erase(key);
      erase_below(target_positions, below);
    } else {
      merge_at(target[key], target_positions, value, patch_positions, below);
    }
  }
}

}  // namespace

LineColumn line_column(const Position& position) {
  const std::string_view text = position.source->text;
  LineColumn place;
  for (std::size_t i = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; i < std::min(position.offset, text.size()); ++i) {
    if (text[i] == '\n') {
      ++place.line;
      place.column = 1;
    } else if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) {
      ++place.column;  // UTF-8 continuation bytes are no columns
    }
  }
  return place;
}

Result<Positioned> parse(std::shared_ptr<const Source> source) { return Parser(std::move(source)).parse(); }

void erase_below(Positions& positions, std::string_view pointer) {
  for (auto at = positions.lower_bound(pointer); at != positions.end() && at->first.starts_with(pointer);) {
    at = is_below(at->first, pointer) ? positions.erase(at) : std::next(at);
  }
}

void merge(Positioned& target, const Positioned& patch) {
  merge_at(target.json, target.positions, patch.json, patch.positions, "");
}

std::string child(std::string_view pointer, std::string_view key) {
  std::string out(pointer);
  out += '/';
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

}  // namespace moecast::json
