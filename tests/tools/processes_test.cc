#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/tools/program_testing.h"

// Ranks as processes that find each other through RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as a user starts them.

namespace moecast::testing_program {
namespace {

class Processes : public ::testing::Test {
 protected:
  [[nodiscard]] static std::string config() {
    return (source_folder() / "experiments/quickstart/train/top2.json").string();
  }
  /// Starts `count` ranks with these arguments; the exit code is the first that is not zero.
  [[nodiscard]] Outcome run_ranks(int count, const std::string& arguments) const {
    return run_shell((source_folder() / "tests/start_ranks.sh").string() + " " + std::to_string(count) +
                         " \"$MOECAST\" " + arguments,
                     folder_.path());
  }
  [[nodiscard]] nlohmann::json metrics(const std::string& run) const {
    return nlohmann::json::parse(*read_file(folder_.path() / run / "metrics.json"));
  }
  TestFolder folder_;
};

void expect_part(const Outcome& outcome, const std::string& part) {
  EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
}

TEST_F(Processes, TrainWithTheBitsOfThreads) {
  const Outcome processes = run_ranks(2, "train " + config() + " --steps 4 -o processes");
  ASSERT_EQ(processes.exit_code, 0) << processes.err;
  ASSERT_EQ(run_moecast({"train", config(), "--steps", "4", "-o", "threads"}, folder_.path()).exit_code, 0);
  for (const char* field : {"loss", "gradient_norm", "validation_loss", "expert_load"}) {
    EXPECT_EQ(metrics("processes").at(field), metrics("threads").at(field)) << field;
  }
  // One of them speaks.
  EXPECT_EQ(processes.out.find("loss"), processes.out.rfind("loss")) << processes.out;
}

TEST_F(Processes, MustBeAsManyAsTheLayoutHasRanks) {
  const Outcome outcome = run_ranks(3, "train " + config() + " --steps 4 -o run");
  EXPECT_EQ(outcome.exit_code, 2);
  expect_part(outcome, "3 processes for the 2 ranks of /workload/parallel");
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Processes, WithVariablesThatMakeNoSenseAreRefused) {
  const Outcome outcome =
      run_shell("RANK=2 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 \"$MOECAST\" train " + config() + " -o run", folder_.path());
  EXPECT_EQ(outcome.exit_code, 2);
  expect_part(outcome, "RANK: expected an integer in 0..1, found \"2\"; MASTER_PORT is not set");
}

TEST_F(Processes, ARankThatStaysAwayIsNamed) {
  const Outcome outcome =
      run_shell("RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((10000 + $$ % 20000)) \"$MOECAST\" train " +
                    config() + " -o run --set '/runtime/timeout=300 ms'",
                folder_.path());
  EXPECT_EQ(outcome.exit_code, 3);
  expect_part(outcome, "rank 1 stayed away");
}

TEST_F(Processes, ARankThatIsKilledIsNamedAndTheOthersEnd) {
  // The last rank is killed once the result's hidden folder says that training has begun.
  const std::string train = "\"$MOECAST\" train " + config() + " --steps 100000 -o run";
  const Outcome outcome = run_shell(
      "export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((10000 + $$ % 20000))\n"
      "RANK=1 " +
          train +
          " & victim=$!\n"
          "RANK=0 " +
          train +
          " & first=$!\n"
          "while [ -z \"$(ls -A)\" ]; do sleep 0.05; done\n"
          "sleep 0.5\n"
          "kill -9 $victim\n"
          "wait $first",
      folder_.path());
  EXPECT_EQ(outcome.exit_code, 3);
  expect_part(outcome, "rank 1 is gone");
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(Processes, OtherCommandsTakeNoNoticeOfTheVariables) {
  const Outcome outcome = run_shell("RANK=5 WORLD_SIZE=2 \"$MOECAST\" doctor --json");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
}

}  // namespace
}  // namespace moecast::testing_program
