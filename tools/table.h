#pragma once

#include <string>
#include <vector>

#include "tools/terminal.h"

namespace moecast {

struct Cell {
  Cell(std::string text_, Tone tone_ = Tone::Plain) : text(std::move(text_)), tone(tone_) {}  // NOLINT: implicit
  Cell(const char* text_) : text(text_) {}                                                    // NOLINT: implicit
  std::string text;
  Tone tone = Tone::Plain;
};

enum class Align { Left, Right };

/// Columns that line up by display width, two spaces apart; a faint heading unless all headings are empty. The last
/// left-aligned column is not padded.
class Table {
 public:
  struct Column {
    std::string heading;
    Align align = Align::Left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as there are columns.
  void row(std::vector<Cell> cells);
  [[nodiscard]] std::string text(const Style& style, std::string_view indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

/// 0.036 as "3.6 %", and with its sign as "+3.6 %".
[[nodiscard]] std::string percent(double fraction);
[[nodiscard]] std::string signed_percent(double fraction);

}  // namespace moecast
