#include "tests/tools/run_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "base/file.h"

namespace moecast::testing_runs {

Workload small_workload(ScheduleKind schedule) {
  MoeFfn moe;
  moe.expert_count = 4;
  moe.expert_width = 32;
  moe.shared_expert_width = 32;
  moe.capacity_factor = 1.5;
  moe.shortcut = Shortcut::Pos2;
  Workload workload;
  workload.model.name = "small";
  workload.model.d_model = 16;
  workload.model.vocabulary = 64;
  workload.model.max_sequence = 32;
  workload.model.attention = {2, 2, 8};
  workload.model.blocks = {Block{32, std::nullopt}, Block{0, moe}};
  workload.layout.data = 2;
  workload.layout.expert = 2;
  workload.batch = {2, 1, 16};
  workload.schedule.kind = schedule;
  if (schedule == ScheduleKind::Shortcut) {
    workload.schedule.forward_slot = 1;
    workload.schedule.backward_slot = 1;
  }
  return workload;
}

Timeline made_up_timeline(const Workload& workload, Duration unit) {
  const Result<StepPlan> plan = build_step_plan(request_of(workload));
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  std::vector<Duration> durations;
  for (const Operator& op : plan->operators) durations.push_back(op.lane == Lane::Compute ? unit : 3 * unit);
  const Timeline one = project(*plan, durations);
  Duration length{};
  for (const Span& span : one.spans) length = std::max(length, span.end.time_since_epoch());
  Timeline out = one;
  out.spans.clear();
  out.rank_count = 2;
  for (std::int32_t step = 0; step < 3; ++step) {
    for (std::int32_t rank = 0; rank < 2; ++rank) {
      for (Span span : one.spans) {
        const Duration shift = step * length;
        out.spans.push_back({span.op, Rank(rank), span.lane, step, span.start + shift, span.end + shift});
      }
    }
  }
  std::stable_sort(out.spans.begin(), out.spans.end(), [](const Span& a, const Span& b) {
    return std::tuple(a.step, a.rank, a.lane, a.start) < std::tuple(b.step, b.rank, b.lane, b.start);
  });
  return out;
}

void write_run(const std::filesystem::path& folder, const std::string& command, const std::string& name, Duration unit,
               ScheduleKind schedule) {
  std::filesystem::create_directories(folder);
  const Workload workload = small_workload(schedule);
  Timeline timeline = made_up_timeline(workload, unit);
  timeline.source = command == "train" ? "measured: made up" : "simulated: made up";
  const RunInfo info{command, name, workload, 7, "0123456789ab", command == "train", "a made-up device"};
  ASSERT_TRUE(write_file_atomically(folder / "timeline.json", to_chrome_trace(timeline, info)).ok());
  if (command != "train") return;
  const char* metrics =
      R"({"schema": "moecast.train/1", "loss": [4.1, 3.2, 2.5, 2.2], "unigram_entropy": 3.0, "validation_loss": 2.25})";
  ASSERT_TRUE(write_file_atomically(folder / "metrics.json", metrics).ok());
}

}  // namespace moecast::testing_runs
