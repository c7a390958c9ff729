#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/tools/program_testing.h"

namespace moecast {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;
using testing_program::Outcome;
using testing_program::run_moecast;
using testing_program::TestFolder;

const char* const kBase = R"({"name": "small", "campaign": {
  "cluster": {"gpus": 64, "price_per_gpu_hour": 2, "spares": {"kind": "hot", "count": 4}},
  "training": {"horizon": "2 d", "step": "5 s", "forward_backward": "4 s"},
  "experts": {"per_layer": 16, "layers": 4, "expert_parallel": 8},
  "checkpoint": {"rank_bytes": {"non_expert": "500 MB", "expert": "4 GB"},
                 "total_bytes": {"non_expert": "20 GB", "expert": "250 GB"},
                 "snapshot_rate": "1 GB/s", "persist_rate": "500 MB/s"},
  "reliability": "llama3_h100",
  "policy": {"kind": "pec_two_level", "interval": 50, "snapshot_experts": 16, "persist_experts": 4}}})";

std::string sweep_text(const std::string& more = "") {
  return R"({"name": "a sweep", "base": "base.json",
  "axes": [{"pointer": "/campaign/policy/interval", "values": [20, 60, 200]},
           {"pointer": "/campaign/checkpoint/persist_rate", "values": ["500 MB/s", "1 GB/s"]}],
  "replicas": 4, "objective": {"metric": "goodput", "goal": "max"})" +
         more + "}";
}

std::string content(const fs::path& path) {
  const Result<std::string> text = read_file(path);
  return text.ok() ? *text : "nothing: " + text.error().text();
}

void write_sweep(const TestFolder& folder, const std::string& more = "") {
  static_cast<void>(folder.file("base.json", kBase));
  static_cast<void>(folder.file("sweep.json", sweep_text(more)));
}

TEST(SweepCommand, WritesRowsASummaryAndTheBestScenario) {
  const TestFolder folder;
  write_sweep(folder, R"(, "constraints": [{"metric": "plt", "at_most": "50 %"}])");
  const Outcome outcome = run_moecast({"sweep", "sweep.json", "-o", "out", "--json"}, folder.path());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json summary = Json::parse(content(folder.path() / "out/summary.json"));
  EXPECT_EQ(summary, Json::parse(outcome.out));
  EXPECT_EQ(summary.at("evaluated_count"), 6);
  EXPECT_FALSE(fs::exists(folder.path() / "out/journal"));

  std::istringstream csv(content(folder.path() / "out/results.csv"));
  std::string line;
  std::getline(csv, line);
  EXPECT_TRUE(line.starts_with("point,interval,persist_rate_bytes_per_second,replicas,feasible,problem,goodput,"))
      << line;
  int rows = 0;
  while (std::getline(csv, line)) EXPECT_TRUE(line.starts_with(std::to_string(rows++) + ","));
  EXPECT_EQ(rows, 6);

  // The best point's scenario gives the row again.
  const Outcome shown =
      run_moecast({"sweep", "sweep.json", "--show", summary.at("best").at("point").dump()}, folder.path());
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(shown.out, content(folder.path() / "out/scenario.json"));
  const Json scenario = Json::parse(shown.out);
  EXPECT_EQ(scenario.at("campaign").at("policy").at("interval"), summary.at("best").at("interval"));
  EXPECT_EQ(scenario.at("campaign").at("replicas"), 4);
}

TEST(SweepCommand, GivesTheSameBytesForAnyNumberOfThreads) {
  const TestFolder folder;
  write_sweep(folder);
  ASSERT_EQ(run_moecast({"sweep", "sweep.json", "-o", "a", "-j", "1"}, folder.path()).exit_code, 0);
  ASSERT_EQ(run_moecast({"sweep", "sweep.json", "-o", "b", "-j", "7"}, folder.path()).exit_code, 0);
  for (const char* name : {"results.csv", "results.jsonl", "summary.json", "sweep.json", "scenario.json"}) {
    EXPECT_EQ(content(folder.path() / "a" / name), content(folder.path() / "b" / name)) << name;
  }
}

TEST(SweepCommand, KeepsWhatIsThere) {
  const TestFolder folder;
  write_sweep(folder);
  ASSERT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path()).exit_code, 0);
  const Outcome again = run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path());
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_EQ(again.err, "moecast: out: exists; --force replaces it\n");
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out", "--force"}, folder.path()).exit_code, 0);
  static_cast<void>(folder.file("out/diary.txt", "dear diary"));
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out", "--force"}, folder.path()).exit_code, 2);
  EXPECT_EQ(content(folder.path() / "out/diary.txt"), "dear diary");
}

