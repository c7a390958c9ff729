#include "sim/reproduce.h"

#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"

namespace moecast {
namespace {

namespace fs = std::filesystem;

/// A folder of scenarios of its own, removed afterwards. Scenarios extend a golden one, whose step takes 1766328 ns.
class ReproduceTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::path(MOECAST_BINARY_DIR) / "reproduce" / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& file, const std::string& rest) const {
    const std::string golden = std::string(MOECAST_SOURCE_DIR) + "/tests/sim/golden/pipelined_groups.json";
    fs::create_directories((folder_ / file).parent_path());
    const std::string text = fmt::format(R"({{"extends": "{}", "steps": 1 {}}})", golden, rest);
    ASSERT_TRUE(write_file_atomically(folder_ / file, text).ok());
  }
  static std::string expecting(const std::string& rows) { return fmt::format(R"(, "expect": [{}])", rows); }

  fs::path folder_;
};

constexpr const char* kExact = R"({"metric": "step_time", "value": "1766328 ns", "tolerance": "0 %", "source": "s"})";
constexpr const char* kOff = R"({"metric": "step_time", "value": "2 ms", "tolerance": "10 %", "source": "s"})";

TEST_F(ReproduceTest, JudgesEveryValue) {
  write("b.json", expecting(std::string(kExact) + "," + kOff));
  write("a/z.json", expecting(R"({"metric": "step_time", "value": "2 ms", "tolerance": "0.25 ms", "source": "s"})"));
  write("no_expectation.json", "");
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->values.size(), 3U);
  EXPECT_EQ(result->values[0].file, "a/z.json");
  EXPECT_EQ(result->values[0].judgement, Judgement::Pass);
  EXPECT_EQ(result->values[1].file, "b.json");
  EXPECT_EQ(result->values[1].judgement, Judgement::Pass);
  EXPECT_EQ(result->values[1].deviation, 0);
  EXPECT_EQ(result->values[2].judgement, Judgement::Fail);
  EXPECT_NEAR(result->values[2].ours, 1766328e-9, 1e-15);
  EXPECT_NEAR(result->values[2].deviation, -0.116836, 1e-9);
  EXPECT_EQ(result->count(Judgement::Fail), 1U);
  EXPECT_NE(to_table(*result).find("FAIL"), std::string::npos);
  EXPECT_EQ(to_json(*result)["values"][2]["ours"], "1766328 ns");
}

TEST_F(ReproduceTest, ComparesScenarios) {
  write("fast.json",
        expecting(R"({"metric": "speedup", "relative_to": "other/slow.json", "value": 2, "tolerance": "1 %",
                                   "source": "s"})"));
  write("other/slow.json", R"(, "slowdown": [2, 2, 2, 2])");
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->values.size(), 1U);
  EXPECT_GT(result->values[0].ours, 1.1);
  EXPECT_LT(result->values[0].ours, 1.9);
}

TEST_F(ReproduceTest, KnowsDeviationsThatAFileOwnsUpTo) {
  const auto row = [](const std::string& known) {
    return fmt::format(R"({{"metric": "step_time", "value": "2 ms", "tolerance": "10 %", "source": "s",
                           "known_deviation": "{}", "note": "the clock was slow"}})",
                       known);
  };
  write("a.json", expecting(row("-11.7 %") + "," + row("-12.5 %") + "," + row("+11.7 %")));
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->values.size(), 3U);
  EXPECT_EQ(result->values[0].judgement, Judgement::Known);  // ours deviates by -11.68 %
  EXPECT_EQ(result->values[1].judgement, Judgement::Fail);   // the file is out of date
  EXPECT_EQ(result->values[2].judgement, Judgement::Fail);
  EXPECT_NE(to_table(*result).find("the clock was slow"), std::string::npos);
  EXPECT_EQ(to_json(*result)["values"][0]["pass"], false);
  EXPECT_EQ(to_json(*result)["values"][0]["known"], true);
}

TEST_F(ReproduceTest, RefusesAKnownDeviationWithoutAReason) {
  write("a.json", expecting(R"({"metric": "step_time", "value": "2 ms", "tolerance": "10 %", "source": "s",
                                "known_deviation": "much"})"));
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().text().find("/expect/0/known_deviation"), std::string::npos) << result.error().text();
  EXPECT_NE(result.error().text().find("/expect/0/note"), std::string::npos) << result.error().text();
}

TEST_F(ReproduceTest, AddsWhatRunsBesideBothSidesOfASpeedup) {
  write("slow.json", R"(, "slowdown": [2, 2, 2, 2])");
  write("stem.json", "");
  const auto row = [](const std::string& rest) {
    return fmt::format(R"({{"metric": "speedup", "relative_to": "slow.json", "value": 1, "tolerance": "1 %",
                           "source": "s" {}}})",
                       rest);
  };
  write("fast.json",
        expecting(row("") + "," + row(R"(, "times": 3, "beside": [{"scenario": "stem.json", "times": 2}])")));
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->values.size(), 2U);
  const double ratio = result->values[0].ours;  // "fast" and "stem" are alike
  EXPECT_NEAR(result->values[1].ours, (3 * ratio + 2) / 5, 1e-12);
}

