#include "models/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/statistics.h"
#include "models/intervals.h"

namespace moecast {

namespace {

const Operator& operator_of(const Timeline& timeline, const Span& span) {
  const std::vector<Operator>& operators = timeline.plan_of(span.rank).operators;
  ASSERT(span.op.index() < operators.size(), "span of operator {} of {}", span.op.value(), operators.size());
  ASSERT(span.end >= span.start, "operator {} ends before it starts", span.op.value());
  return operators[span.op.index()];
}

bool is_communication(Lane lane) { return lane == Lane::Comm || lane == Lane::Tensor || lane == Lane::Send; }

bool is_all_to_all(const Operator& op) { return op.kind == OpKind::Dispatch || op.kind == OpKind::Combine; }

bool is_moe_compute(const Operator& op) {
  return op.kind == OpKind::Gate || op.kind == OpKind::Encode || op.kind == OpKind::Expert || op.kind == OpKind::Decode;
}

/// What one rank did in one step.
struct RankStep {
  Intervals compute, communication, all_to_all;
  Duration moe_compute{};
};

/// Sums over ranks and steps.
struct Totals {
  std::int64_t count = 0;
  Duration compute{}, communication{}, exposed{}, all_to_all{}, exposed_all_to_all{}, moe_compute{};

  void add(RankStep work, std::int64_t ranks) {
    const Intervals computing = union_of(std::move(work.compute));
    const Intervals communicating = union_of(std::move(work.communication));
    const Intervals exchanging = union_of(std::move(work.all_to_all));
    count += ranks;
    compute += ranks * length(computing);
    communication += ranks * length(communicating);
    exposed += ranks * (length(communicating) - common(communicating, computing));
    all_to_all += ranks * length(exchanging);
    exposed_all_to_all += ranks * (length(exchanging) - common(exchanging, computing));
    moe_compute += ranks * work.moe_compute;
  }
};

std::map<std::pair<std::int32_t, Rank>, RankStep> by_step_and_rank(const Timeline& timeline) {
  std::map<std::pair<std::int32_t, Rank>, RankStep> steps;
  RankStep* work = nullptr;  // of the span before: they are ordered by step and rank
  const Span* before = nullptr;
  for (const Span& span : timeline.spans) {
    const Operator& op = operator_of(timeline, span);
    if (before == nullptr || before->step != span.step || before->rank != span.rank)
      work = &steps[{span.step, span.rank}];
    before = &span;
    const Interval interval{span.start, span.end};
    if (span.lane == Lane::Compute) {
      work->compute.push_back(interval);
      if (is_moe_compute(op)) work->moe_compute += span.duration();
    } else if (is_communication(span.lane)) {
      work->communication.push_back(interval);
      if (is_all_to_all(op)) work->all_to_all.push_back(interval);
    }
  }
  return steps;
}

Duration mean(Duration total, std::int64_t count) {  // to the nearest nanosecond
  return count == 0 ? Duration{} : Duration((total.count() + count / 2) / count);
}

Duration median_of(const std::vector<double>& nanoseconds) {  // exact below 2^53 ns
  return nanoseconds.empty() ? Duration{} : Duration(std::llround(median(nanoseconds)));
}

using Sample = std::pair<std::int64_t, std::int64_t>;  // nanoseconds, and how often

/// As if every sample stood there as often as it says: the middle one, or the mean of the two.
Duration median_of(std::vector<Sample>& samples) {
  std::sort(samples.begin(), samples.end());
  std::int64_t all = 0;
  for (const auto& [value, count] : samples) all += count;
  const auto at = [&](std::int64_t place) {
    for (const auto& [value, count] : samples) {
      place -= count;
      if (place < 0) return value;
    }
    return std::int64_t{0};
  };
  if (all == 0) return {};
  return Duration(std::llround(static_cast<double>(at((all - 1) / 2) + at(all / 2)) / 2));
}

double ratio(Duration part, Duration whole) {
  return whole.count() == 0 ? 0 : static_cast<double>(part.count()) / static_cast<double>(whole.count());
}

/// By step: from first start to last end over all ranks, nanoseconds.
std::vector<double> step_times(const Timeline& timeline) {
  std::map<std::int32_t, Interval> steps;
  for (const Span& span : timeline.spans) {
    Interval& step = steps.try_emplace(span.step, Interval{span.start, span.end}).first->second;
    step.start = std::min(step.start, span.start);
    step.end = std::max(step.end, span.end);
  }
  std::vector<double> times;
  for (const auto& [step, interval] : steps)
    times.push_back(static_cast<double>((interval.end - interval.start).count()));
  return times;
}

}  // namespace

std::int64_t rank_weight(const Timeline& timeline, Rank rank) {
  if (timeline.stands_for.empty()) return 1;
  const auto found = std::lower_bound(timeline.stands_for.begin(), timeline.stands_for.end(), rank,
                                      [](const auto& entry, Rank wanted) { return entry.first < wanted; });
  ASSERT(found != timeline.stands_for.end() && found->first == rank, "spans of rank {}", rank.value());
  return found->second;
}

StepMetrics step_metrics(const Timeline& timeline) {
  Totals totals;
  for (auto& [key, work] : by_step_and_rank(timeline)) totals.add(std::move(work), rank_weight(timeline, key.second));
  StepMetrics metrics;
  metrics.step_time = median_of(step_times(timeline));
  metrics.compute = mean(totals.compute, totals.count);
  metrics.communication = mean(totals.communication, totals.count);
  metrics.exposed = mean(totals.exposed, totals.count);
  metrics.all_to_all = mean(totals.all_to_all, totals.count);
  metrics.exposed_all_to_all = mean(totals.exposed_all_to_all, totals.count);
  if (totals.communication.count() > 0) metrics.overlap = 1 - ratio(totals.exposed, totals.communication);
  metrics.communication_share = ratio(totals.all_to_all, totals.all_to_all + totals.moe_compute);
  return metrics;
}

std::vector<OperatorMetrics> operator_metrics(const Timeline& timeline) {
  std::map<std::pair<OpKind, Phase>, Duration> totals;
  for (const Span& span : timeline.spans) {
    const Operator& op = operator_of(timeline, span);
    totals[{op.kind, op.phase}] += rank_weight(timeline, span.rank) * span.duration();
  }
  const std::int64_t steps = timeline.spans.empty() ? 0 : timeline.spans.back().step - timeline.spans.front().step + 1;
  const std::int64_t rank_steps = steps * timeline.rank_count;
  std::vector<OperatorMetrics> rows;
  for (const auto& [key, total] : totals) {
    const auto& [kind, phase] = key;
    OperatorMetrics row{kind, phase, 0, mean(total, rank_steps)};
    for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
      for (const Operator& op : timeline.plan_of_stage(stage).operators) {
        row.count_per_step += op.kind == kind && op.phase == phase;
      }
    }
    row.count_per_step = (row.count_per_step + timeline.stage_count() - 1) / timeline.stage_count();
    rows.push_back(row);
  }
  return rows;
}

