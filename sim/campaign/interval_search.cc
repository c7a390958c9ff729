#include "sim/campaign/interval_search.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/assert.h"
#include "base/math.h"
#include "sim/campaign/campaign.h"
#include "sim/campaign/closed_forms.h"

namespace moecast {

std::int64_t interval_of(const PolicySettings& policy) {
  struct Get {
    std::int64_t operator()(const CheckpointPolicy& settings) const {
      return settings.kind == CheckpointKind::None ? 0 : settings.interval;
    }
    std::int64_t operator()(const PeerReplicaSettings& settings) const { return settings.interval; }
    std::int64_t operator()(const JustInTimeSettings& settings) const { return settings.storage_interval; }
    std::int64_t operator()(const SparseWindowSettings& settings) const { return settings.window; }
    std::int64_t operator()(const ElasticSettings& settings) const { return settings.storage_interval; }
  };
  return std::visit(Get{}, policy);
}

CampaignScenario with_interval(CampaignScenario scenario, std::int64_t interval) {
  struct Set {
    std::int64_t interval;
    void operator()(CheckpointPolicy& policy) const { policy.interval = interval; }
    void operator()(PeerReplicaSettings& policy) const { policy.interval = interval; }
    void operator()(JustInTimeSettings& policy) const { policy.storage_interval = interval; }
    void operator()(SparseWindowSettings& policy) const { policy.window = interval; }
    void operator()(ElasticSettings& policy) const { policy.storage_interval = interval; }
  };
  std::visit(Set{interval}, scenario.policy);
  return scenario;
}

namespace {

void add_formulas(const CampaignScenario& scenario, IntervalSearch& search) {
  const double rate = crash_rate(scenario);
  const CampaignScenario best = with_interval(scenario, search.best.interval);
  const Cadence cadence = make_policy(best)->cadence(best.training.planned_steps(), best.training.step);
  const double stall = seconds(cadence.stall);
  if (rate <= 0 || stall <= 0) return;
  const double step = seconds(scenario.training.step);
  search.young = young_interval(1 / rate, stall) / step;
  search.daly = daly_interval(1 / rate, stall) / step;
  search.exact = best_interval(1 / rate, stall) / step;
}

}  // namespace

IntervalSearch find_best_interval(const CampaignScenario& scenario, std::int64_t low, std::int64_t high,
                                  unsigned threads) {
  ASSERT(low >= 1 && low <= high, "intervals {} to {}", low, high);
  std::map<std::int64_t, MeanInterval> tried;
  const auto goodput = [&](double logarithm) {
    const std::int64_t steps = std::clamp<std::int64_t>(std::llround(portable_exp(logarithm)), low, high);
    const auto found = tried.find(steps);
    if (found != tried.end()) return found->second.mean;
    const CampaignScenario trial = with_interval(scenario, steps);
    return (tried[steps] = summarize(trial, run_replicas(trial, threads)).goodput).mean;
  };
  constexpr double kGolden = 0.61803398874989485;
  double a = portable_log(static_cast<double>(low));
  double b = portable_log(static_cast<double>(high));
  double x = b - kGolden * (b - a);
  double y = a + kGolden * (b - a);
  while (b - a > 0.01 && portable_exp(b) - portable_exp(a) > 0.5) {
    if (goodput(x) >= goodput(y)) {
      b = y;
      y = x;
      x = b - kGolden * (b - a);
    } else {
      a = x;
      x = y;
      y = a + kGolden * (b - a);
    }
  }
  (void)goodput((a + b) / 2);
  IntervalSearch out;
  for (const auto& [steps, mean] : tried) {
    out.trials.push_back({steps, mean});
    if (out.best.interval == 0 || mean.mean > out.best.goodput.mean) out.best = out.trials.back();
  }
  add_formulas(scenario, out);
  return out;
}

}  // namespace moecast
