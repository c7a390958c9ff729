#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include <fmt/format.h>

#include "base/file.h"
#include "runtime/trainer/train_config.h"
#include "sim/scenario.h"
#include "tests/tools/program_testing.h"
#include "tests/tools/run_testing.h"
#include "tools/run_result.h"

// Commands that run: train, simulate, calibrate, reproduce. Each either leaves a whole result or nothing.

namespace moecast {
namespace {

namespace fs = std::filesystem;
using testing_program::Outcome;
using testing_program::run_moecast;
using testing_program::source_folder;
using testing_program::TestFolder;

std::string workload_text(const std::string& parallel = R"({"data": 2, "expert": 2})") {
  return fmt::format(R"("workload": {{
    "model": {{"name": "tiny", "d_model": 16, "vocabulary": 256, "max_sequence": 16, "attention": {{"heads": 2}},
               "layers": {{"count": 2, "dense_width": 32, "moe_every": 2, "moe_offset": 1}},
               "moe": {{"experts": 4, "expert_width": 32, "router": {{"top_k": 1}}, "capacity_factor": 2}}}},
    "parallel": {},
    "batch": {{"micro_batch": 2, "sequence": 16}},
    "schedule": {{"kind": "sequential"}} }})",
                     parallel);
}

std::string train_text(const std::string& training, const std::string& runtime = "{}") {
  return fmt::format("{{ \"name\": \"tiny\",\n{},\n\"training\": {},\n\"runtime\": {} }}\n", workload_text(), training,
                     runtime);
}

std::string kjv() { return (source_folder() / "experiments/quickstart/text/kjv.txt").string(); }

std::string training(int steps, const std::string& more = "") {
  return fmt::format(R"({{"text": "{}", "steps": {}, "learning_rate": 0.01{}}})", kjv(), steps, more);
}

std::string scenario_text(const std::string& hardware = R"("a100_nvlink_8")") {
  return fmt::format("{{ \"name\": \"tiny\",\n{},\n\"hardware\": {} }}\n", workload_text(), hardware);
}

class Train : public testing::Test {
 protected:
  [[nodiscard]] Outcome run(const std::string& config, std::vector<std::string> more = {"-o", "run"}) const {
    folder_.file("config.json", config);
    more.insert(more.begin(), {"train", "config.json"});
    return run_moecast(more, folder_.path());
  }
  /// Exit code 2, one message, and nothing but the config in the folder.
  void expect_refusal(const Outcome& outcome, const std::string& message) const {
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(folder_.names(), std::vector<std::string>{"config.json"});
  }
  TestFolder folder_;
};

TEST_F(Train, WritesAWholeResultThatReadsBack) {
  const Outcome outcome = run(train_text(training(8)));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("unigram entropy"), std::string::npos) << outcome.out;
  const Result<RunResult> result = load_run(folder_.path() / "run");
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_TRUE(result->measured());
  EXPECT_EQ(result->curve->loss.size(), 8U);
  EXPECT_FALSE(result->recorded.info.paced);
  const auto metrics = nlohmann::json::parse(*read_file(folder_.path() / "run" / "metrics.json"));
  EXPECT_EQ(metrics.at("schema"), "moecast.train/1");
  EXPECT_GT(metrics.at("step_metrics").at("step_time_ns").get<std::int64_t>(), 0);
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"config.json", "run"}));
}

TEST_F(Train, ItsConfigRepeatsTheRunBitForBit) {
  ASSERT_EQ(run(train_text(training(5, R"(, "seed": 3)"))).exit_code, 0);
  const Outcome again = run_moecast({"train", "run/config.json", "-o", "again"}, folder_.path());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto loss = [&](const char* name) { return load_run(folder_.path() / name)->curve->loss; };
  EXPECT_EQ(loss("run"), loss("again"));
  const Outcome other = run_moecast({"train", "run/config.json", "--seed", "4", "-o", "other"}, folder_.path());
  ASSERT_EQ(other.exit_code, 0) << other.err;
  EXPECT_NE(loss("run"), loss("other"));
}