DurationRange step_time_quartiles(const Timeline& timeline) {
  const std::vector<double> times = step_times(timeline);
  if (times.empty()) return {};
  return {Duration(std::llround(quantile(times, 0.25))), Duration(std::llround(quantile(times, 0.75)))};
}

StepMetrics bound_metrics(const Timeline& timeline) {
  std::vector<StepPlan> plans;
  std::vector<std::vector<Duration>> durations;
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    plans.push_back(timeline.plan_of_stage(stage));
    durations.push_back(median_durations(timeline, stage));
  }
  return step_metrics(project_stages(plans, durations));
}

std::vector<Duration> median_durations(const Timeline& timeline, std::int64_t stage) {
  std::vector<std::vector<Sample>> samples(timeline.plan_of_stage(stage).operators.size());
  std::optional<std::pair<Rank, std::int64_t>> last;  // spans are ordered by step and rank
  for (const Span& span : timeline.spans) {
    (void)operator_of(timeline, span);
    if (timeline.stage_of(span.rank) != stage) continue;
    if (!last || last->first != span.rank) last = {span.rank, rank_weight(timeline, span.rank)};
    samples[span.op.index()].emplace_back(span.duration().count(), last->second);
  }
  std::vector<Duration> medians;
  for (std::vector<Sample>& durations : samples) medians.push_back(median_of(durations));
  return medians;
}

}  // namespace moecast
