#include "sim/campaign/campaign.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "sim/campaign/campaign_executor.h"
#include "sim/campaign/interval_search.h"
#include "sim/parallel.h"

namespace moecast {

std::vector<CampaignOutcome> run_replicas(const CampaignScenario& scenario, unsigned threads,
                                          const std::function<bool()>& stop) {
  const auto count = static_cast<std::size_t>(scenario.replicas);
  std::vector<CampaignOutcome> outcomes(count);
  std::vector<char> done(count);
  for_each_in_parallel(
      count, threads,
      [&](std::size_t i) {
        outcomes[i] = run_campaign(scenario, static_cast<std::int64_t>(i));
        done[i] = 1;
      },
      [&] { return stop && stop(); });
  const auto first_missing = std::find(done.begin(), done.end(), 0);
  outcomes.resize(static_cast<std::size_t>(first_missing - done.begin()));
  return outcomes;
}

double crash_rate(const CampaignScenario& scenario) {
  double sum = 0;
  const CampaignCluster& cluster = scenario.cluster;
  for (const FailureMode& mode : scenario.reliability.modes) {
    if (mode.effect != FailureEffect::Crash || mode.mean_between <= 0) continue;
    const std::int64_t units = unit_count(mode.per, cluster.gpus, cluster.nodes(), cluster.racks());
    sum += static_cast<double>(units) / mode.mean_between;
  }
  return sum;
}

namespace {

template <typename Value>
MeanInterval interval_of(const CampaignScenario& scenario, const std::vector<CampaignOutcome>& outcomes, Value value) {
  std::vector<double> values;
  values.reserve(outcomes.size());
  for (const CampaignOutcome& outcome : outcomes) values.push_back(static_cast<double>(value(outcome)));
  return mean_interval(values, scenario.confidence);
}

Cadence plain_cadence(const CampaignScenario& scenario) {
  return make_policy(scenario)->cadence(scenario.training.planned_steps(), scenario.training.step);
}

std::vector<std::string> notes_of(const CampaignScenario& scenario) {
  std::vector<std::string> notes = scenario.derived;
  const Cadence cadence = plain_cadence(scenario);
  const std::int64_t asked = interval_of(scenario.policy);
  if (cadence.interval > asked) {
    notes.push_back(
        fmt::format("the interval of {} steps is below the time that one checkpoint is on its way: "
                    "stretched to {} steps ({})",
                    asked, cadence.interval, pretty(cadence.interval * scenario.training.step)));
  }
  const double rate = crash_rate(scenario);
  if (rate > 0 && seconds(cadence.stall) > 0.5 / rate) {
    notes.push_back(
        "a checkpoint stalls for more than half the time between failures: Young's and Daly's intervals "
        "do not hold");
  }
  if (scenario.clock == FailureClock::Fresh) notes.push_back("fresh failure clocks: recovery is free of failures");
  return notes;
}

}  // namespace

CampaignSummary summarize(const CampaignScenario& scenario, const std::vector<CampaignOutcome>& outcomes) {
  ASSERT(!outcomes.empty(), "no replica to summarize");
  const auto mean = [&](auto value) { return interval_of(scenario, outcomes, value); };
  using Outcome = CampaignOutcome;
  CampaignSummary out;
  out.replica_count = std::ssize(outcomes);
  out.finished_count = std::count_if(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return o.finished; });
  out.goodput = mean([](const Outcome& o) { return o.goodput(); });
  out.running_share = mean([](const Outcome& o) { return o.running_share(); });
  out.wall_hours = mean([](const Outcome& o) { return seconds(o.wall) / 3600; });
  for (std::size_t i = 0; i < kTimeCauseCount; ++i) {
    out.share[i] = mean([i](const Outcome& o) { return seconds(o.time[i]) / std::max(1e-9, seconds(o.wall)); });
  }
  out.useful_steps = mean([](const Outcome& o) { return o.useful_steps; });
  out.failures = mean([](const Outcome& o) { return o.failures; });
  out.interruptions = mean([](const Outcome& o) { return o.interruptions; });
  for (std::size_t i = 0; i < scenario.reliability.modes.size(); ++i) {
    out.failures_by_mode.push_back(mean([i](const Outcome& o) { return o.failures_by_mode[i]; }));
  }
  for (std::size_t i = 0; i < kRestoreSourceCount; ++i) {
    out.restores[i] = mean([i](const Outcome& o) { return o.restores[i]; });
  }
  out.lost_age_seconds = mean([](const Outcome& o) {
    return seconds(o.lost_age) / static_cast<double>(std::max<std::int64_t>(1, o.interruptions));
  });
  out.plt = mean([](const Outcome& o) { return o.plt; });
  out.snapshot_experts = mean([](const Outcome& o) { return o.experts.snapshot; });
  out.persist_experts = mean([](const Outcome& o) { return o.experts.persist; });
  out.checkpoints = mean([](const Outcome& o) { return o.checkpoints; });
  out.storage_checkpoints = mean([](const Outcome& o) { return o.storage_checkpoints; });
  out.storage_bytes = mean([](const Outcome& o) { return o.storage_bytes; });
  out.storage_bytes_per_second =
      mean([](const Outcome& o) { return o.storage_bytes / std::max(1e-9, seconds(o.wall)); });
  out.host_memory = mean([](const Outcome& o) { return o.host_memory; });
  out.cadence = plain_cadence(scenario);
  out.gpu_hours = mean([](const Outcome& o) { return o.gpu_hours; });
  out.cost = mean([](const Outcome& o) { return o.cost; });
  out.notes = notes_of(scenario);
  return out;
}

}  // namespace moecast
