#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/file.h"
#include "tests/tools/program_testing.h"

// `moecast simulate` of clusters as a user sees it.

namespace moecast {
namespace {

using testing_program::Outcome;
using testing_program::run_moecast;
using testing_program::source_folder;
using testing_program::TestFolder;

std::string clusters(const std::string& file) { return (source_folder() / "experiments/clusters" / file).string(); }

Outcome simulate(std::vector<std::string> words) {
  words.insert(words.begin(), "simulate");
  return run_moecast(words);
}

/// Exit code 2, nothing on stdout, and all of these in the message.
void expect_refusal(const Outcome& outcome, const std::vector<std::string>& messages) {
  EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  for (const std::string& message : messages) {
    EXPECT_NE(outcome.err.find(message), std::string::npos) << message << " is not in\n" << outcome.err;
  }
}

TEST(SimulateCluster, ExplainsAStep) {
  const Outcome outcome = simulate({clusters("nvlink_cluster_skewed.json"), "--explain", "--timing"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"routing", "zipf 0.8", "critical path", "Expert forward", "late ranks", "what would help",
                           "even load of experts", "ms of CPU time"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " is not in\n" << outcome.out;
  }
}

TEST(SimulateCluster, ExplainsAStepToPrograms) {
  const Outcome outcome = simulate({clusters("pcie_box.json"), "--explain", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json result = nlohmann::json::parse(outcome.out);
  std::int64_t total = 0;
  for (const auto& step : result.at("explanation").at("critical_path")) total += step.at("time_ns").get<std::int64_t>();
  EXPECT_EQ(total, result.at("step_metrics").at("step_time_ns").get<std::int64_t>());
  EXPECT_FALSE(result.at("explanation").at("what_helps").empty());
}

TEST(SimulateCluster, TheSeedDrawsTheLoad) {
  const auto step = [](const std::string& seed) {
    const Outcome outcome = simulate({clusters("nvlink_cluster_skewed.json"), "--set", "/seed=" + seed, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out).at("step_metrics").at("step_time_ns").get<std::int64_t>();
  };
  EXPECT_EQ(step("5"), step("5"));
  EXPECT_NE(step("5"), step("6"));
}

TEST(SimulateCluster, FoldedOrNotTheAnswerIsTheSame) {
  const auto step = [](std::vector<std::string> more) {
    more.insert(more.begin(), {clusters("nvlink_cluster_slow_nic.json"), "--json"});
    const Outcome outcome = simulate(more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const nlohmann::json folded = step({}), unfolded = step({"--no-fold"});
  for (const char* part : {"step_metrics", "attribution", "bound_metrics"}) {
    for (const auto& [key, value] : folded.at(part).items()) {
      EXPECT_NEAR(value.get<double>(), unfolded.at(part).at(key).get<double>(), 100) << part << " " << key;
    }
  }
}

TEST(SimulateCluster, SearchesForTheBestNumberOfChunks) {
  const Outcome outcome = simulate(
      {clusters("pcie_box.json"), "--set", "/workload/schedule/kind=\"pipelined\"", "--search-chunks", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json result = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(result.at("chunk_search").size(), 5U);
  std::int64_t best = 0, time = std::numeric_limits<std::int64_t>::max();
  for (const auto& trial : result.at("chunk_search")) {
    if (trial.at("step_time_ns") >= time) continue;
    best = trial.at("chunks");
    time = trial.at("step_time_ns");
  }
  EXPECT_EQ(result.at("schedule").at("chunks"), best);
  EXPECT_GT(best, 1);  // experts hide part of the exchanges
  EXPECT_EQ(result.at("step_metrics").at("step_time_ns"), time);
}

TEST(SimulateCluster, PrintsTheWindowOfAShortcut) {
  const Outcome outcome = simulate({clusters("pcie_box_scmoe.json")});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"shortcut, experts in slot", "window", "of compute for", "at least"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " is not in\n" << outcome.out;
  }
}

TEST(SimulateCluster, RefusesALayoutThatDoesNotFit) {
  expect_refusal(simulate({clusters("nvlink_cluster.json"), "--set", "/workload/parallel/data=128"}),
                 {"at most the 64 ranks of h100_cluster", "128"});
  expect_refusal(simulate({clusters("nvlink_cluster.json"), "--set", "/ranks=96"}),
                 {"degrees that multiply to 96 ranks; data 96 would fit", "data 64 x context 1"});
  expect_refusal(simulate({clusters("nvlink_cluster.json"), "--set", "/workload/parallel/expert=48"}),
                 {"not divisible by expert degree 48"});
}

TEST(SimulateCluster, RefusesTopologiesThatAreNoGraph) {
  const TestFolder folder;
  folder.file("broken.json", fmt::format(R"({{
    "extends": "{}", "name": "broken",
    "sources": {{"/cluster/links/spare": {{"kind": "assumed", "reference": "a test"}}}},
    "cluster": {{
      "links": {{"spare": {{"kind": "network", "bandwidth": "1 GB/s", "latency": "1 us"}}}},
      "parts": {{"leaf": {{"joins": "spine"}}, "spine": {{"link": "fibre"}}, "nvswitch": {{"joins": "gpus"}}}} }} }})",
                                         (source_folder() / "hwprofiles/h100_cluster.json").string()));
  const std::string scenario =
      folder
          .file("scenario.json",
                fmt::format(R"({{"extends": "{}", "hardware": "broken.json"}})", clusters("nvlink_cluster.json")))
          .string();
  const Outcome outcome = simulate({scenario});
  expect_refusal(outcome, {"/parts/leaf/joins", "stands earlier", "/parts/spine/link", "\"links\"", "fibre",
                           "/parts/nvswitch/joins", "spare"});
  EXPECT_EQ(outcome.err.find("/nodes"), std::string::npos) << outcome.err;  // nothing is said twice
}

TEST(SimulateCluster, RefusesKeysThatNeedMore) {
  expect_refusal(simulate({clusters("pcie_box.json"), "--set", "/hardware=\"a30_pcie_8\"", "--set", "/nodes=2"}),
                 {"a hardware profile with a cluster"});
  expect_refusal(simulate({clusters("nvlink_cluster_slow_nic.json"), "--set", "/degraded/0/part=\"leav\""}),
                 {"a part of the cluster", "leav", "leaf"});
  expect_refusal(simulate({clusters("nvlink_cluster.json"), "--set", "/routing={\"load\": \"ziph\"}"}),
                 {"/routing/load", "zipf"});
  expect_refusal(simulate({(source_folder() / "experiments/campaign/rsc1_16k.json").string(), "--explain"}),
                 {"--explain"});
}

}  // namespace
}  // namespace moecast
