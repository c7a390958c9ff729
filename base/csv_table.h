#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace moecast {

/// A table in a text file: a line of column names, then lines of as many fields, separated by commas; no quotes.
struct CsvTable {
  std::filesystem::path file;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  [[nodiscard]] bool has(const std::vector<std::string>& names) const;
};

/// BadInput with file and line for a file that cannot be read, without rows, or with a line of another length.
[[nodiscard]] Result<CsvTable> read_csv(const std::filesystem::path& file);

/// Reads one row by column names. Problems are collected with file and line; a field that is wrong gives 0.
class CsvRow {
 public:
  CsvRow(const CsvTable& table, std::size_t row, std::vector<Problem>& problems)
      : table_(table), row_(row), problems_(problems) {}
  /// The column is there.
  [[nodiscard]] const std::string& text(std::string_view column) const;
  [[nodiscard]] std::int64_t count(std::string_view column) const;  // 1 or more
  [[nodiscard]] double number(std::string_view column) const;       // above 0
  /// Adds that the column holds something else than what is expected.
  void problem(std::string_view column, std::string expected) const;

 private:
  const CsvTable& table_;
  std::size_t row_;
  std::vector<Problem>& problems_;
};

}  // namespace moecast