TEST(SweepCommand, MistakesAreReportedBeforeAnythingIsWritten) {
  const TestFolder folder;
  static_cast<void>(folder.file("base.json", kBase));
  const auto error = [&](std::string from, const std::string& to) {
    std::string text = sweep_text();
    text.replace(text.find(from), from.size(), to);
    static_cast<void>(folder.file("sweep.json", text));
    const Outcome outcome = run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path());
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_FALSE(fs::exists(folder.path() / "out"));
    return outcome.err;
  };
  EXPECT_NE(error("policy/interval", "policy/intervall").find("sweep.json:2:"), std::string::npos);
  EXPECT_NE(error("policy/interval", "policy/intervall").find("did you mean interval?"), std::string::npos);
  EXPECT_NE(error("/campaign/policy/interval", "/campagn/policy/interval").find("sweep.json:2:"), std::string::npos);
  EXPECT_NE(error("\"metric\": \"goodput\"", "\"metric\": \"godput\"").find("did you mean goodput?"),
            std::string::npos);
  EXPECT_NE(error("[20, 60, 200]", "[]").find("at least one value"), std::string::npos);
  EXPECT_NE(error("[20, 60, 200]", "[0]").find("expected an integer in 1.."), std::string::npos);
  EXPECT_NE(error("base.json", "none.json").find("none.json"), std::string::npos);
  EXPECT_NE(
      error("\"replicas\": 4", "\"replicas\": 4, \"where\": {\"pointer\": \"/x\", \"is\": 1}").find("no point is left"),
      std::string::npos);
  write_sweep(folder);
  const Outcome file = run_moecast({"sweep", "sweep.json", "-o", "base.json"}, folder.path());
  EXPECT_EQ(file.exit_code, 2);
  EXPECT_NE(file.err.find("expected a folder, found a file"), std::string::npos);
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "--show", "6"}, folder.path()).exit_code, 2);
}

TEST(SweepCommand, AnotherSweepsJournalIsRefused) {
  const TestFolder folder;
  write_sweep(folder);
  ASSERT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path()).exit_code, 0);
  static_cast<void>(folder.file("out/journal", "b8e5ca9d moecast-sweep-journal 1 0000000000000000 28\n"));
  const Outcome outcome = run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path());
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("journal"), std::string::npos) << outcome.err;
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out", "--force"}, folder.path()).exit_code, 0);
}

TEST(SweepCommand, DryRunPrintsPointsAndRunsNone) {
  const TestFolder folder;
  write_sweep(folder);
  const Outcome outcome = run_moecast({"sweep", "sweep.json", "--dry-run", "-o", "out"}, folder.path());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("interval 60, persist_rate 1 GB/s"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("6 points of 4 replicas"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder.path() / "out"));
}

TEST(SweepCommand, InterruptedItSaysHowToGoOnAndThenDoes) {
  const TestFolder folder;
  static_cast<void>(folder.file("base.json", kBase));
  static_cast<void>(folder.file("sweep.json", R"({"name": "long", "base": "base.json",
    "axes": [{"pointer": "/campaign/policy/interval", "range": {"from": 1, "to": 600, "step": 1}}],
    "replicas": 40, "objective": {"metric": "goodput", "goal": "max"}})"));
  const pid_t child = ::fork();
  if (child == 0) {
    if (::chdir(folder.path().c_str()) != 0 || std::freopen("err", "w", stderr) == nullptr) ::_exit(9);
    ::execl(MOECAST_BINARY_DIR "/tools/moecast", "moecast", "sweep", "sweep.json", "-o", "out", "-j", "1", nullptr);
    ::_exit(9);
  }
  const fs::path journal = folder.path() / "out/journal";
  for (int i = 0; i < 3000 && (!fs::exists(journal) || fs::file_size(journal) < 3000); ++i) ::usleep(10'000);
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 130) << content(folder.path() / "err");
  EXPECT_NE(content(folder.path() / "err").find("moecast sweep sweep.json -o out"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder.path() / "out/results.csv"));
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "-o", "out"}, folder.path()).exit_code, 0);
  EXPECT_EQ(run_moecast({"sweep", "sweep.json", "-o", "whole"}, folder.path()).exit_code, 0);
  EXPECT_EQ(content(folder.path() / "out/results.csv"), content(folder.path() / "whole/results.csv"));
}

TEST(ExplainCommand, SaysWhyAndWhatBinds) {
  const TestFolder folder;
  write_sweep(folder, R"(, "constraints": [{"metric": "storage_rate", "at_most": "300 MB/s"}])");
  const Outcome swept =
      run_moecast({"sweep", "sweep.json", "-o", "out", "--set", "/axes/1/pointer=/campaign/policy/snapshot_experts",
                   "--set", "/axes/1/values=[8, 16]"},
                  folder.path());
  ASSERT_EQ(swept.exit_code, 0) << swept.err;
  const Outcome outcome = run_moecast({"explain", "out"}, folder.path());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"has the highest goodput", "The second best, point", "loses", "Around the best point"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  }
  EXPECT_EQ(run_moecast({"explain", "."}, folder.path()).exit_code, 2);
}

TEST(ExplainCommand, OfALongAxisItSaysItsEndsAndWhatLiesBesideTheBest) {
  const TestFolder folder;
  write_sweep(folder);
  const Outcome swept = run_moecast({"sweep", "sweep.json", "-o", "out", "--set",
                                     "/axes/0/values=[100, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000]"},
                                    folder.path());
  ASSERT_EQ(swept.exit_code, 0) << swept.err;
  const Outcome outcome = run_moecast({"explain", "out"}, folder.path());
  EXPECT_NE(outcome.out.find("interval 100: 500 -"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find(", 4000 -"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("2500 -"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("a better one may lie beyond"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace moecast
