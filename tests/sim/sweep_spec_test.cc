#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/sweep/sweep_range.h"
#include "tests/sim/sweep_testing.h"

namespace moecast {
namespace {

using namespace testing_sweep;
using Json = nlohmann::ordered_json;

const char* const kObjective = R"("objective": {"metric": "goodput", "goal": "max"})";

std::string axes(const std::string& list) { return "\"axes\": " + list + ", " + kObjective; }

TEST(SweepRange, LinearValuesEndWhereTheyShould) {
  EXPECT_EQ(linear_values(1, 3, 1)->dump(), "[1,2,3]");
  EXPECT_EQ(linear_values(0.1, 0.5, 0.1)->dump(), "[0.1,0.2,0.3,0.4,0.5]");
  EXPECT_EQ(linear_values(10, 1, -4)->dump(), "[10,6,2]");
  EXPECT_EQ(linear_values("1 GB/s", "3 GB/s", "500 MB/s")->dump(),
            R"(["1 GB/s","1.5 GB/s","2 GB/s","2.5 GB/s","3 GB/s"])");
}

TEST(SweepRange, LogarithmicValuesAreEvenlyApartAndExactAtTheEnds) {
  EXPECT_EQ(logarithmic_values(1, 1000, 4)->dump(), "[1,10,100,1000]");
  EXPECT_EQ(logarithmic_values("100 MB/s", "10 GB/s", 3)->dump(), R"(["100 MB/s","1000 MB/s","10000 MB/s"])");
  EXPECT_EQ(logarithmic_values(1, 4, 9)->dump(), "[1,2,3,4]");  // each integer once
  EXPECT_EQ(logarithmic_values(0.5, 2.0, 3)->dump(), "[0.5,1.0,2.0]");
}

TEST(SweepRange, RefusesWhatLeadsNowhere) {
  EXPECT_FALSE(linear_values(1, 3, 0).ok());
  EXPECT_FALSE(linear_values(1, 3, -1).ok());
  EXPECT_FALSE(linear_values("1 GB/s", "3 s", "1 s").ok());
  EXPECT_FALSE(linear_values(0, 1e9, 1).ok());
  EXPECT_FALSE(logarithmic_values(0, 3, 4).ok());
}

TEST(SweepSpec, ReadsAxesOfEveryKind) {
  const SweepSpec spec = good_sweep(axes(R"([
    {"pointer": "/campaign/policy/interval", "log_range": {"from": 10, "to": 1000, "count": 3}},
    {"zip": [{"pointer": "/campaign/checkpoint/snapshot_rate", "values": ["1 GB/s", "2 GB/s"]},
             {"pointer": "/campaign/checkpoint/persist_rate", "values": ["500 MB/s", "1 GB/s"], "name": "disk"},
             {"pointer": "/campaign/cluster/price_per_gpu_hour", "values": [2, 2]}]}])"));
  ASSERT_EQ(spec.axes.size(), 2U);
  EXPECT_EQ(spec.axes[0].tracks[0].labels, (std::vector<std::string>{"10", "100", "1000"}));
  EXPECT_EQ(spec.axes[1].tracks[1].name, "disk");
  EXPECT_EQ(spec.axes[1].tracks[0].numbers, (std::vector<double>{1e9, 2e9}));
  EXPECT_EQ(spec.axes[1].tracks[2].labels, (std::vector<std::string>{"2", "2"}));
  EXPECT_EQ(points_of(spec).size(), 6U);
}

TEST(SweepSpec, AnUnknownNameIsAnErrorAtItsAxisWithTheNearestKey) {
  const SweepSpec spec = good_sweep(axes(R"([{"pointer": "/campaign/policy/intervall", "values": [1, 2]}])"));
  const Status status = check_points(spec, points_of(spec), 2);
  ASSERT_FALSE(status.ok());
  ASSERT_EQ(status.error().problems.size(), 2U) << status.error().text();  // one for each value
  const Problem& problem = status.error().problems.front();
  EXPECT_EQ(problem.pointer, "/campaign/policy/intervall");
  EXPECT_EQ(problem.suggestion, "interval");
  EXPECT_EQ(problem.file, "sweep.json");
  EXPECT_GT(problem.line, 1) << "the line of the axis";
}

TEST(SweepSpec, AWrongValueOfARangeIsAnErrorAtTheRange) {
  const SweepSpec spec = good_sweep(
      axes("[{\"pointer\": \"/campaign/policy/interval\",\n \"range\": {\"from\": -1, \"to\": 1, \"step\": 1}}]"));
  const Status status = check_points(spec, points_of(spec), 1);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().text().find("expected an integer in 1.."), std::string::npos) << status.error().text();
  const JsonPlace range = spec.document.place("/axes/0/range");
  EXPECT_EQ(status.error().problems.front().line, range.line);
  EXPECT_EQ(status.error().problems.front().column, range.column);
}

TEST(SweepSpec, ReportsEveryProblemTogether) {
  const std::string text = error_of(parse_sweep(R"("axes": [{"pointer": "campaign", "values": []},
      {"pointer": "/a", "range": {"from": 1, "to": 2}}, {"pointer": "/b", "values": [1, 1]}],
      "objective": {"metric": "goodputt", "goal": "more"}, "constraints": [{"metric": "plt"}], "replicass": 3)"));
  for (const char* part :
       {"a JSON pointer such as", "a list with at least one value", "the key \"step\"", "every value once",
        "did you mean goodput?", "one of max, min", "one of \"at_most\" and \"at_least\"", "did you mean replicas?"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(SweepSpec, LimitsCarryUnits) {
  const SweepSpec spec = good_sweep(axes(R"([{"pointer": "/campaign/policy/interval", "values": [10]}])") +
                                    R"(, "constraints": [{"metric": "plt", "at_most": "3.75 %"},
                                        {"metric": "host_memory", "at_most": "512 GiB"},
                                        {"metric": "wall_time", "at_most": "2 d"}])");
  EXPECT_DOUBLE_EQ(spec.constraints[0].limit, 0.0375);
  EXPECT_DOUBLE_EQ(spec.constraints[1].limit, 512.0 * 1073741824);
  EXPECT_DOUBLE_EQ(spec.constraints[2].limit, 48);
}

TEST(SweepSpec, AnAxisMayGoIntoAProfileThatTheBaseNames) {
  const std::string base =
      R"({"name": "x", "campaign": {"cluster": {"gpus": 64}, "training": {"horizon": "1 d", "step": "5 s"},
                               "reliability": "llama3_h100", "policy": {"kind": "none"}}})";
  const auto read = [&](const std::string& pointer) {
    Result<JsonDocument> document = JsonDocument::parse(
        R"({"name": "s", "base": )" + base + R"(, "axes": [{"pointer": ")" + pointer +
            R"(", "values": ["10 s", "10 min"]}], "objective": {"metric": "goodput", "goal": "max"}})",
        "sweep.json");
    return read_sweep(std::move(document).value());
  };
  const Result<SweepSpec> spec = read("/campaign/reliability/recovery/process_start");
  ASSERT_TRUE(spec.ok()) << error_of(spec);
  EXPECT_TRUE(check_points(*spec, points_of(*spec), 1).ok());
  EXPECT_NE(error_of(read("/campaign/policy/kind/x")).find("a place in the base"), std::string::npos);
}

