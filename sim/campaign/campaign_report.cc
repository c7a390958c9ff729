#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/campaign/campaign.h"

namespace moecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, kRestoreSourceCount> kSources = {"storage", "memory", "peers", "survivors"};

/// Four digits; large numbers whole, in groups of three.
std::string number(double value) {
  if (!(std::fabs(value) >= 1e4 && std::fabs(value) < 1e15)) return fmt::format("{:.4g}", value);
  std::string digits = fmt::format("{:.0f}", value);
  for (std::size_t at = digits.size(); at > 3 + static_cast<std::size_t>(digits.front() == '-');) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string line(std::string_view name, const MeanInterval& value, double factor, std::string_view unit) {
  const double half_width = factor * value.half_width;
  const std::string spread = half_width > 0 ? fmt::format("+- {:.2g}", half_width) : "";
  return fmt::format("{:<28} {:>14} {:<10} {}\n", name, number(factor * value.mean), spread, unit);
}

/// "a checkpoint every 30 steps (5 min), each stalls 1.2 s, on storage after 20 s".
std::string cadence_text(const CampaignScenario& scenario, const Cadence& cadence) {
  if (cadence.interval == 0) return "no periodic checkpoints\n";
  std::string out = fmt::format("a checkpoint every {} steps ({}), each stalls {}", cadence.interval,
                                pretty(cadence.interval * scenario.training.step), pretty(cadence.stall));
  if (cadence.to_storage) out += fmt::format(", on storage after {}", pretty(*cadence.to_storage));
  return out + "\n";
}

Json cadence_json(const Cadence& cadence, Duration step) {
  const auto after = [](const std::optional<Duration>& time) { return time ? Json(seconds(*time)) : Json(); };
  return {{"interval_steps", cadence.interval},
          {"interval_seconds", seconds(cadence.interval * step)},
          {"stall_seconds", seconds(cadence.stall)},
          {"in_memory_after_seconds", after(cadence.to_memory)},
          {"on_storage_after_seconds", after(cadence.to_storage)}};
}

Json json_of(const MeanInterval& value) {
  Json json = {{"mean", value.mean}};
  json["half_width"] = value.half_width < 1e300 ? Json(value.half_width) : Json();  // nothing known from one replica
  return json;
}

}  // namespace

std::string to_table(const CampaignScenario& scenario, const CampaignSummary& summary) {
  std::string out =
      fmt::format("{}\n{} on {} GPUs, {} replicas{}, mean and {:g} % interval\n", scenario.name,
                  policy_kind_of(scenario.policy).name, scenario.cluster.gpus, summary.replica_count,
                  scenario.training.steps > 0 ? fmt::format(" ({} finished)", summary.finished_count) : "",
                  100 * scenario.confidence);
  out += cadence_text(scenario, summary.cadence);
  out += line("goodput (ETTR)", summary.goodput, 100, "%");
  for (std::size_t i = 0; i < kTimeCauseCount; ++i) {
    if (summary.share[i].mean == 0) continue;
    out += line(fmt::format("  {}", name_of(static_cast<TimeCause>(i))), summary.share[i], 100, "% of the time");
  }
  out += line("wall time", summary.wall_hours, 1, "h");
  out += line("steps", summary.useful_steps, 1, "");
  out += line("failures", summary.failures, 1, "");
  out += line("interruptions", summary.interruptions, 1, "");
  for (std::size_t i = 0; i < kRestoreSourceCount; ++i) {
    if (summary.restores[i].mean > 0)
      out += line(fmt::format("  restored from {}", kSources[i]), summary.restores[i], 1, "");
  }
  out += line("age of what was restored", summary.lost_age_seconds, 1, "s");
  if (scenario.experts.layers > 0) {
    out += line("lost tokens (PLT)", summary.plt, 100, "%");
    if (summary.snapshot_experts.mean > 0) {
      out += line("K to memory, at the end", summary.snapshot_experts, 1, "");
      out += line("K to storage, at the end", summary.persist_experts, 1, "");
    }
  }
  out += line("checkpoints", summary.checkpoints, 1, "");
  out += line("written to storage", summary.storage_bytes, 1e-12, "TB");
  out += line("", summary.storage_bytes_per_second, 1e-9, "GB/s on average");
  out += line("host memory of a rank", summary.host_memory, 1e-9, "GB, the most");
  out += line("GPU-hours", summary.gpu_hours, 1, "");
  if (scenario.cluster.price_per_gpu_hour > 0) out += line("cost", summary.cost, 1, "");
  for (const std::string& note : summary.notes) out += fmt::format("note: {}\n", note);
  return out;
}

Json to_json(const CampaignScenario& scenario, const CampaignSummary& summary) {
  Json json = {{"name", scenario.name},
               {"policy", policy_kind_of(scenario.policy).name},
               {"replicas", summary.replica_count},
               {"finished", summary.finished_count},
               {"confidence", scenario.confidence},
               {"goodput", json_of(summary.goodput)},
               {"running_share", json_of(summary.running_share)}};
  for (std::size_t i = 0; i < kTimeCauseCount; ++i) {
    json["time_share"][std::string(name_of(static_cast<TimeCause>(i)))] = json_of(summary.share[i]);
  }
  json["wall_hours"] = json_of(summary.wall_hours);
  json["steps"] = json_of(summary.useful_steps);
  json["failures"] = json_of(summary.failures);
  json["interruptions"] = json_of(summary.interruptions);
  for (std::size_t i = 0; i < summary.failures_by_mode.size(); ++i) {
    json["failures_by_mode"][scenario.reliability.modes[i].name] = json_of(summary.failures_by_mode[i]);
  }
  for (std::size_t i = 0; i < kRestoreSourceCount; ++i) {
    json["restored_from"][std::string(kSources[i])] = json_of(summary.restores[i]);
  }
  json["restored_age_seconds"] = json_of(summary.lost_age_seconds);
  json["plt"] = json_of(summary.plt);
  json["snapshot_experts"] = json_of(summary.snapshot_experts);
  json["persist_experts"] = json_of(summary.persist_experts);
  json["checkpoints"] = json_of(summary.checkpoints);
  json["storage_checkpoints"] = json_of(summary.storage_checkpoints);
  json["storage_bytes"] = json_of(summary.storage_bytes);
  json["storage_bytes_per_second"] = json_of(summary.storage_bytes_per_second);
  json["cadence"] = cadence_json(summary.cadence, scenario.training.step);
  json["host_memory_bytes"] = json_of(summary.host_memory);
  json["gpu_hours"] = json_of(summary.gpu_hours);
  json["cost"] = json_of(summary.cost);
  json["notes"] = summary.notes;
  return json;
}

}  // namespace moecast
