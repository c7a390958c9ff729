#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/program_testing.h"

namespace moecast {
namespace {

using testing_program::Outcome;
using testing_program::run_moecast;
using testing_program::TestFolder;

/// ai-dynamo/aiconfigurator (Apache-2.0), products of bf16 on an H200.
constexpr const char* kProducts =
    "device,m,n,k,latency_ms\n"
    "NVIDIA H200,113,768,6144,0.00964356\n"
    "NVIDIA H200,1281,65536,5120,1.25233\n"
    "NVIDIA H200,2561,1536,3584,0.0496924\n"
    "NVIDIA H200,3585,16384,7168,1.33249\n";

class ValidateTable : public testing::Test {
 protected:
  [[nodiscard]] Outcome run(std::vector<std::string> more) const {
    more.insert(more.begin(), {"validate", "products.csv"});
    return run_moecast(more, folder_.path());
  }
  TestFolder folder_;
};

TEST_F(ValidateTable, JudgesTheRowsKeptApart) {
  folder_.file("products.csv", kProducts);
  const Outcome outcome = run({"--profile", "h200_nvlink_8", "--tolerance", "30 %", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto result = nlohmann::json::parse(outcome.out);
  EXPECT_TRUE(result.at("pass").get<bool>());
  EXPECT_EQ(result.at("errors")[2].at("count"), 2);
  const Outcome strict = run({"--profile", "h200_nvlink_8", "--tolerance", "0.01 %"});
  EXPECT_EQ(strict.exit_code, 1);
  EXPECT_NE(strict.err.find("rows kept apart"), std::string::npos) << strict.err;
}

TEST_F(ValidateTable, RefusesWhatItCannotJudge) {
  EXPECT_EQ(run({"--profile", "h200_nvlink_8"}).exit_code, 2);  // no such file
  folder_.file("products.csv", kProducts);
  EXPECT_NE(run({}).err.find("--profile"), std::string::npos);
  EXPECT_EQ(run({"--profile", "h200_nvlink_8", "--device", "NVIDIA A30"}).exit_code, 2);
  EXPECT_EQ(run({"products.csv", "--profile", "h200_nvlink_8"}).exit_code, 2);
  folder_.file("products.csv", "device,m,n,k,latency_ms\nNVIDIA H200,0,768,6144,1\nNVIDIA H200,1,x,6144,1\n");
  const Outcome bad = run({"--profile", "h200_nvlink_8"});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_NE(bad.err.find("products.csv:2"), std::string::npos) << bad.err;
  EXPECT_NE(bad.err.find("products.csv:3"), std::string::npos) << bad.err;
}

TEST_F(ValidateTable, CalibrateFitsAProfileToATable) {
  folder_.file("products.csv", kProducts);
  const Outcome fitted = run_moecast(
      {"calibrate", "--import", "products.csv", "--profile", "h200_nvlink_8", "-o", "fitted.json"}, folder_.path());
  ASSERT_EQ(fitted.exit_code, 0) << fitted.err;
  const Outcome judged = run({"--profile", "fitted.json", "--tolerance", "100 %", "--json"});
  ASSERT_EQ(judged.exit_code, 0) << judged.err;
  EXPECT_LT(nlohmann::json::parse(judged.out).at("errors")[1].at("median_error").get<double>(), 0.01);
  EXPECT_EQ(run_moecast({"calibrate", "--import", "products.csv", "products.csv", "--profile", "h200_nvlink_8", "-o",
                         "other.json"},
                        folder_.path())
                .exit_code,
            2);
}

}  // namespace
}  // namespace moecast
