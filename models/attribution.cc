#include "models/attribution.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "models/intervals.h"

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

/// Shortest span of each operator in each step, by (step, stage, operator).
using Shortest = std::map<std::tuple<std::int32_t, std::int64_t, OpId>, Duration>;

Shortest shortest_spans(const Timeline& timeline) {
  Shortest shortest;
  for (const Span& span : timeline.spans) {
    Duration& least =
        shortest.try_emplace({span.step, timeline.stage_of(span.rank), span.op}, span.duration()).first->second;
    least = std::min(least, span.duration());
  }
  return shortest;
}

void add(RankStep& work, Part part, Instant start, Instant end) {
  if (end > start) work[static_cast<std::size_t>(part)].push_back({start, end});
}

/// Adds the time of each part that no earlier part has taken.
void take(RankStep work, std::array<Duration, kPartCount>& totals) {
  Intervals taken;
  for (std::size_t part = 0; part < kPartCount; ++part) {
    const Intervals own = union_of(std::move(work[part]));
    totals[part] += length(own) - common(own, taken);
    taken.insert(taken.end(), own.begin(), own.end());
    taken = union_of(std::move(taken));
  }
}

Duration mean(Duration total, std::int64_t count) { return count == 0 ? Duration{} : Duration(total.count() / count); }

}  // namespace

StepAttribution attribute(const Timeline& timeline) {
  const Shortest shortest = shortest_spans(timeline);
  std::map<std::pair<std::int32_t, Rank>, RankStep> work;
  std::map<std::int32_t, Interval> steps;
  for (const Span& span : timeline.spans) {
    const Part part = part_of(timeline.plan_of(span.rank).operators[span.op.index()]);
    RankStep& own = work[{span.step, span.rank}];
    Instant begin = span.start;
    if (is_collective(part)) {
      begin = span.end - shortest.at({span.step, timeline.stage_of(span.rank), span.op});
      add(own, Part::Stall, span.start, begin);
    }
    add(own, part, begin, span.end);
    Interval& step = steps.try_emplace(span.step, Interval{span.start, span.end}).first->second;
    step.start = std::min(step.start, span.start);
    step.end = std::max(step.end, span.end);
  }
  std::array<Duration, kPartCount> totals{};
  Duration whole{};
  for (auto& [key, intervals] : work) {
    const Interval& step = steps.at(key.first);
    whole += step.end - step.start;
    take(std::move(intervals), totals);
  }
  const auto count = static_cast<std::int64_t>(work.size());
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