TEST_F(Train, RefusesBadConfigsWithPlaceAndSuggestion) {
  expect_refusal(run(train_text(R"({"text": "a.txt", "stepz": 3})")), "did you mean steps?");
  expect_refusal(run(train_text(R"({"text": "a.txt", "steps": -3})")), "/training/steps: expected an integer in 1..");
  expect_refusal(run(train_text(training(3), R"({"link": {"latency": "5 parsec", "bandwidth": "1 GB/s"}})")), "parsec");
  expect_refusal(run(train_text(training(3), R"({"link": {"latency": 200, "bandwidth": "1 GB/s"}})")), "latency");
  expect_refusal(run("{ \"name\": \"tiny\","), "config.json:");
}

TEST_F(Train, ReportsAllProblemsAtOnceWithTheirLines) {
  const Outcome outcome = run(train_text(R"({"text": "a.txt", "stepz": 3, "seed": -1})"));
  expect_refusal(outcome, "/training/stepz");
  EXPECT_NE(outcome.err.find("/training/seed"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("/training/steps"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("config.json:"), std::string::npos) << outcome.err;
}

TEST_F(Train, RefusesAMissingTextAndAMissingConfig) {
  expect_refusal(run(train_text(R"({"text": "missing.txt", "steps": 3})")), "missing.txt");
  const Outcome outcome = run_moecast({"train", "nothing.json", "-o", "run"}, folder_.path());
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("nothing.json"), std::string::npos);
}

TEST_F(Train, NeedsAPlaceForItsResultAndKeepsWhatIsThere) {
  expect_refusal(run(train_text(training(3)), {}), "--output DIR is missing");
  folder_.file("file", "mine");
  EXPECT_EQ(run(train_text(training(3)), {"-o", "file/run"}).exit_code, 2);
  EXPECT_EQ(run(train_text(training(3)), {"-o", "file", "--force"}).exit_code, 2);
  EXPECT_EQ(*read_file(folder_.path() / "file"), "mine");
  folder_.file("old/timeline.json", "old");
  const Outcome outcome = run(train_text(training(3)), {"-o", "old"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "moecast: old: exists; --force replaces it\n");
  EXPECT_EQ(*read_file(folder_.path() / "old" / "timeline.json"), "old");
}

TEST_F(Train, ARankThatThrowsEndsWithThreeAndLeavesNothing) {
  const Outcome outcome = run(
      train_text(training(5)),
      {"-o", "run", "--set", R"(/faults=[{"kind": "kill_rank", "rank": 1, "step": 2, "operator": "L1.Dispatch.F"}])"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find("L1.Dispatch.F"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"config.json"});
}

TEST_F(Train, CtrlCEndsWith130AfterACleanStop) {
  folder_.file("config.json", train_text(training(1'000'000)));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const int quiet = open("/dev/null", O_RDWR);
    dup2(quiet, STDOUT_FILENO);
    dup2(quiet, STDERR_FILENO);
    if (chdir(folder_.path().c_str()) != 0) _exit(99);
    execl(MOECAST_BINARY_DIR "/tools/moecast", "moecast", "train", "config.json", "-o", "run", nullptr);
    _exit(99);
  }
  while (folder_.names().size() < 2) {  // the hidden folder for the result: the run has begun
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_EQ(waitpid(child, nullptr, WNOHANG), 0) << "it ended by itself";
  }
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"config.json"});
}

/// Starts the program with its output thrown away.
pid_t start_moecast(const fs::path& folder, std::vector<std::string> words) {
  const pid_t child = fork();
  if (child != 0) return child;
  const int quiet = open("/dev/null", O_RDWR);
  dup2(quiet, STDOUT_FILENO);
  dup2(quiet, STDERR_FILENO);
  words.insert(words.begin(), "moecast");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  if (chdir(folder.c_str()) == 0) execv(MOECAST_BINARY_DIR "/tools/moecast", arguments.data());
  _exit(99);
}

