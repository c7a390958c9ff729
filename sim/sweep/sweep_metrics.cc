#include "sim/sweep/sweep_metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/assert.h"
#include "models/memory.h"
#include "models/metrics.h"
#include "sim/campaign/campaign.h"

namespace moecast {
namespace {

using Unit = MetricUnit;

constexpr std::array kStepMetrics = {
    SweepMetric{"step_time", Unit::Nanoseconds, "from first start to last end of a step over all ranks"},
    SweepMetric{"tokens", Unit::Rate, "tokens that all ranks together train on"},
    SweepMetric{"compute", Unit::Nanoseconds, "busy time of the compute lane, mean over ranks"},
    SweepMetric{"communication", Unit::Nanoseconds, "busy time of the communication lane, mean over ranks"},
    SweepMetric{"exposed", Unit::Nanoseconds, "communication while the compute lane idles"},
    SweepMetric{"all_to_all", Unit::Nanoseconds, "dispatch and combine alone"},
    SweepMetric{"exposed_all_to_all", Unit::Nanoseconds, "dispatch and combine while the compute lane idles"},
    SweepMetric{"overlap", Unit::Share, "1 - exposed / communication"},
    SweepMetric{"communication_share", Unit::Share, "all-to-all as a part of a mixture-of-experts layer's time"},
    SweepMetric{"memory", Unit::ByteCount, "of the rank that needs most, at the worst moment of a step"},
    SweepMetric{"state_memory", Unit::ByteCount, "of that, weights, master, moments and gradients"},
};

constexpr std::array kCampaignMetrics = {
    SweepMetric{"goodput", Unit::Share, "useful time over wall time (ETTR), mean over the replicas"},
    SweepMetric{"goodput_half_width", Unit::Share, "of the confidence interval of the mean"},
    SweepMetric{"running_share", Unit::Share, "of the wall time, training ran"},
    SweepMetric{"plt", Unit::Share, "proportion of lost tokens"},
    SweepMetric{"plt_half_width", Unit::Share, "of the confidence interval of the mean"},
    SweepMetric{"cost", Unit::Money, "GPU-hours times the price of one"},
    SweepMetric{"gpu_time", Unit::GpuHours, "GPUs of the job times wall time"},
    SweepMetric{"wall_time", Unit::Hours, "until the last step or the horizon"},
    SweepMetric{"host_memory", Unit::ByteCount, "of a node, for copies of the state"},
    SweepMetric{"cadence", Unit::Count,
                "steps from one checkpoint to the next; more than asked for if writes take longer"},
    SweepMetric{"useful_steps", Unit::Count, "steps done at least once"},
    SweepMetric{"failures", Unit::Count, "that stopped the job or struck while it stood still"},
    SweepMetric{"interruptions", Unit::Count, "times that training stopped"},
    SweepMetric{"lost_age", Unit::Seconds, "age of the restored version at an interruption"},
    SweepMetric{"checkpoints", Unit::Count, "begun"},
    SweepMetric{"storage_checkpoints", Unit::Count, "of these, for storage"},
    SweepMetric{"storage_written", Unit::ByteCount, "in the whole training"},
    SweepMetric{"storage_rate", Unit::ByteRate, "written, mean over the wall time"},
    SweepMetric{"final_snapshot_experts", Unit::Count, "experts of a layer in a snapshot, at the end (Dynamic-K)"},
    SweepMetric{"final_persist_experts", Unit::Count, "experts of a layer written to storage, at the end (Dynamic-K)"},
    SweepMetric{"finished", Unit::Share, "of the replicas, reached the last step before the horizon"},
    SweepMetric{"useful_share", Unit::Share, "of the wall time: steps done for the first time"},
    SweepMetric{"stall_share", Unit::Share, "of the wall time: training waits for a checkpoint"},
    SweepMetric{"detection_share", Unit::Share, "of the wall time: a failure is noticed and diagnosed"},
    SweepMetric{"replacement_share", Unit::Share, "of the wall time: waiting for a spare or a repair"},
    SweepMetric{"restart_share", Unit::Share, "of the wall time: processes and communicators"},
    SweepMetric{"load_share", Unit::Share, "of the wall time: state back into the devices"},
    SweepMetric{"recomputation_share", Unit::Share, "of the wall time: steps done again"},
    SweepMetric{"degraded_share", Unit::Share, "of the wall time: slow devices or missing nodes"},
};
constexpr std::size_t kFirstShare = kCampaignMetrics.size() - kTimeCauseCount;
static_assert(kCampaignMetrics[kFirstShare].name == "useful_share");

/// Nanoseconds in one of the unit; 0 for what is no time.
double nanoseconds_of(Unit unit) {
  if (unit == Unit::Nanoseconds) return 1;
  if (unit == Unit::Seconds) return 1e9;
  return unit == Unit::Hours ? 3600e9 : 0;
}

Result<double> parse_number(std::string_view text, bool percent) {
  double value = 0;
  const auto [rest, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  if (code == std::errc() && std::isfinite(value)) {
    if (unit.empty()) return value;
    if (percent && (unit == " %" || unit == "%")) return value / 100;
  }
  return Error{ErrorKind::BadInput, fmt::format("\"{}\"", text),
               percent ? "expected a share such as 0.0375 or \"3.75 %\"" : "expected a number"};
}

template <typename T>
Result<double> value_of(const Result<T>& parsed) {
  if (!parsed.ok()) return parsed.error();
  return parsed->value();
}

}  // namespace

std::string_view name_of(MetricUnit unit) {
  switch (unit) {
    case Unit::Share:
      return "share";
    case Unit::Count:
      return "count";
    case Unit::Nanoseconds:
      return "ns";
    case Unit::Seconds:
      return "seconds";
    case Unit::Hours:
      return "hours";
    case Unit::ByteCount:
      return "bytes";
    case Unit::ByteRate:
      return "bytes_per_second";
    case Unit::Rate:
      return "per_second";
    case Unit::GpuHours:
      return "gpu_hours";
    case Unit::Money:
      break;
  }
  return "money";
}

std::string SweepMetric::column() const {
  const bool plain = unit == Unit::Share || unit == Unit::Count || unit == Unit::Money;
  return plain ? std::string(name) : fmt::format("{}_{}", name, name_of(unit));
}

std::span<const SweepMetric> sweep_metrics(SweepKind kind) {
  if (kind == SweepKind::Step) return kStepMetrics;
  return kCampaignMetrics;
}

std::optional<std::size_t> find_sweep_metric(SweepKind kind, std::string_view name) {
  const std::span<const SweepMetric> metrics = sweep_metrics(kind);
  const auto found =
      std::find_if(metrics.begin(), metrics.end(), [&](const SweepMetric& metric) { return metric.name == name; });
  if (found == metrics.end()) return std::nullopt;
  return static_cast<std::size_t>(found - metrics.begin());
}

std::size_t first_time_share() { return kFirstShare; }

std::vector<double> step_row(const Scenario& scenario, const Timeline& timeline) {
  const StepMetrics metrics = step_metrics(timeline);
  const Workload& workload = scenario.workload;
  const StageMemory memory = largest_memory(request_of(workload));
  const auto time = [](Duration duration) { return static_cast<double>(duration.count()); };
  const double tokens = static_cast<double>(workload.batch.micro_batch * workload.batch.micro_batch_count *
                                            workload.batch.sequence * workload.layout.data);
  const std::vector<double> row = {time(metrics.step_time),
                                   tokens / std::max(1e-9, seconds(metrics.step_time)),
                                   time(metrics.compute),
                                   time(metrics.communication),
                                   time(metrics.exposed),
                                   time(metrics.all_to_all),
                                   time(metrics.exposed_all_to_all),
                                   metrics.overlap,
                                   metrics.communication_share,
                                   memory.total().value(),
                                   (memory.weights + memory.master + memory.moments + memory.gradients).value()};
  ASSERT(row.size() == kStepMetrics.size(), "{} values, {} metrics", row.size(), kStepMetrics.size());
  return row;
}

std::vector<double> campaign_row(const CampaignScenario& scenario, const std::vector<CampaignOutcome>& outcomes) {
  const CampaignSummary summary = summarize(scenario, outcomes);
  std::vector<double> row = {summary.goodput.mean,
                             summary.goodput.half_width,
                             summary.running_share.mean,
                             summary.plt.mean,
                             summary.plt.half_width,
                             summary.cost.mean,
                             summary.gpu_hours.mean,
                             summary.wall_hours.mean,
                             summary.host_memory.mean * static_cast<double>(scenario.cluster.gpus_per_node),
                             static_cast<double>(summary.cadence.interval),
                             summary.useful_steps.mean,
                             summary.failures.mean,
                             summary.interruptions.mean,
                             summary.lost_age_seconds.mean,
                             summary.checkpoints.mean,
                             summary.storage_checkpoints.mean,
                             summary.storage_bytes.mean,
                             summary.storage_bytes_per_second.mean,
                             summary.snapshot_experts.mean,
                             summary.persist_experts.mean,
                             static_cast<double>(summary.finished_count) / static_cast<double>(summary.replica_count)};
  for (const MeanInterval& share : summary.share) row.push_back(share.mean);
  ASSERT(row.size() == kCampaignMetrics.size(), "{} values, {} metrics", row.size(), kCampaignMetrics.size());
  return row;
}

Result<double> parse_limit(std::string_view text, MetricUnit unit) {
  if (unit == Unit::ByteCount) return value_of(parse_bytes(text));
  if (unit == Unit::ByteRate) return value_of(parse_bytes_per_second(text));
  if (nanoseconds_of(unit) > 0) {
    const Result<Duration> time = parse_duration(text);
    if (!time.ok()) return time.error();
    return static_cast<double>(time->count()) / nanoseconds_of(unit);
  }
  return parse_number(text, unit == Unit::Share);
}

std::string pretty_metric(double value, MetricUnit unit) {
  if (!std::isfinite(value)) return "?";
  if (unit == Unit::ByteCount) return pretty(Bytes(std::llround(value)));
  if (unit == Unit::ByteRate) return pretty(BytesPerSecond(value));
  if (nanoseconds_of(unit) > 0) return pretty(Duration(std::llround(value * nanoseconds_of(unit))));
  if (unit == Unit::Share) return fmt::format("{:.4g} %", 100 * value);
  if (unit == Unit::Rate) return fmt::format("{:.4g}/s", value);
  if (unit == Unit::GpuHours) return fmt::format("{:.5g} GPU-h", value);
  return fmt::format("{:.6g}", value);
}

}  // namespace moecast