TEST(SweepPoints, ConditionsDropPointsAndAxes) {
  const SweepSpec spec = good_sweep(axes(R"([
      {"pointer": "/campaign/policy", "values": [{"kind": "none"},
          {"kind": "pec_two_level", "interval": 10, "snapshot_experts": 8, "persist_experts": 1}]},
      {"pointer": "/campaign/policy/snapshot_experts", "values": [4, 8],
       "when": {"pointer": "/campaign/policy/kind", "is": ["pec", "pec_two_level"]}},
      {"pointer": "/campaign/policy/persist_experts", "values": [1, 4, 8],
       "when": {"pointer": "/campaign/policy/kind", "is": "pec_two_level"}}])") +
                                    R"(, "where": [{"pointer": "/campaign/cluster/gpus", "at_least": 64}])");
  const std::vector<SweepPoint> points = points_of(spec);
  EXPECT_EQ(points.size(), 1U + 2 * 3);
  EXPECT_FALSE(points[0][1].has_value());
  EXPECT_EQ(point_text(spec, points[0]), "policy none");
  EXPECT_EQ(point_text(spec, points[6]), "policy pec_two_level, snapshot_experts 8, persist_experts 8");
}

TEST(SweepPoints, ComparesTwoPlacesOfAScenario) {
  const SweepSpec spec = good_sweep(axes(R"([
      {"pointer": "/campaign/policy/snapshot_experts", "values": [1, 4]},
      {"pointer": "/campaign/policy/persist_experts", "values": [1, 4]}])") +
                                    R"(, "where": {"pointer": "/campaign/policy/persist_experts",
                                        "at_most": {"pointer": "/campaign/policy/snapshot_experts"}})");
  EXPECT_EQ(points_of(spec).size(), 3U);
}

TEST(SweepPoints, AnEmptySpaceIsAnError) {
  const SweepSpec spec = good_sweep(axes(R"([{"pointer": "/campaign/policy/interval", "values": [1]}])") +
                                    R"(, "where": {"pointer": "/campaign/nothing", "is": 1})");
  const auto points = sweep_points(spec);
  ASSERT_FALSE(points.ok());
  EXPECT_EQ(points.error().kind, ErrorKind::BadInput);
}

TEST(SweepSpec, TheHashFollowsWhatResultsDependOn) {
  const SweepSpec a = small_sweep(), b = small_sweep();
  EXPECT_EQ(sweep_hash(a, points_of(a), "v1"), sweep_hash(b, points_of(b), "v1"));
  EXPECT_NE(sweep_hash(a, points_of(a), "v1"), sweep_hash(a, points_of(a), "v2"));
  const SweepSpec other = good_sweep(axes(R"([{"pointer": "/campaign/policy/interval", "values": [10, 20]}])"));
  EXPECT_NE(sweep_hash(a, points_of(a), "v1"), sweep_hash(other, points_of(other), "v1"));
}

}  // namespace
}  // namespace moecast
