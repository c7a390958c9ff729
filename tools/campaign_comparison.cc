#include "tools/campaign_comparison.h"

#include <optional>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json_document.h"
#include "base/json_reader.h"
#include "base/units.h"
#include "tools/revision.h"
#include "tools/table.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kSchema = "moecast.campaign/1";

/// What a row shows; times in seconds.
struct CampaignRow {
  std::string name;
  double interval = 0;  // between checkpoints; 0: none
  double stall = 0;     // of each
  double goodput = 0, half_width = 0;
  double plt = 0;
  double storage_rate = 0;  // bytes per second, mean
  double host_memory = 0;   // bytes of a rank
};

double mean(JsonReader& reader, std::string_view key) { return reader.object(key).number("mean", -1e300, 1e300); }

Result<CampaignRow> read_row(const fs::path& folder) {
  const fs::path path = folder / "summary.json";
  const Result<JsonDocument> document = JsonDocument::read(path);
  if (!document.ok()) return document.error();
  JsonReader reader(*document);
  if (reader.text("schema", "") != kSchema) {
    return Error{ErrorKind::BadInput, path.string(), "is not of a campaign; the others are"};
  }
  CampaignRow row;
  row.name = reader.text("name");
  JsonReader cadence = reader.object("cadence");
  row.interval = cadence.number("interval_seconds", 0, 1e300);
  row.stall = cadence.number("stall_seconds", 0, 1e300);
  JsonReader goodput = reader.object("goodput");
  row.goodput = goodput.number("mean", 0, 1);
  if (goodput.kind("half_width") == "number") row.half_width = goodput.number("half_width", 0, 1e300);
  row.plt = mean(reader, "plt");
  row.storage_rate = mean(reader, "storage_bytes_per_second");
  row.host_memory = mean(reader, "host_memory_bytes");
  if (reader.good()) return row;
  return Error{ErrorKind::BadInput, path.string(), "is not a summary that this version wrote"};
}

std::string time_text(double value) { return value == 0 ? "0 s" : pretty(duration_from_seconds(value)); }

std::string reduction_text(double first, double value) {
  return first > 0 && value < first ? fmt::format("-{:.1f} %", 100 * (1 - value / first)) : "";
}

std::string rows_table(const std::vector<CampaignRow>& rows, const Style& style) {
  Table table({{"campaign"},
               {"every", Align::Right},
               {"stall", Align::Right},
               {"", Align::Right},
               {"goodput %", Align::Right},
               {"PLT %", Align::Right},
               {"to storage", Align::Right},
               {"memory", Align::Right}});
  for (const CampaignRow& row : rows) {
    table.row({Cell(row.name, Tone::Strong), row.interval > 0 ? time_text(row.interval) : "-", time_text(row.stall),
               reduction_text(rows.front().stall, row.stall),
               fmt::format("{:.2f} +- {:.2f}", 100 * row.goodput, 100 * row.half_width),
               row.plt > 0 ? fmt::format("{:.3f}", 100 * row.plt) : "-", pretty(BytesPerSecond(row.storage_rate)),
               pretty(Bytes(static_cast<std::int64_t>(row.host_memory)))});
  }
  return table.text(style);
}

Json rows_json(const std::vector<CampaignRow>& rows) {
  Json list = Json::array();
  for (const CampaignRow& row : rows) {
    list.push_back({{"name", row.name},
                    {"interval_seconds", row.interval},
                    {"stall_seconds", row.stall},
                    {"goodput", row.goodput},
                    {"goodput_half_width", row.half_width},
                    {"plt", row.plt},
                    {"storage_bytes_per_second", row.storage_rate},
                    {"host_memory_bytes", row.host_memory}});
  }
  return {{"schema", "moecast.compare/1"}, {"revision", revision()}, {"campaigns", list}};
}

}  // namespace

bool is_campaign_result(const fs::path& folder) {
  const Result<JsonDocument> document = JsonDocument::read(folder / "summary.json");
  return document.ok() && document->json().is_object() && document->json().value("schema", "") == kSchema;
}

Status compare_campaigns(const CommandContext& context) {
  std::vector<CampaignRow> rows;
  for (const std::string& folder : context.arguments.positionals()) {
    const Result<CampaignRow> row = read_row(folder);
    if (!row.ok()) return row.error();
    rows.push_back(*row);
  }
  context.print(rows_table(rows, context.style));
  return context.finish(rows_json(rows));
}

}  // namespace moecast