/// Runs with checkpoints: on links so slow that there is time to kill them.
class TrainWithCheckpoints : public Train {
 protected:
  TrainWithCheckpoints() {
    folder_.file("config.json", train_text(training(40), R"({"link": {"latency": "2 ms", "bandwidth": "1 GB/s"}})"));
    folder_.file("saving.json", R"({"extends": "config.json",
      "checkpoint": {"policy": {"kind": "async_full", "interval": 5}}})");
  }
  [[nodiscard]] bool committed() const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_.path() / "run.checkpoints", error)) {
      const std::string name = entry.path().filename();
      if (name.starts_with("edit-") && name.ends_with(".json")) return true;
    }
    return false;
  }
  [[nodiscard]] nlohmann::json metrics(const char* run) const {
    return nlohmann::json::parse(*read_file(folder_.path() / run / "metrics.json"));
  }
};

TEST_F(TrainWithCheckpoints, AKilledProcessGoesOnAsIfNothingHadHappened) {
  ASSERT_EQ(run_moecast({"train", "config.json", "-o", "whole"}, folder_.path()).exit_code, 0);
  const pid_t child = start_moecast(folder_.path(), {"train", "saving.json", "-o", "run"});
  ASSERT_GE(child, 0);
  while (!committed()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(waitpid(child, nullptr, WNOHANG), 0) << "it ended by itself";
  }
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(fs::exists(folder_.path() / "run"));

  const Outcome again = run_moecast({"train", "saving.json", "-o", "run"}, folder_.path());
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("--resume"), std::string::npos) << again.err;
  const Outcome resumed = run_moecast({"train", "saving.json", "-o", "run", "--resume"}, folder_.path());
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const auto first = metrics("run").at("first_step").get<std::size_t>();
  EXPECT_GE(first, 5U);
  const auto whole = metrics("whole").at("loss").get<std::vector<double>>();
  EXPECT_EQ(metrics("run").at("loss").get<std::vector<double>>(),
            std::vector(whole.begin() + static_cast<std::ptrdiff_t>(first), whole.end()));
  EXPECT_EQ(metrics("run").at("validation_loss"), metrics("whole").at("validation_loss"));
}

TEST_F(TrainWithCheckpoints, InjectedFaultsAreSurvivedAndTold) {
  const Outcome outcome = run_moecast(
      {"train", "saving.json", "-o", "run", "--set", R"(/faults=[{"kind": "lose_node", "ranks": [1], "step": 23}])"},
      folder_.path());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("node of rank 1 lost with its memory at step 24"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("are done again"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("recoveries"), std::string::npos) << outcome.out;
  const nlohmann::json recovery = metrics("run").at("checkpoints").at("recoveries").at(0);
  EXPECT_EQ(recovery.at("failed_step"), 23);
  EXPECT_GE(recovery.at("step"), 5);
  EXPECT_EQ(metrics("run").at("loss").size(), 40U);
}

TEST_F(TrainWithCheckpoints, BadSettingsAreRefusedBeforeAnythingIsWritten) {
  const auto refused = [&](const std::vector<std::string>& settings, const std::string& message) {
    std::vector<std::string> words = {"train", "saving.json", "-o", "run"};
    words.insert(words.end(), settings.begin(), settings.end());
    const Outcome outcome = run_moecast(words, folder_.path());
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"config.json", "saving.json"}));
  };
  refused({"--set", R"(/checkpoint/policy={"kind": "pec", "interval": 5, "experts": 5})"},
          "at most the 4 experts of block 1");
  refused({"--set", "/checkpoint/policy/intervall=5"}, "did you mean interval?");
  refused({"--set", R"(/faults=[{"kind": "kill_rank", "rank": 7, "step": 3}])"}, "/faults/0/rank");
  refused({"--set", R"(/faults=[{"kind": "kill_rank", "rank": 1, "step": 3, "operator": "L9.Gate.F"}])"}, "L9.Gate.F");
  const Outcome plain = run_moecast({"train", "config.json", "-o", "run", "--resume"}, folder_.path());
  EXPECT_EQ(plain.exit_code, 2);
  EXPECT_NE(plain.err.find("--resume needs"), std::string::npos) << plain.err;
}

