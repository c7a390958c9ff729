#include "tools/table_validation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "sim/table_judgement.h"
#include "tools/revision.h"
#include "tools/table.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kKeptApart = 2;  // of errors_of

std::string errors_table(const std::vector<RowErrors>& parts, const Style& style) {
  Table table({{"rows"},
               {"count", Align::Right},
               {"median error", Align::Right},
               {"mean error", Align::Right},
               {"nine of ten within", Align::Right},
               {"rank correlation", Align::Right}});
  for (const RowErrors& part : parts) {
    if (part.count == 0) continue;
    table.row({part.name, std::to_string(part.count), percent(part.median), percent(part.mean),
               percent(part.ninth_decile), fmt::format("{:.3f}", part.rank_correlation)});
  }
  return table.text(style);
}

Json errors_json(const std::vector<RowErrors>& parts) {
  Json list = Json::array();
  for (const RowErrors& part : parts) {
    list.push_back({{"rows", part.name},
                    {"count", part.count},
                    {"median_error", part.median},
                    {"mean_error", part.mean},
                    {"ninth_decile", part.ninth_decile},
                    {"rank_correlation", part.rank_correlation}});
  }
  return list;
}

}  // namespace

Status validate_table(const CommandContext& context) {
  const Arguments& arguments = context.arguments;
  if (arguments.positionals().size() != 1) {
    return Error{ErrorKind::BadInput, "validate", "takes one table (.csv) at a time"};
  }
  const std::optional<std::string> name = arguments.text("profile");
  if (!name) return Error{ErrorKind::BadInput, "--profile", "needed: the hardware that the table is held against"};
  RETURN_IF_ERROR(context.check_output());
  const Result<HardwareProfile> profile = find_profile(*name, ".");
  if (!profile.ok()) return profile.error();
  const Result<CsvTable> table = read_csv(arguments.positionals().front());
  if (!table.ok()) return table.error();
  const RowFilter filter{arguments.text("device").value_or(""), arguments.text("kernel").value_or("")};
  const Result<TableJudgement> judgement = judge_table(*table, filter, *profile, *arguments.integer("jobs"));
  if (!judgement.ok()) return judgement.error();
  if (judgement->rows.empty()) return Error{ErrorKind::BadInput, table->file.string(), "no row could be predicted"};
  const std::vector<RowErrors> parts = errors_of(judgement->rows);
  const RowErrors& judged = parts[kKeptApart].count > 0 ? parts[kKeptApart] : parts.front();
  const double tolerance = *arguments.fraction("tolerance");
  const bool pass = judged.median <= tolerance;
  context.print(errors_table(parts, context.style));
  if (judgement->refused > 0) {
    context.print(fmt::format("\n{} rows have a layout that does not divide their model\n", judgement->refused));
  }
  context.print(fmt::format("\nMedian error of {}: {} (tolerance {})\n", judged.name, percent(judged.median),
                            percent(tolerance)));
  RETURN_IF_ERROR(context.finish({{"schema", "moecast.validate_table/1"},
                                  {"revision", revision()},
                                  {"profile", profile->name},
                                  {"pass", pass},
                                  {"tolerance", tolerance},
                                  {"refused", judgement->refused},
                                  {"errors", errors_json(parts)}}));
  if (pass) return {};
  return Error{ErrorKind::CheckFailed, "validate",
               fmt::format("the median error of {} is {}, above the tolerance of {}", judged.name,
                           percent(judged.median), percent(tolerance))};
}

}  // namespace moecast