TEST_F(ReproduceTest, ShowsOperatorTimes) {
  write("a.json", expecting(kExact));
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->scenarios.size(), 1U);
  Duration compute_and_more{};
  for (const OperatorMetrics& each : result->scenarios[0].operators) compute_and_more += each.total_per_step;
  EXPECT_GT(compute_and_more, Duration(1766328));
  EXPECT_NE(operators_table(*result).find("Dispatch"), std::string::npos);
}

TEST_F(ReproduceTest, JudgesCampaignsBesideSteps) {
  write("a_step.json", expecting(kExact));
  const std::string campaign = R"({"name": "short", "campaign": {
      "cluster": {"gpus": 8}, "training": {"steps": 100, "step": "1 s"},
      "checkpoint": {"rank_bytes": {"non_expert": "1 GB"}, "total_bytes": {"non_expert": "8 GB"},
                     "snapshot_rate": "1 GB/s", "persist_rate": "1 GB/s", "load_rate": "1 GB/s"},
      "reliability": {"name": "none", "sources": {"": {"kind": "assumed", "reference": "a test"}}, "modes": {}, "recovery": {"detection": "1 s", "repair": "1 h", "process_start": "1 s"}},
      "policy": {"kind": "blocking_full", "interval": 10}, "replicas": 2,
      "expect": [{"metric": "goodput", "value": 1, "bound": "at_most", "source": "s"},
                 {"metric": "goodput", "value": 2, "tolerance": "1 %", "source": "s"}]}})";
  ASSERT_TRUE(write_file_atomically(folder_ / "b_campaign.json", campaign).ok());
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_TRUE(result.ok()) << result.error().text();
  ASSERT_EQ(result->values.size(), 3U);
  EXPECT_EQ(result->values[1].file, "b_campaign.json");
  EXPECT_EQ(result->values[1].judgement, Judgement::Pass);
  EXPECT_EQ(result->values[2].judgement, Judgement::Fail);
  EXPECT_EQ(result->values[1].ours, result->values[2].ours);
  EXPECT_LT(result->values[1].ours, 1);
  EXPECT_EQ(to_json(*result)["values"][1]["bound"], "at_most");
  EXPECT_NE(to_table(*result).find("at most"), std::string::npos);
}

TEST_F(ReproduceTest, ThreadsChangeNothing) {
  for (int i = 0; i < 12; ++i) {
    write(fmt::format("{}.json", i),
          fmt::format(R"(, "slowdown": [1, 1.{0}, 1, 1])", i) +
              expecting(std::string(kOff) +
                        R"(, {"metric": "speedup", "relative_to": "3.json", "value": 1, "tolerance": "5 %",
                              "source": "s"})"));
  }
  const Result<Reproduction> one = reproduce(folder_, 1);
  const Result<Reproduction> four = reproduce(folder_, 4);
  ASSERT_TRUE(one.ok() && four.ok());
  EXPECT_EQ(to_table(*one), to_table(*four));
  EXPECT_EQ(to_json(*one).dump(), to_json(*four).dump());
}

TEST_F(ReproduceTest, TakesOneFileToo) {
  write("only.json", expecting(kExact));
  write("other.json", expecting(kOff));
  const Result<Reproduction> result = reproduce(folder_ / "only.json");
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_EQ(result->values.size(), 1U);
  EXPECT_EQ(result->count(Judgement::Fail), 0U);
}

TEST_F(ReproduceTest, ReportsTheProblemsOfAllFiles) {
  write("a.json", R"(, "stpes": 1)" + expecting(kExact));
  write("b.json", expecting(R"({"metric": "speedup", "relative_to": "none.json", "value": 2, "tolerance": "1 %",
                                "source": "s"})"));
  ASSERT_TRUE(write_file_atomically(folder_ / "c.json", "{").ok());
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::BadInput);
  for (const char* part : {"a.json", "stpes", "none.json", "c.json"}) {
    EXPECT_NE(result.error().text().find(part), std::string::npos) << part << " in\n" << result.error().text();
  }
}

TEST_F(ReproduceTest, ReportsWhatCannotBePlanned) {
  write("a.json", R"(, "workload": {"schedule": {"chunks": 1000}})" + expecting(kExact));
  const Result<Reproduction> result = reproduce(folder_);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().text().find("a.json"), std::string::npos) << result.error().text();
}

TEST_F(ReproduceTest, NeedsAnExpectation) {
  write("a.json", "");
  EXPECT_FALSE(reproduce(folder_).ok());
  EXPECT_FALSE(reproduce(folder_ / "nowhere").ok());
}

}  // namespace
}  // namespace moecast