/// What `moecast checkpoint` says of the folder that a run left.
class CheckpointCommand : public TrainWithCheckpoints {
 protected:
  void SetUp() override {
    const Outcome outcome = run_moecast(
        {"train", "saving.json", "-o", "run", "--set", "/training/steps=12", "--set",
         R"(/checkpoint/policy={"kind": "pec", "interval": 3, "experts": 1})", "--set", "/checkpoint/settle=true"},
        folder_.path());
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  [[nodiscard]] Outcome checkpoint(std::vector<std::string> words) const {
    words.insert(words.begin(), "checkpoint");
    return run_moecast(words, folder_.path());
  }
};

TEST_F(CheckpointCommand, InspectsAndVerifies) {
  const Outcome inspected = checkpoint({"inspect", "run.checkpoints", "--json"});
  ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
  const nlohmann::json json = nlohmann::json::parse(inspected.out);
  EXPECT_EQ(json.at("newest"), 4);
  EXPECT_EQ(json.at("versions").back().at("step"), 12);
  EXPECT_EQ(json.at("versions").back().at("experts"), 1);
  EXPECT_EQ(json.at("expert_age").size(), 4U);
  const Outcome verified = checkpoint({"verify", "run.checkpoints"});
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_NE(verified.out.find("a restore takes version 4"), std::string::npos) << verified.out;
}

TEST_F(CheckpointCommand, VerifyEndsWithOneForDamage) {
  for (const auto& entry : fs::directory_iterator(folder_.path() / "run.checkpoints")) {
    if (!entry.path().filename().string().starts_with("data-000000004")) continue;
    std::string content = *read_file(entry.path());
    content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
    ASSERT_TRUE(write_file_atomically(entry.path(), content).ok());
    break;
  }
  const Outcome verified = checkpoint({"verify", "run.checkpoints"});
  EXPECT_EQ(verified.exit_code, 1) << verified.err;
  EXPECT_NE(verified.out.find("damaged"), std::string::npos) << verified.out;
}

TEST_F(CheckpointCommand, RestoresWholeTensorsIntoANewFolderOnly) {
  const Outcome restored = checkpoint({"restore", "run.checkpoints", "-o", "merged"});
  ASSERT_EQ(restored.exit_code, 0) << restored.err;
  const nlohmann::json state = nlohmann::json::parse(*read_file(folder_.path() / "merged" / "state.json"));
  EXPECT_EQ(state.at("step"), 12);
  EXPECT_EQ(state.at("experts").size(), 4U);
  const std::string weights = *read_file(folder_.path() / "merged" / "weights.safetensors");
  EXPECT_NE(weights.find("\"blocks.1.experts.3.w1.weight\""), std::string::npos);
  const Outcome again = checkpoint({"restore", "run.checkpoints", "-o", "merged"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("is not empty"), std::string::npos) << again.err;
  EXPECT_EQ(checkpoint({"restore", "run.checkpoints"}).exit_code, 2);
  EXPECT_EQ(checkpoint({"restore", "nothing", "-o", "other"}).exit_code, 2);
  EXPECT_FALSE(fs::exists(folder_.path() / "other"));
}

TEST_F(CheckpointCommand, CollectsGarbageAndLeavesWhatIsNeeded) {
  const Outcome dry =
      checkpoint({"gc", "run.checkpoints", "--versions", "1", "--unit-copies", "1", "--dry-run", "--json"});
  ASSERT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_FALSE(nlohmann::json::parse(dry.out).at("removed").empty());
  EXPECT_EQ(checkpoint({"gc", "run.checkpoints", "--versions", "1", "--unit-copies", "1"}).exit_code, 0);
  const Outcome verified = checkpoint({"verify", "run.checkpoints", "--json"});
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_EQ(nlohmann::json::parse(verified.out).at("newest"), 4);
}

TEST_F(CheckpointCommand, BadWordsAndFoldersAreExitTwo) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"look", "run.checkpoints"},
                                                {"inspect", "nothing"},
                                                {"verify", "."},
                                                {"inspect"},
                                                {"plan", "config.json"}}) {
    const Outcome outcome = checkpoint(words);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(CheckpointPlanCommand, GivesThePublishedSizes) {
  for (const auto& entry : fs::directory_iterator(source_folder() / "experiments/pec/sizes")) {
    const Outcome outcome = run_moecast({"checkpoint", "plan", entry.path().string()});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  }
}

class Simulate : public testing::Test {
 protected:
  [[nodiscard]] Outcome run(const std::string& scenario, std::vector<std::string> more = {"-o", "run"}) const {
    folder_.file("scenario.json", scenario);
    more.insert(more.begin(), {"simulate", "scenario.json"});
    return run_moecast(more, folder_.path());
  }
  TestFolder folder_;
};

TEST_F(Simulate, WritesAWholeResultAndItsScenarioGivesTheSameBytes) {
  ASSERT_EQ(run(scenario_text()).exit_code, 0);
  const Outcome again = run_moecast({"simulate", "run/scenario.json", "-o", "again"}, folder_.path());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  for (const char* name : {"timeline.json", "summary.json", "scenario.json"}) {
    EXPECT_EQ(*read_file(folder_.path() / "run" / name), *read_file(folder_.path() / "again" / name)) << name;
  }
  const Outcome described = run_moecast({"describe", "run/scenario.json", "--json"}, folder_.path());
  EXPECT_EQ(nlohmann::json::parse(described.out).at("kind"), "scenario");
}

TEST_F(Simulate, RefusesBadScenariosAndWritesNothing) {
  for (const auto& [scenario, message] :
       {std::pair(scenario_text(R"("a100_nvlink_9")"), std::string("a100_nvlink_8")),
        std::pair(std::string("{ \"name\": \"x\", \"hardwear\": \"a100_nvlink_8\" }"),
                  std::string("did you mean hardware?")),
        std::pair("{ \"name\": \"x\",\n" + workload_text(R"({"data": 2, "expert": 3})") +
                      ",\n\"hardware\": \"a100_nvlink_8\" }",
                  std::string("scenario.json:"))}) {
    const Outcome outcome = run(scenario);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(folder_.names(), std::vector<std::string>{"scenario.json"});
  }
}

TEST_F(Simulate, TakesAProfileInsteadOfItsOwnAndValidateTakesAScenario) {
  ASSERT_EQ(run(scenario_text(), {"--profile", "h200_nvlink_8", "-o", "run"}).exit_code, 0);
  EXPECT_EQ(run(scenario_text(), {"--profile", "h200_nvlink_9", "-o", "other"}).exit_code, 2);
  const Outcome same =
      run_moecast({"validate", "run", "scenario.json", "--profile", "h200_nvlink_8", "--json"}, folder_.path());
  ASSERT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(nlohmann::json::parse(same.out).at("median_error"), 0.0);
}

TEST_F(Simulate, PutsValuesIntoTheScenario) {
  const Outcome outcome =
      run(scenario_text(), {"--set", "/name=other", "--set", "/workload/batch/sequence=8", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("name"), "other");
  const Outcome wrong = run(scenario_text(), {"--set", "/workload/batch/sequenze=8"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("--set /workload/batch/sequenze"), std::string::npos) << wrong.err;
}

std::string campaign_text(const std::string& more = "") {
  return R"({ "name": "short", "campaign": {
    "cluster": {"gpus": 64, "spares": {"kind": "hot", "count": 2}},
    "training": {"horizon": "2 d", "step": "10 s"},
    "checkpoint": {"rank_bytes": {"non_expert": "1 GB"}, "total_bytes": {"non_expert": "64 GB"},
                   "snapshot_rate": "1 GB/s", "persist_rate": "1 GB/s", "load_rate": "1 GB/s"},
    "reliability": "llama3_h100", "policy": {"kind": "async_full", "interval": 30}, "replicas": 8)" +
         more + "} }\n";
}

TEST(SimulateCampaign, WritesAWholeResultThatDoesNotDependOnTheThreads) {
  const TestFolder folder;
  folder.file("c.json", campaign_text());
  for (const auto& [place, threads] : {std::pair("one", "1"), std::pair("four", "4")}) {
    const Outcome outcome = run_moecast({"simulate", "c.json", "-o", place, "--threads", threads}, folder.path());
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("goodput (ETTR)"), std::string::npos) << outcome.out;
  }
  const Outcome again = run_moecast({"simulate", "one/scenario.json", "-q", "-o", "again"}, folder.path());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const auto content = [&](const char* place, const char* name) { return *read_file(folder.path() / place / name); };
  for (const char* name : {"summary.json", "replicas.csv", "scenario.json"}) {
    EXPECT_TRUE(content("one", name) == content("four", name)) << name;
  }
  // What the resolved scenario says is the scenario, to rounding: the replicas do not see the difference.
  EXPECT_TRUE(content("one", "replicas.csv") == content("again", "replicas.csv"));
  const std::string rows = *read_file(folder.path() / "one/replicas.csv");
  EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), 9);
}

