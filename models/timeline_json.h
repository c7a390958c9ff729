#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "models/timeline.h"
#include "models/workload.h"

namespace moecast {

inline constexpr std::string_view kTimelineSchema = "moecast.timeline/1";

/// What made a timeline: enough to rebuild its plan and to repeat the run.
struct RunInfo {
  std::string command;  // "train", "simulate", ...
  std::string name;     // of the run, as in its configuration
  Workload workload;
  std::uint64_t seed = 0;
  std::string revision;  // of moecast
  bool paced = false;    // links were slowed down on purpose
  std::string device;    // what a rank ran on, or the profile that stood for it
};

/// Chrome trace events in the dialect of Kineto (pytorch/kineto, libkineto/src/output_json.cpp); opens in Perfetto. A
/// process is a rank, a thread is a lane, a complete event ("X") is a span with args op, step, layer, micro_batch,
/// chunk and bytes. Times are microseconds with three decimals, printed from integer nanoseconds. The object "moecast"
/// holds `info` with the workload resolved (slots as in timeline.plan). `info.workload` is what timeline.plan was built
/// from.
[[nodiscard]] std::string to_chrome_trace(const Timeline& timeline, const RunInfo& info);

struct RecordedTimeline {
  Timeline timeline;
  RunInfo info;
};

/// Reads what to_chrome_trace wrote. The plan is built again from the stored workload; every event must name an
/// operator of it (args.op with the same name and lane) and every recorded step of a rank must be whole. BadInput with
/// the places that do not fit, say, because another version of moecast plans the workload differently.
[[nodiscard]] Result<RecordedTimeline> read_timeline(const std::filesystem::path& path);

}  // namespace moecast
