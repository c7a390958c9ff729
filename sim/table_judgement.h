#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/csv_table.h"
#include "base/result.h"
#include "base/units.h"
#include "hwprofiles/measured_table.h"
#include "hwprofiles/profile.h"

namespace moecast {

/// One row of a published table and what a profile says of it.
struct JudgedRow {
  std::string
      part;  // what it is compared among: "all_reduce, above 256 KiB", "kernel, distribution", "more than 8 GPUs"
  bool held_out = false;
  Duration measured{}, predicted{};
};

/// Errors |predicted - measured| / measured of some rows.
struct RowErrors {
  std::string name;
  std::int64_t count = 0;
  double median = 0, mean = 0, ninth_decile = 0;
  double rank_correlation = 0;  // Spearman's, of predicted and measured times; 0 for a single row
};

struct TableJudgement {
  std::vector<JudgedRow> rows;
  std::int64_t refused = 0;  // layouts that a plan does not have
};

/// Every row of a table of measurements (hwprofiles/measured_table.h, sim/measured_steps.h) predicted from `hardware`.
/// BadInput for a table of unknown columns, bad fields, or a group larger than the hardware.
[[nodiscard]] Result<TableJudgement> judge_table(const CsvTable& table, const RowFilter& filter,
                                                 const HardwareProfile& hardware, std::int64_t thread_count);

/// All rows; those that fits may use; those that are kept apart; and of these each part.
[[nodiscard]] std::vector<RowErrors> errors_of(const std::vector<JudgedRow>& rows);

}  // namespace moecast
