#include "tools/table.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"

namespace moecast {
namespace {

std::string line(const std::vector<Table::Column>& columns, const std::vector<std::size_t>& widths,
                 const std::vector<Cell>& cells, const Style& style, std::string_view indent) {
  std::string out(indent);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths[i] - display_width(cells[i].text), ' ');
    const bool right = columns[i].align == Align::Right;
    if (i > 0) out += "  ";
    if (right) out += padding;
    out += style.paint(cells[i].text, cells[i].tone);
    if (!right) out += padding;
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + '\n';
}

}  // namespace

void Table::row(std::vector<Cell> cells) {
  ASSERT(cells.size() == columns_.size(), "{} cells in a table of {} columns", cells.size(), columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(const Style& style, std::string_view indent) const {
  std::vector<Cell> headings;
  std::vector<std::size_t> widths;
  bool has_heading = false;
  for (const Column& column : columns_) {
    headings.emplace_back(column.heading, Tone::Faint);
    widths.push_back(display_width(column.heading));
    has_heading = has_heading || !column.heading.empty();
  }
  for (const std::vector<Cell>& cells : rows_) {
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], display_width(cells[i].text));
  }
  std::string out = has_heading ? line(columns_, widths, headings, style, indent) : std::string();
  for (const std::vector<Cell>& cells : rows_) out += line(columns_, widths, cells, style, indent);
  return out;
}

std::string percent(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }
std::string signed_percent(double fraction) { return fmt::format("{:+.1f} %", 100 * fraction); }

}  // namespace moecast