TEST(SimulateCampaign, ShowsFailuresAndSearchesTheInterval) {
  const TestFolder folder;
  folder.file("c.json", campaign_text());
  const Outcome failures = run_moecast(
      {"simulate", "c.json", "--failures", "3", "--json", "--set", "/campaign/training/horizon=900 d"}, folder.path());
  ASSERT_EQ(failures.exit_code, 0) << failures.err;
  EXPECT_FALSE(nlohmann::json::parse(failures.out).at("failures").empty());
  const Outcome search =
      run_moecast({"simulate", "c.json", "--best-interval", "--replicas", "3", "--json"}, folder.path());
  ASSERT_EQ(search.exit_code, 0) << search.err;
  EXPECT_GE(nlohmann::json::parse(search.out).at("best_interval_steps"), 1);
}

TEST(SimulateCampaign, RefusesWhatMakesNoSense) {
  const TestFolder folder;
  folder.file("c.json", campaign_text());
  folder.file("s.json", scenario_text());
  const auto refusal = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "simulate");
    const Outcome outcome = run_moecast(words, folder.path());
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    return outcome.err;
  };
  const auto set = [&](const std::string& what) { return refusal({"c.json", "--set", what}); };
  EXPECT_NE(refusal({"s.json", "--replicas", "3"}).find("belongs to campaigns"), std::string::npos);
  EXPECT_NE(refusal({"c.json", "--profile", "a100_nvlink_8"}).find("belongs to scenarios"), std::string::npos);
  EXPECT_NE(set("/campaign/polici=1").find("did you mean policy?"), std::string::npos);
  EXPECT_NE(set("/campaign/policy/snapshot_experts=2").find("snapshot_experts"), std::string::npos);
  EXPECT_NE(set("/campaign/checkpoint/snapshot_rate=-1 GB/s").find("/campaign/checkpoint/snapshot_rate"),
            std::string::npos);
  EXPECT_NE(set("/campaign/cluster/spares/count=-1").find("/campaign/cluster/spares/count"), std::string::npos);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"c.json", "s.json"}));
}

