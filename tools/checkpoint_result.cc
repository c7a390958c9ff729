#include "tools/checkpoint_result.h"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace moecast {

using Json = nlohmann::ordered_json;

namespace {

using Kind = CheckpointOutcome::Kind;

const char* to_text(Kind kind) {
  switch (kind) {
    case Kind::Held:
      return "held";
    case Kind::Committed:
      return "committed";
    case Kind::Failed:
      return "failed";
    case Kind::Replaced:
      return "replaced";
  }
  return "";
}

std::int64_t count(const CheckpointReport& report, Kind kind) {
  return std::ranges::count(report.saved, kind, &SavedCheckpoint::kind);
}

/// Median over the committed checkpoints; the first one, full and into cold buffers, does not count if there are
/// others.
template <typename T>
T median(const CheckpointReport& report, T SavedCheckpoint::*field) {
  std::vector<T> values;
  for (const SavedCheckpoint& saved : report.saved) {
    if (saved.kind == Kind::Committed) values.push_back(saved.*field);
  }
  if (values.size() > 1) values.erase(values.begin());
  if (values.empty()) return T{};
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::int64_t largest_k(const std::vector<std::vector<ExpertId>>& selected) {
  std::size_t most = 0;
  for (const std::vector<ExpertId>& layer : selected) most = std::max(most, layer.size());
  return static_cast<std::int64_t>(most);
}

Json saved_json(const SavedCheckpoint& saved) {
  Json json = {{"version", saved.version},
               {"step", saved.step},
               {"outcome", to_text(saved.kind)},
               {"snapshot_experts", largest_k(saved.selection.snapshot)},
               {"persist_experts", largest_k(saved.selection.persist)},
               {"copied_bytes", saved.copied.count()},
               {"written_bytes", saved.written.count()},
               {"most_copied_bytes", saved.most_copied.count()},
               {"most_written_bytes", saved.most_written.count()},
               {"snapshot_ns", saved.copy.count()},
               {"beside_ns", saved.beside.count()},
               {"stall_ns", saved.stall.count()},
               {"persist_ns", saved.persist.count()},
               {"safe_ns", saved.safe.count()}};
  if (!saved.error.empty()) json["error"] = saved.error;
  return json;
}

Json recovery_json(const Recovery& recovery) {
  return {{"cause", recovery.cause},
          {"failed_step", recovery.failed_step},
          {"step", recovery.step},
          {"version", recovery.version},
          {"steps_again", recovery.steps_again()},
          {"restore_ns", recovery.restore.count()},
          {"memory_bytes", recovery.from_memory.count()},
          {"storage_bytes", recovery.from_storage.count()},
          {"expert_age", recovery.age},
          {"plt", recovery.plt},
          {"damages", recovery.damages},
          {"snapshot_experts", recovery.counts.snapshot},
          {"persist_experts", recovery.counts.persist}};
}

double percent(Duration part, Duration whole) { return whole.count() == 0 ? 0 : 100 * seconds(part) / seconds(whole); }

}  // namespace

Json to_json(const CheckpointReport& report) {
  Json saved = Json::array();
  for (const SavedCheckpoint& each : report.saved) saved.push_back(saved_json(each));
  Json recoveries = Json::array();
  for (const Recovery& each : report.recoveries) recoveries.push_back(recovery_json(each));
  return {{"saved", saved},
          {"recoveries", recoveries},
          {"shortest_interval", report.shortest_interval ? Json(*report.shortest_interval) : Json(nullptr)},
          {"plt", report.plt},
          {"snapshot_experts", report.counts.snapshot},
          {"persist_experts", report.counts.persist},
          {"forward_backward_ns", report.forward_backward.count()},
          {"slow_copies", report.slow_copies}};
}

void add_checkpoint_rows(const CheckpointReport& report, Duration step, std::int64_t interval, Table& table) {
  const std::int64_t replaced = count(report, Kind::Replaced);
  std::string outcomes = fmt::format("{} committed", count(report, Kind::Committed));
  if (const std::int64_t failed = count(report, Kind::Failed); failed > 0)
    outcomes += fmt::format(", {} failed", failed);
  if (replaced > 0) outcomes += fmt::format(", {} replaced", replaced);
  table.row({"checkpoints",
             fmt::format("{}, {} each, safe after {}", outcomes, pretty(median(report, &SavedCheckpoint::written)),
                         pretty(median(report, &SavedCheckpoint::safe)))});
  const Duration copy = median(report, &SavedCheckpoint::copy);
  const Duration stall = median(report, &SavedCheckpoint::stall);
  // Equation 10 of arXiv 2408.04307.
  const Duration expected = std::max(Duration(0), copy - report.forward_backward);
  table.row(
      {"snapshot", fmt::format("{}{} beside {} of forward and backward; stall {} ({:.1f} % of a step), expected {}",
                               pretty(copy), report.slow_copies ? " (slowed)" : "", pretty(report.forward_backward),
                               pretty(stall), percent(stall, step), pretty(expected))});
  if (report.shortest_interval) {
    table.row({"interval", fmt::format("{} steps is shorter than writing takes; the shortest that works is {}",
                                       interval, *report.shortest_interval)});
  }
  if (report.recoveries.empty()) return;
  std::int64_t again = 0;
  Duration restore{};
  for (const Recovery& recovery : report.recoveries) {
    again += recovery.steps_again();
    restore = std::max(restore, recovery.restore);
  }
  table.row({"recoveries", fmt::format("{}, {} steps done again, PLT {:.2f} %, restored in {}",
                                       report.recoveries.size(), again, 100 * report.plt, pretty(restore))});
}

}  // namespace moecast
