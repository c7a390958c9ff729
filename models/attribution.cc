#include "models/attribution.h"

#include <algorithm>
#include <array>

#include "models/intervals.h"
#include "models/metrics.h"

namespace moecast {
namespace {

/// Parts of a step in the order in which they take an instant.
enum class Part { Compute, AllToAll, Tensor, Replicas, Pipeline, Stall, Bubble };
constexpr std::size_t kPartCount = 7;

Part part_of(const Operator& op) {
  switch (op.lane) {
    case Lane::Compute:
      return Part::Compute;
    case Lane::Tensor:
      return Part::Tensor;
    case Lane::Send:
      return Part::Pipeline;
    case Lane::Receive:
      return Part::Bubble;
    default:
      break;
  }
  const bool exchange = op.kind == OpKind::Dispatch || op.kind == OpKind::Combine || op.kind == OpKind::Counts;
  return exchange ? Part::AllToAll : Part::Replicas;
}

bool is_collective(Part part) { return part == Part::AllToAll || part == Part::Tensor || part == Part::Replicas; }

using RankStep = std::array<Intervals, kPartCount>;
using SpanIterator = std::vector<Span>::const_iterator;

/// Shortest span of each operator of one step: [stage][operator].
using Shortest = std::vector<std::vector<Duration>>;

Shortest shortest_spans(const Timeline& timeline, SpanIterator first, SpanIterator last) {
  Shortest shortest;
  for (std::int64_t stage = 0; stage < timeline.stage_count(); ++stage) {
    shortest.emplace_back(timeline.plan_of_stage(stage).operators.size(), Duration::max());
  }
  for (; first != last; ++first) {
    Duration& least = shortest[static_cast<std::size_t>(timeline.stage_of(first->rank))][first->op.index()];
    least = std::min(least, first->duration());
  }
  return shortest;
}

void add(RankStep& work, Part part, Instant start, Instant end) {
  if (end > start) work[static_cast<std::size_t>(part)].push_back({start, end});
}

/// Adds the time of each part that no earlier part has taken.
void take(RankStep work, std::int64_t ranks, std::array<Duration, kPartCount>& totals) {
  Intervals taken;
  for (std::size_t part = 0; part < kPartCount; ++part) {
    const Intervals own = union_of(std::move(work[part]));
    totals[part] += ranks * (length(own) - common(own, taken));
    taken.insert(taken.end(), own.begin(), own.end());
    taken = union_of(std::move(taken));
  }
}

Duration mean(Duration total, std::int64_t count) { return count == 0 ? Duration{} : Duration(total.count() / count); }

}  // namespace

namespace {

/// What a rank did in a step: its spans are first ... last.
RankStep work_of(const Timeline& timeline, SpanIterator first, SpanIterator last, const Shortest& shortest) {
  const std::vector<Duration>& alone = shortest[static_cast<std::size_t>(timeline.stage_of(first->rank))];
  const StepPlan& plan = timeline.plan_of(first->rank);
  RankStep work;
  for (; first != last; ++first) {
    const Part part = part_of(plan.operators[first->op.index()]);
    Instant begin = first->start;
    if (is_collective(part)) {
      begin = first->end - alone[first->op.index()];
      add(work, Part::Stall, first->start, begin);
    }
    add(work, part, begin, first->end);
  }
  return work;
}

/// Sums over ranks and steps.
struct Totals {
  std::int64_t count = 0;
  Duration whole{};
  std::array<Duration, kPartCount> parts{};

  void add_step(const Timeline& timeline, SpanIterator first, SpanIterator last) {
    Interval step{first->start, first->end};
    for (auto span = first; span != last; ++span) {
      step.start = std::min(step.start, span->start);
      step.end = std::max(step.end, span->end);
    }
    const Shortest shortest = shortest_spans(timeline, first, last);
    while (first != last) {
      const Rank rank = first->rank;
      const auto end = std::find_if(first, last, [&](const Span& span) { return span.rank != rank; });
      const std::int64_t ranks = rank_weight(timeline, rank);
      take(work_of(timeline, first, end, shortest), ranks, parts);
      count += ranks;
      whole += ranks * (step.end - step.start);
      first = end;
    }
  }
};

}  // namespace

StepAttribution attribute(const Timeline& timeline) {
  Totals all;
  for (auto first = timeline.spans.begin(); first != timeline.spans.end();) {  // ordered by step and rank
    const auto last = std::find_if(first, timeline.spans.end(), [&](const Span& s) { return s.step != first->step; });
    all.add_step(timeline, first, last);
    first = last;
  }
  const auto& totals = all.parts;
  const Duration whole = all.whole;
  const std::int64_t count = all.count;
  const auto of = [&](Part part) { return mean(totals[static_cast<std::size_t>(part)], count); };
  StepAttribution result{mean(whole, count), of(Part::Compute),  of(Part::AllToAll), of(Part::Tensor),
                         of(Part::Replicas), of(Part::Pipeline), of(Part::Stall),    of(Part::Bubble)};
  result.idle = result.step;  // and so the rounding of the means is here
  for (const auto& [name, time] : parts(result)) result.idle -= name == "idle" ? Duration{} : time;
  return result;
}

std::vector<std::pair<std::string_view, Duration>> parts(const StepAttribution& attribution) {
  return {{"compute", attribution.compute},   {"all-to-all", attribution.all_to_all},
          {"tensor", attribution.tensor},     {"replicas", attribution.replicas},
          {"pipeline", attribution.pipeline}, {"stall", attribution.stall},
          {"bubble", attribution.bubble},     {"idle", attribution.idle}};
}

}  // namespace moecast
