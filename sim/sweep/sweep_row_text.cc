#include "sim/sweep/sweep_row_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace moecast {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\') {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size();
    if (escape) ++i;
    out += escape && text[i] == 'n' ? '\n' : text[i];
  }
  return out;
}

/// Words of a body, one after the other.
struct Words {
  std::string_view rest;

  std::string_view next() {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return word;
  }
  template <typename T>
  bool number(T& out) {
    const std::string_view word = next();
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), out);
    return code == std::errc() && end == word.data() + word.size() && !word.empty();
  }
};

}  // namespace

std::string to_text(const SweepRow& row) {
  std::string out = fmt::format("{} {} {}", row.valid() ? "row" : "invalid", row.request.point, row.request.replicas);
  if (!row.valid()) return out + " " + escaped(row.problem);
  for (const double value : row.values) out += std::isfinite(value) ? fmt::format(" {}", value) : std::string(" -");
  return out;
}

std::optional<SweepRow> row_of_text(std::string_view body, std::size_t metric_count) {
  Words words{body};
  const std::string_view kind = words.next();
  SweepRow row;
  if (!words.number(row.request.point) || !words.number(row.request.replicas)) return std::nullopt;
  if (kind == "invalid") {
    row.problem = unescaped(words.rest);
    return row;
  }
  while (!words.rest.empty()) {
    double value = std::numeric_limits<double>::quiet_NaN();
    if (words.rest.front() == '-' && (words.rest.size() == 1 || words.rest[1] == ' ')) {
      static_cast<void>(words.next());
    } else if (!words.number(value)) {
      return std::nullopt;
    }
    row.values.push_back(value);
  }
  if (kind != "row" || row.values.size() != metric_count) return std::nullopt;
  return row;
}

}  // namespace moecast
