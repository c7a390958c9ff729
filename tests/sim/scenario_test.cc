#include "sim/scenario.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/sim/scenario_testing.h"

namespace moecast {
namespace {

constexpr const char* kGolden = "tests/sim/golden/scmoe_straggler.json";

TEST(Scenario, ReadsEverything) {
  const Scenario scenario = scenario_from(kGolden, {{"/seed", "7"}, {"/note", "said"}});
  EXPECT_EQ(scenario.name, "ScMoE on two ranks, the second slow");
  EXPECT_EQ(scenario.note, "said");
  EXPECT_EQ(scenario.workload.model.name, "tiny");
  EXPECT_EQ(scenario.workload.layout.expert, 2);
  EXPECT_EQ(scenario.hardware.name, "two ranks");
  EXPECT_EQ(scenario.steps, 2);
  EXPECT_EQ(scenario.seed, 7U);
  EXPECT_EQ(scenario.slowdown, (std::vector<double>{1, 1.5}));
  EXPECT_TRUE(scenario.expect.empty());
}

TEST(Scenario, ReadsExpectations) {
  const Scenario scenario = scenario_from(kGolden, {{"/expect", R"([
    {"metric": "step_time", "value": "2 ms", "tolerance": "10 %", "source": "a paper"},
    {"metric": "forward_time", "value": "400 us", "tolerance": "50 us", "source": "a paper", "note": "wide"},
    {"metric": "overlap", "scope": "backward", "value": 0.5, "tolerance": "4%", "source": "a paper"},
    {"metric": "speedup", "relative_to": "other.json", "value": 1.5, "tolerance": "0 %", "source": "a paper"}])"}});
  ASSERT_EQ(scenario.expect.size(), 4U);
  EXPECT_EQ(scenario.expect[0].metric, Metric::StepTime);
  EXPECT_DOUBLE_EQ(scenario.expect[0].value, 2e-3);
  EXPECT_DOUBLE_EQ(scenario.expect[0].allowed, 2e-4);
  EXPECT_EQ(scenario.expect[1].scope, Scope::Forward);
  EXPECT_DOUBLE_EQ(scenario.expect[1].allowed, 50e-6);
  EXPECT_EQ(scenario.expect[1].note, "wide");
  EXPECT_EQ(scenario.expect[2].scope, Scope::Backward);
  EXPECT_DOUBLE_EQ(scenario.expect[2].allowed, 0.02);
  ASSERT_TRUE(scenario.expect[3].relative_to.has_value());
  EXPECT_EQ(scenario.expect[3].relative_to->filename(), "other.json");
  EXPECT_DOUBLE_EQ(scenario.expect[3].allowed, 0);
}

TEST(Scenario, ReportsEveryProblemTogether) {
  const std::string text = problems_in(R"({
    "name": "x", "stpes": 3, "hardware": "small_profil.json", "slowdown": [0],
    "workload": {"model": {"name": "m", "d_model": -1}, "parallel": {"data": 2, "expert": 2},
                 "batch": {"micro_batch": 4, "sequence": "32"}},
    "expect": [
      {"metric": "step_tim", "value": 3, "tolerance": "10 %", "source": "s"},
      {"metric": "step_time", "value": 12.7, "tolerance": "10", "source": "s"},
      {"metric": "overlap", "value": 0.5, "tolerance": "1 ms", "source": "s"},
      {"metric": "speedup", "value": 2, "tolerance": "1 %"}]})");
  for (const char* part : {"stpes", "steps", "small_profil.json", "/slowdown", "/workload/model/d_model",
                           "/workload/batch/sequence", "/expect/0/metric", "step_time", "/expect/1/value",
                           "/expect/1/tolerance", "/expect/2/tolerance", "relative_to", "source"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  }
}

TEST(Scenario, MustFitItsHardware) {
  Result<JsonDocument> document = JsonDocument::read(std::string(MOECAST_SOURCE_DIR) + "/" + kGolden);
  ASSERT_TRUE(document.ok());
  ASSERT_TRUE(document->set("/workload/parallel/data", "8").ok());
  const Result<Scenario> scenario = read_scenario(*document);
  ASSERT_FALSE(scenario.ok());
  EXPECT_EQ(scenario.error().kind, ErrorKind::BadInput);
  EXPECT_NE(scenario.error().text().find("at most the 4 ranks"), std::string::npos) << scenario.error().text();
  EXPECT_NE(scenario.error().text().find("each of the 8 ranks"), std::string::npos) << scenario.error().text();
}

TEST(Scenario, AGivenProfileTakesThePlaceOfHardware) {
  Result<JsonDocument> document = JsonDocument::read(std::string(MOECAST_SOURCE_DIR) + "/" + kGolden);
  ASSERT_TRUE(document.ok());
  ASSERT_TRUE(document->set("/hardware", "no such thing.json").ok());
  HardwareProfile profile = scenario_from(kGolden).hardware;
  profile.name = "given";
  const Result<Scenario> scenario = read_scenario(*document, profile);
  ASSERT_TRUE(scenario.ok()) << scenario.error().text();
  EXPECT_EQ(scenario->hardware.name, "given");
}

TEST(Scenario, WritesItselfSoThatItReadsBack) {
  const Scenario scenario =
      scenario_from(kGolden, {{"/expect", R"([{"metric": "step_time", "value": "2 ms", "tolerance": "10 %",
                                               "source": "a paper"}])"}});
  const std::string text = to_json(scenario).dump();
  const Result<JsonDocument> document = JsonDocument::parse(text, "resolved.json", "/nowhere");
  ASSERT_TRUE(document.ok());
  const Result<Scenario> again = read_scenario(*document);
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(to_json(*again).dump(), text);
  EXPECT_EQ(again->hardware, scenario.hardware);
  EXPECT_EQ(again->workload, scenario.workload);
}

TEST(Simulate, ResolvesOpenSlotsToTheBest) {
  const auto forward_time = [](const std::string& slot) {
    Scenario scenario = scenario_from(kGolden, {{"/slowdown", "[1, 1]"}, {"/workload/schedule/forward_slot", slot}});
    scenario.hardware.interference = {};  // a slot is chosen by operator times alone
    const Result<Timeline> timeline = simulate(scenario);
    EXPECT_TRUE(timeline.ok());
    return metrics_of(*timeline, Scope::Forward).step_time;
  };
  Duration best = Duration::max();
  for (const char* slot : {"1", "2", "3", "4"}) best = std::min(best, forward_time(slot));
  EXPECT_EQ(forward_time("auto"), best);
  EXPECT_LT(best, forward_time("4"));
}

TEST(Simulate, SaysWhatDoesNotFit) {
  const Result<Timeline> timeline = simulate(scenario_from(kGolden, {{"/workload/schedule/forward_slot", "9"}}));
  ASSERT_FALSE(timeline.ok());
  EXPECT_EQ(timeline.error().kind, ErrorKind::BadInput);
}

TEST(MetricsOf, AScopeCountsItsOperatorsAlone) {
  const Result<Timeline> timeline = simulate(scenario_from(kGolden, {{"/slowdown", "[1, 1]"}, {"/steps", "1"}}));
  ASSERT_TRUE(timeline.ok());
  Instant forward_end{}, backward_start = Instant::max(), blocks_end{};
  for (const Span& span : timeline->spans) {
    const Operator& op = timeline->plan.operators[span.op.index()];
    if (op.phase == Phase::Forward) forward_end = std::max(forward_end, span.end);
    if (op.phase == Phase::Forward && op.layer) blocks_end = std::max(blocks_end, span.end);
    if (op.phase == Phase::Backward) backward_start = std::min(backward_start, span.start);
  }
  EXPECT_EQ(metrics_of(*timeline, Scope::Forward).step_time, forward_end - Instant{});
  EXPECT_EQ(backward_start, forward_end);
  const Duration embed = timeline->spans[0].duration();
  EXPECT_EQ(metrics_of(*timeline, Scope::ForwardBlocks).step_time, blocks_end - Instant{} - embed);
  EXPECT_EQ(metrics_of(*timeline, Scope::Step).compute, step_metrics(*timeline).compute);
}

}  // namespace
}  // namespace moecast