TEST(Compare, PutsCampaignsIntoOneTable) {
  const TestFolder folder;
  folder.file("c.json", campaign_text());
  const auto simulate = [&](const char* place, const char* interval) {
    const std::string set = std::string("/campaign/policy/interval=") + interval;
    return run_moecast({"simulate", "c.json", "-q", "-o", place, "--set", set}, folder.path()).exit_code;
  };
  ASSERT_EQ(simulate("often", "10"), 0);
  ASSERT_EQ(simulate("seldom", "100"), 0);
  const Outcome table = run_moecast({"compare", "often", "seldom"}, folder.path());
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_NE(table.out.find("goodput %"), std::string::npos) << table.out;
  const Outcome outcome = run_moecast({"compare", "often", "seldom", "--json"}, folder.path());
  const nlohmann::json campaigns = nlohmann::json::parse(outcome.out).at("campaigns");
  ASSERT_EQ(campaigns.size(), 2U);
  EXPECT_EQ(campaigns[0].at("interval_seconds"), 100);
  EXPECT_DOUBLE_EQ(campaigns[1].at("interval_seconds").get<double>(), 1000);
  testing_runs::write_run(folder.path() / "a", "train", "same", std::chrono::microseconds(10),
                          ScheduleKind::Sequential);
  EXPECT_EQ(run_moecast({"compare", "often", "a"}, folder.path()).exit_code, 2);
}

