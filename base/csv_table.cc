#include "base/csv_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/file.h"

namespace moecast {
namespace {

std::vector<std::string> fields_of(std::string_view line) {
  std::vector<std::string> fields;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(',', begin), line.size());
    fields.emplace_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return fields;
}

template <typename T>
bool parse(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

bool CsvTable::has(const std::vector<std::string>& names) const {
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(columns.begin(), columns.end(), name) != columns.end();
  });
}

Result<CsvTable> read_csv(const std::filesystem::path& file) {
  const Result<std::string> text = read_file(file);
  if (!text.ok()) return text.error();
  CsvTable table{file, {}, {}};
  int number = 0;
  for (std::string_view rest = *text; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (table.columns.empty()) {
      table.columns = fields_of(line);
      continue;
    }
    table.rows.push_back(fields_of(line));
    if (table.rows.back().size() == table.columns.size()) continue;
    return Error{ErrorKind::BadInput, fmt::format("{}:{}", file.string(), number),
                 fmt::format("expected {} fields, found {}", table.columns.size(), table.rows.back().size())};
  }
  if (table.rows.empty()) return Error{ErrorKind::BadInput, file.string(), "holds no line below the column names"};
  return table;
}

const std::string& CsvRow::text(std::string_view column) const {
  const auto place = std::find(table_.columns.begin(), table_.columns.end(), column);
  ASSERT(place != table_.columns.end(), "no column {}", column);
  return table_.rows[row_][static_cast<std::size_t>(place - table_.columns.begin())];
}

std::int64_t CsvRow::count(std::string_view column) const {
  std::int64_t value = 0;
  if (parse(text(column), value) && value >= 1) return value;
  problem(column, "an integer, 1 or more");
  return 0;
}

double CsvRow::number(std::string_view column) const {
  double value = 0;
  if (parse(text(column), value) && std::isfinite(value) && value > 0) return value;
  problem(column, "a number above 0");
  return 0;
}

void CsvRow::problem(std::string_view column, std::string expected) const {
  problems_.push_back({table_.file.string(), static_cast<int>(row_) + 2, 0, std::string(column), "bad-field",
                       std::move(expected), text(column), ""});
}

}  // namespace moecast
