#include "models/timeline_json.h"

#include <algorithm>
#include <tuple>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/random.h"
#include "models/comparison.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using Json = nlohmann::ordered_json;
using testing_models::paired_model;

Workload workload(Schedule schedule) {
  return {paired_model(1, 1, true, Shortcut::Pos2), {2, 2, 1, 1, 0}, {2, 1, 16}, schedule, 4};
}

RunInfo info_of(const Workload& work) {
  return {"train", "a \"quoted\" run", work, 18'446'744'073'709'551'615ULL, "abc123", true, "cpu x1"};
}

/// Two ranks and two steps, laid out with random times.
Timeline recorded(const Workload& work) {
  const Result<StepPlan> plan = build_step_plan(request_of(work, [](const Operator&) { return Duration(7); }));
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  const CounterRandom random(11, 0);
  Timeline timeline;
  timeline.source = "measured: test";
  timeline.plan = *plan;
  timeline.rank_count = 2;
  for (std::int32_t step = 0; step < 2; ++step) {
    for (std::int32_t rank = 0; rank < 2; ++rank) {
      std::vector<Duration> durations;
      for (std::size_t i = 0; i < plan->operators.size(); ++i) {
        durations.emplace_back(random.below(2'000'000, i, static_cast<std::uint64_t>(2 * step + rank)));
      }
      for (Span span : project(*plan, durations).spans) {
        const Duration shift(step * 1'000'000'001LL);
        timeline.spans.push_back({span.op, Rank(rank), span.lane, step, span.start + shift, span.end + shift});
      }
    }
  }
  return timeline;
}

std::filesystem::path written(const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "timeline.json";
  EXPECT_TRUE(write_file_atomically(path, text).ok());
  return path;
}

auto key(const Span& span) { return std::tuple(span.step, span.rank, span.lane, span.start, span.op, span.end); }

void expect_same(Timeline actual, Timeline expected) {
  const auto order = [](const Span& a, const Span& b) { return key(a) < key(b); };
  std::sort(actual.spans.begin(), actual.spans.end(), order);
  std::sort(expected.spans.begin(), expected.spans.end(), order);
  ASSERT_EQ(actual.spans.size(), expected.spans.size());
  for (std::size_t i = 0; i < actual.spans.size(); ++i) EXPECT_EQ(key(actual.spans[i]), key(expected.spans[i]));
  EXPECT_EQ(actual.source, expected.source);
  EXPECT_EQ(actual.rank_count, expected.rank_count);
  ASSERT_EQ(actual.plan.operators.size(), expected.plan.operators.size());
  for (std::size_t i = 0; i < actual.plan.operators.size(); ++i) {
    EXPECT_EQ(actual.plan.operators[i].name(), expected.plan.operators[i].name());
    EXPECT_EQ(actual.plan.operators[i].dependencies, expected.plan.operators[i].dependencies);
  }
  EXPECT_EQ(actual.plan.schedule, expected.plan.schedule);
}

TEST(TimelineJson, ReadsBackTheSameTimeline) {
  for (const Schedule& schedule :
       {Schedule{ScheduleKind::Sequential, 1, {}, {}}, Schedule{ScheduleKind::Pipelined, 2, {}, {}},
        Schedule{ScheduleKind::Shortcut, 1, std::nullopt, 2}}) {
    const Workload work = workload(schedule);
    const Timeline timeline = recorded(work);
    const RunInfo info = info_of(work);
    const Result<RecordedTimeline> read = read_timeline(written(to_chrome_trace(timeline, info)));
    ASSERT_TRUE(read.ok()) << read.error().text();
    expect_same(read->timeline, timeline);
    EXPECT_EQ(read->info.command, info.command);
    EXPECT_EQ(read->info.name, info.name);
    EXPECT_EQ(read->info.seed, info.seed);
    EXPECT_EQ(read->info.revision, info.revision);
    EXPECT_EQ(read->info.paced, info.paced);
    EXPECT_EQ(read->info.device, info.device);
    Workload resolved = work;
    resolved.schedule = timeline.plan.schedule;
    EXPECT_EQ(read->info.workload, resolved);
    EXPECT_EQ(compare(timeline, read->timeline).step_time_error, 0);
  }
}

TEST(TimelineJson, IsTheKinetoDialect) {
  const Workload work = workload({ScheduleKind::Pipelined, 2, {}, {}});
  Timeline timeline = recorded(work);
  timeline.spans[0].start = Instant(Duration(1'234'000'056));
  timeline.spans[0].end = Instant(Duration(1'234'000'056 + 1'002'003));
  const std::string text = to_chrome_trace(timeline, info_of(work));
  EXPECT_NE(text.find("\"ts\": 1234000.056, \"dur\": 1002.003,"), std::string::npos);  // never a formatted double
  const Json json = Json::parse(text);
  EXPECT_EQ(json["schemaVersion"], 1);
  EXPECT_EQ(json["deviceProperties"].size(), 2U);
  EXPECT_EQ(json["traceName"], "a \"quoted\" run");
  EXPECT_EQ(json["moecast"]["workload"]["model"]["name"], "pair");
  std::size_t spans = 0, names = 0;
  for (const Json& event : json["traceEvents"]) {
    if (event["ph"] == "X") {
      ++spans;
      const Operator& op = timeline.plan.operators[event["args"]["op"].get<std::size_t>()];
      EXPECT_EQ(event["name"], op.name());
      EXPECT_EQ(event["tid"], static_cast<int>(op.lane));
      EXPECT_EQ(event["args"].contains("layer"), op.layer.has_value());
      EXPECT_EQ(event["args"]["chunk"], op.chunk);
      if (op.communication) {
        EXPECT_EQ(event["args"]["bytes"], op.communication->buffer.count());
      }
    } else {
      ASSERT_EQ(event["ph"], "M");
      names += event["name"] == "thread_name" || event["name"] == "process_name";
    }
  }
  EXPECT_EQ(spans, timeline.spans.size());
  EXPECT_EQ(names, 2 * 3U);  // two ranks of a process and two lanes
}

/// The problems after `spoil` changed the file, "pointer: found".
std::string refused(const std::function<void(Json&)>& spoil) {
  const Workload work = workload({ScheduleKind::Shortcut, 1, 1, 2});
  Json json = Json::parse(to_chrome_trace(recorded(work), info_of(work)));
  spoil(json);
  const Result<RecordedTimeline> read = read_timeline(written(json.dump()));
  if (read.ok()) return "";
  EXPECT_EQ(read.error().kind, ErrorKind::BadInput);
  EXPECT_NE(read.error().text().find("timeline.json"), std::string::npos);
  return read.error().text();
}

/// The first span of the file.
Json& first_span(Json& json) {
  for (Json& event : json["traceEvents"]) {
    if (event["ph"] == "X") return event;
  }
  return json;
}

TEST(TimelineJson, RefusesWhatDoesNotFitThePlan) {
  EXPECT_EQ(refused([](Json&) {}), "");
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks " << part;
  };
  has(refused([](Json& json) { first_span(json)["name"] = "Embed.B"; }),
      "/name: expected \"Embed.F\", as operator 0 is planned here, found \"Embed.B\"");
  has(refused([](Json& json) { first_span(json)["tid"] = 1; }), "/tid: expected 0, the compute lane, found 1");
  has(refused([](Json& json) { first_span(json)["pid"] = 2; }), "/pid: expected a rank below 2, found 2");
  has(refused([](Json& json) { first_span(json)["args"]["op"] = 1000; }), "/args/op: expected one of the");
  has(refused([](Json& json) { first_span(json).erase("args"); }), "/args/step: expected a step number, found nothing");
  has(refused([](Json& json) { first_span(json)["dur"] = -0.001; }), "/dur: expected microseconds");
  has(refused([](Json& json) { first_span(json)["ts"] = "soon"; }), "/ts: expected microseconds");
  has(refused([](Json& json) { json["traceEvents"].erase(json["traceEvents"].size() - 1); }), "in step 1 of rank 1");
  has(refused([](Json& json) { json["traceEvents"].push_back(json["traceEvents"].back()); }), "in step 1 of rank 1");
  has(refused([](Json& json) { json["traceEvents"] = Json::array(); }), "expected at least one step");
  has(refused([](Json& json) { json["traceEvents"][0] = 1; }), "/traceEvents/0: expected an object");
}

TEST(TimelineJson, RefusesWhatIsNoTimelineOfOurs) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks " << part;
  };
  has(refused([](Json& json) { json.erase("moecast"); }), "expected a timeline written by moecast");
  has(refused([](Json& json) { json["moecast"]["schema"] = "moecast.timeline/9"; }), "/moecast/schema");
  has(refused([](Json& json) { json["moecast"]["seed"] = -1; }), "/moecast/seed");
  has(refused([](Json& json) { json["moecast"]["extra"] = -1; }), "/moecast/extra");
  has(refused([](Json& json) { json["moecast"]["workload"]["batch"]["sequence"] = 0; }),
      "/moecast/workload/batch/sequence");
  has(refused([](Json& json) { json["moecast"]["workload"]["schedule"]["forward_slot"] = "auto"; }),
      "slots that are numbers");
  has(refused([](Json& json) { json["moecast"]["workload"]["schedule"]["forward_slot"] = 9; }), "outside the window");
  has(refused([](Json& json) { json = Json::array(); }), "expected an object");
  const Result<RecordedTimeline> broken = read_timeline(written("{\n\"traceEvents\": [}"));
  ASSERT_FALSE(broken.ok());
  has(broken.error().text(), "timeline.json:2:");
  EXPECT_FALSE(read_timeline("no_such_timeline.json").ok());
}

}  // namespace
}  // namespace moecast
