#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sim/sweep/sweep_rows.h"

namespace moecast {

/// A row as one line without a newline, for journals and between processes (FORMAT.md: `row ...`, `invalid ...`); reads
/// back to the same bits.
[[nodiscard]] std::string to_text(const SweepRow& row);
/// None if it is no such line, or of another number of metrics.
[[nodiscard]] std::optional<SweepRow> row_of_text(std::string_view text, std::size_t metric_count);

}  // namespace moecast
