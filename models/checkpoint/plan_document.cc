#include "models/checkpoint/plan_document.h"

#include <cmath>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace moecast {
namespace {

enum class MetricKind { StorageShare, StorageCut, Bottleneck, BottleneckCut };
const EnumNames<MetricKind> kMetrics = {{"storage_share", MetricKind::StorageShare},
                                        {"storage_cut", MetricKind::StorageCut},
                                        {"bottleneck", MetricKind::Bottleneck},
                                        {"bottleneck_cut", MetricKind::BottleneckCut}};

MetricKind kind_of(const std::string& metric) {
  for (const auto& [name, kind] : kMetrics) {
    if (name == metric) return kind;
  }
  ASSERT(false, "no metric {}", metric);
}

PlanExpectation read_expectation(JsonReader& reader, bool has_baseline) {
  PlanExpectation out;
  const MetricKind kind = reader.choice("metric", kMetrics);
  out.metric = name_of(kMetrics, kind);
  out.value = kind == MetricKind::Bottleneck ? reader.bytes("value").value() : reader.number("value", 0, 1);
  if (kind == MetricKind::BottleneckCut && !has_baseline) {
    reader.problem("metric", "conflict", "a \"baseline\" to compare with", "none");
  }
  out.tolerance = reader.number("tolerance", 0, 1);
  out.source = reader.text("source");
  out.note = reader.text("note", "");
  return out;
}

CheckpointPolicy read_policy(JsonReader& parent, std::string_view key, const MoeModel& model) {
  const std::size_t before = parent.problem_count();
  JsonReader reader = parent.object(key);
  CheckpointPolicy policy = read_checkpoint_policy(reader);
  if (policy.kind == CheckpointKind::None) reader.problem("kind", "out-of-range", "a policy that saves something");
  if (parent.problem_count() == before) check_checkpoint_policy(reader, policy, model);
  return policy;
}

double value_of(MetricKind kind, const PlanResult& result) {
  const double share = result.plan.share(CheckpointLevel::Storage);
  const double bottleneck = result.plan.most.bottleneck(CheckpointLevel::Storage).value();
  switch (kind) {
    case MetricKind::StorageShare:
      return share;
    case MetricKind::StorageCut:
      return 1 - share;
    case MetricKind::Bottleneck:
      return bottleneck;
    case MetricKind::BottleneckCut:
      return 1 - bottleneck / result.baseline->most.bottleneck(CheckpointLevel::Storage).value();
  }
  return 0;
}

}  // namespace

Result<PlanDocument> read_plan_document(const JsonDocument& document) {
  JsonReader reader(document);
  PlanDocument out;
  out.name = reader.text("name");
  static_cast<void>(reader.text("note", ""));
  out.workload = read_workload(reader);
  JsonReader plan = reader.object("checkpoint_plan");
  out.policy = read_policy(plan, "policy", out.workload.model);
  if (plan.has("baseline")) out.baseline = read_policy(plan, "baseline", out.workload.model);
  for (JsonReader& each : plan.objects("expect", true)) {
    out.expect.push_back(read_expectation(each, out.baseline.has_value()));
  }
  RETURN_IF_ERROR(reader.finish());
  return out;
}

Result<PlanResult> evaluate(const PlanDocument& document) {
  const Result<CheckpointInventory> inventory = CheckpointInventory::make(
      document.workload.model, document.workload.layout, precision_of(document.workload.bytes_per_element));
  if (!inventory.ok()) return inventory.error();
  PlanResult result;
  result.plan = summarise_plan(*inventory, document.policy);
  if (document.baseline) result.baseline = summarise_plan(*inventory, *document.baseline);
  for (const PlanExpectation& expectation : document.expect) {
    const double ours = value_of(kind_of(expectation.metric), result);
    const bool pass = std::fabs(ours - expectation.value) <= expectation.tolerance * expectation.value;
    result.judged.push_back({expectation, ours, pass});
  }
  return result;
}

nlohmann::ordered_json to_json(const PlanExpectation& expectation) {
  nlohmann::ordered_json json = {{"metric", expectation.metric},
                                 {"value", expectation.value},
                                 {"tolerance", expectation.tolerance},
                                 {"source", expectation.source}};
  if (!expectation.note.empty()) json["note"] = expectation.note;
  return json;
}

std::string pretty_metric(const std::string& metric, double value) {
  if (kind_of(metric) == MetricKind::Bottleneck) return pretty(Bytes(std::llround(value)));
  return fmt::format("{:.1f} %", 100 * value);
}

}  // namespace moecast