TEST(Compare, PutsRunsOfOneNameIntoOneRow) {
  const TestFolder folder;
  for (const auto& [place, command] : {std::pair("a", "train"), std::pair("b", "train"), std::pair("c", "simulate")}) {
    testing_runs::write_run(folder.path() / place, command, "same", std::chrono::microseconds(10),
                            ScheduleKind::Sequential);
  }
  const Outcome outcome = run_moecast({"compare", "a", "b", "c", "--json"}, folder.path());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json variants = nlohmann::json::parse(outcome.out).at("variants");
  ASSERT_EQ(variants.size(), 2U);
  EXPECT_EQ(variants[0].at("runs").size(), 2U);
  EXPECT_EQ(variants[0].at("validation_loss"), (std::vector<double>{2.25, 2.25}));
  EXPECT_TRUE(variants[1].at("validation_loss").empty());
  const Outcome table = run_moecast({"compare", "a", "b", "c"}, folder.path());
  EXPECT_NE(table.out.find("2.250 +- 0.000"), std::string::npos) << table.out;
  EXPECT_EQ(run_moecast({"compare", "missing"}, folder.path()).exit_code, 2);
}

TEST(Calibrate, RefusesWhatMakesNoSense) {
  const TestFolder folder;
  const auto refused = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"calibrate", "-o", "p.json"});
    const Outcome outcome = run_moecast(words, folder.path());
    return outcome.exit_code == 2 && outcome.out.empty() && folder.names().empty();
  };
  EXPECT_TRUE(refused({"--ranks", "0"}));
  EXPECT_TRUE(refused({"--link-latency", "200 us"}));
  EXPECT_TRUE(refused({"--link-latency", "200", "--link-bandwidth", "1 GB/s"}));
  EXPECT_TRUE(refused({"--link-latency", "200 us", "--link-bandwidth", "0 B/s"}));
  EXPECT_TRUE(refused({"--backend", "tpu"}));
  EXPECT_TRUE(refused({"--import"}));
  EXPECT_TRUE(refused({"--import", "missing.json", "--profile", "h200_nvlink_8"}));
  EXPECT_TRUE(refused({"some.json"}));
  EXPECT_TRUE(refused({"--profile", "h200_nvlink_8"}));
  EXPECT_TRUE(refused({"--precision", "bf16"}));
  EXPECT_TRUE(refused({"--for", "missing.json"}));
  EXPECT_TRUE(
      refused({"--for", (source_folder() / "experiments/quickstart/train/top2.json").string(), "--ranks", "4"}));
  EXPECT_EQ(run_moecast({"calibrate"}).exit_code, 2);
}

TEST(Calibrate, WritesAProfileThatDescribesItself) {
  const TestFolder folder;
  const Outcome outcome = run_moecast({"calibrate", "-q", "-o", "p.json", "--budget", "2 s"}, folder.path());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const Outcome described = run_moecast({"describe", "p.json"}, folder.path());
  EXPECT_EQ(described.exit_code, 0) << described.err;
  EXPECT_NE(described.out.find("this_machine"), std::string::npos);
}

