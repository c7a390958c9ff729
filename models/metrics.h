#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "models/timeline.h"

namespace moecast {

/// Pure functions of a timeline: they judge measured and simulated runs alike. Communication is what happens on the
/// lanes Comm, Tensor and Send; a Receive is mostly waiting and counted as bubble. Exposed = communication time during
/// which the rank's compute lane idles. Means over ranks and steps unless said otherwise.
struct StepMetrics {
  Duration step_time{};      // from first start to last end of a step over all ranks, median over steps
  Duration compute{};        // busy time of the compute lane
  Duration communication{};  // busy time of the communication lanes (union of spans)
  Duration exposed{};        // communication while the compute lane idles
  Duration all_to_all{};     // dispatch and combine only, both phases
  Duration exposed_all_to_all{};
  double overlap = 0;  // 1 - exposed / communication; 0 without communication
  double communication_share =
      0;  // all_to_all / (all_to_all + compute of Gate, Encode, Expert, Decode): share of MoE time
};

struct OperatorMetrics {  // one row for each kind and phase that occurs
  OpKind kind = OpKind::Embed;
  Phase phase = Phase::Forward;
  std::int64_t count_per_step = 0;  // on one rank; the mean over pipeline stages, rounded up
  Duration total_per_step{};        // mean over ranks and steps
};

struct DurationRange {
  Duration low{}, high{};
};

[[nodiscard]] StepMetrics step_metrics(const Timeline& timeline);
/// First and third quartile of the step times: how steady the machine was.
[[nodiscard]] DurationRange step_time_quartiles(const Timeline& timeline);
/// The metrics of the same plan when every operator takes its median time and nothing else is in the way (`project`):
/// the bound of what the plan can hide.
[[nodiscard]] StepMetrics bound_metrics(const Timeline& timeline);
[[nodiscard]] std::vector<OperatorMetrics> operator_metrics(const Timeline& timeline);
/// Ranks of which the spans of this one are: itself and those that it stands for.
[[nodiscard]] std::int64_t rank_weight(const Timeline& timeline, Rank rank);
/// Median duration of each operator over ranks and steps (index = OpId) of a pipeline stage; zero if it never ran.
[[nodiscard]] std::vector<Duration> median_durations(const Timeline& timeline, std::int64_t stage = 0);

}  // namespace moecast