TEST(Reproduce, SaysYesNoAndWhatIsWrong) {
  const TestFolder folder;
  const auto with = [](const char* value) {
    return fmt::format(
        "{{ \"name\": \"tiny\",\n{},\n\"hardware\": \"a100_nvlink_8\",\n\"expect\": [{{\"metric\": \"overlap\", "
        "\"value\": {}, \"tolerance\": \"1 %\", \"source\": \"a test\"}}] }}\n",
        workload_text(), value);
  };
  folder.file("yes/a.json", with("0"));
  folder.file("no/a.json", with("0.9"));
  folder.file("empty/a.json", scenario_text());
  EXPECT_EQ(run_moecast({"reproduce", "yes"}, folder.path()).exit_code, 0);
  const Outcome no = run_moecast({"reproduce", "no", "--json"}, folder.path());
  EXPECT_EQ(no.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(no.out).at("schema"), "moecast.reproduce/1");
  EXPECT_EQ(run_moecast({"reproduce", "empty"}, folder.path()).exit_code, 2);
  EXPECT_EQ(run_moecast({"reproduce", "missing"}, folder.path()).exit_code, 2);
}

TEST(Describe, KnowsEveryKindOfFile) {
  const fs::path root = source_folder();
  for (const auto& [file, kind] : {std::pair("models/zoo/mixtral_8x7b.json", "model"),
                                   std::pair("hwprofiles/a100_nvlink_8.json", "hardware profile"),
                                   std::pair("experiments/quickstart/workloads/top2.json", "workload"),
                                   std::pair("experiments/quickstart/train/scmoe.json", "training configuration"),
                                   std::pair("experiments/quickstart/simulate/scmoe.json", "scenario")}) {
    const Outcome outcome = run_moecast({"describe", (root / file).string(), "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << file << ": " << outcome.err;
    EXPECT_EQ(nlohmann::json::parse(outcome.out).at("kind"), kind);
    EXPECT_FALSE(run_moecast({"describe", (root / file).string()}).out.empty());
  }
  EXPECT_EQ(run_moecast({"describe", "a100_nvlink_8"}).exit_code, 0);
}

TEST(Describe, SaysWhatATokenOfAModelCosts) {
  const auto described = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"describe", "deepseek_v3", "--json"});  // found in models/zoo by its name
    const Outcome outcome = run_moecast(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const nlohmann::json long_one = described({}), short_one = described({"--sequence", "1"});
  EXPECT_EQ(long_one.at("parameter_count"), 671'026'834'944);
  EXPECT_EQ(long_one.at("checkpoint_weight_bytes"), 2 * 671'026'834'944);
  EXPECT_EQ(long_one.at("cache_bytes_per_token"), short_one.at("cache_bytes_per_token"));
  EXPECT_GT(long_one.at("forward_flops_per_token"), short_one.at("forward_flops_per_token"));
  EXPECT_EQ(run_moecast({"describe", "deepseek_v3", "--sequence", "0"}).exit_code, 2);
  EXPECT_EQ(run_moecast({"describe", "no_such_model"}).exit_code, 2);
}

TEST(Describe, ReadsHuggingFaceConfigsAndNamesIgnoredKeysOnDemand) {
  const TestFolder folder;
  const std::string config = R"({"model_type": "olmoe", "hidden_size": 64, "intermediate_size": 32, "num_experts": 4,
      "max_position_embeddings": 128, "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2,
      "vocab_size": 256, "use_cache": true)";
  ASSERT_TRUE(write_file_atomically(folder.path() / "config.json", config + "}").ok());
  const Outcome quiet = run_moecast({"describe", "config.json"}, folder.path());
  ASSERT_EQ(quiet.exit_code, 0) << quiet.err;
  EXPECT_NE(quiet.out.find("top-2 of 4"), std::string::npos) << quiet.out;
  EXPECT_EQ(quiet.err.find("use_cache"), std::string::npos) << quiet.err;
  EXPECT_NE(run_moecast({"describe", "config.json", "-v"}, folder.path()).err.find("use_cache"), std::string::npos);
  ASSERT_TRUE(write_file_atomically(folder.path() / "config.json", config + R"(, "num_memory_experts": 3})").ok());
  const Outcome refused = run_moecast({"describe", "config.json"}, folder.path());
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("num_memory_experts"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace moecast
