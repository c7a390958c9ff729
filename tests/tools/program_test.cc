#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/tools/program_testing.h"
#include "tests/tools/run_testing.h"
#include "tools/command.h"

// The built program, as a user meets it: messages, exit codes, and what lies in the folder afterwards.

namespace moecast {
namespace {

using testing_program::Outcome;
using testing_program::run_moecast;
using testing_program::TestFolder;
using testing_runs::write_run;

std::size_t line_count(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

void expect_refusal(const Outcome& outcome, const std::string& message) {
  EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(line_count(outcome.err), 1U) << outcome.err;
  EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
}

TEST(Program, ExplainsItselfAndEveryCommand) {
  const Outcome help = run_moecast({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.err, "");
  for (const Command& command : commands()) {
    EXPECT_NE(help.out.find(command.spec.name), std::string::npos);
    const Outcome own = run_moecast({command.spec.name, "--help"});
    EXPECT_EQ(own.exit_code, 0) << command.spec.name;
    EXPECT_NE(own.out.find("Usage: moecast " + command.spec.name), std::string::npos);
    EXPECT_NE(own.out.find("--json"), std::string::npos);
    EXPECT_EQ(run_moecast({"help", command.spec.name}).out, own.out);
    EXPECT_FALSE(command.spec.examples.empty()) << command.spec.name;
  }
  EXPECT_EQ(run_moecast({"--version"}).out.substr(0, 8), "moecast ");
}

TEST(Program, RefusesWhatItDoesNotKnow) {
  expect_refusal(run_moecast({"simulat"}), "unknown command \"simulat\"; did you mean simulate?");
  expect_refusal(run_moecast({"--json", "doctor"}), "expected a command before --json");
  expect_refusal(run_moecast({"doctor", "--jsn"}), "unknown option --jsn; did you mean --json?");
  expect_refusal(run_moecast({"doctor", "now"}), "unexpected argument \"now\"");
  expect_refusal(run_moecast({"validate", "a", "b", "--tolerance", "-5 %"}), "--tolerance: expected a fraction");
  EXPECT_EQ(run_moecast({}).exit_code, 2);
}

TEST(Program, ErrorsAreJsonWhenAskedFor) {
  const Outcome outcome = run_moecast({"describe", "missing.json", "--json"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.out, "");
  const auto error = nlohmann::json::parse(outcome.err);
  EXPECT_EQ(error.at("exit_code"), 2);
  EXPECT_NE(error.at("message").get<std::string>().find("No such file"), std::string::npos);
}

TEST(Doctor, SaysWhatTheMachineCanRun) {
  const Outcome outcome = run_moecast({"doctor", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto machine = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(machine.at("schema"), "moecast.doctor/1");
  EXPECT_GE(machine.at("cores").get<int>(), 1);
  for (const auto& ability : machine.at("abilities")) EXPECT_FALSE(ability.at("why").get<std::string>().empty());
}

TEST(Doctor, WritesItsResultAndKeepsWhatIsThere) {
  const TestFolder folder;
  EXPECT_EQ(run_moecast({"doctor", "-q", "-o", "new/machine.json"}, folder.path()).out, "");
  const std::string first = *read_file(folder.path() / "new" / "machine.json");
  EXPECT_FALSE(nlohmann::json::parse(first).empty());
  expect_refusal(run_moecast({"doctor", "-o", "new/machine.json"}, folder.path()), "exists; --force replaces it");
  folder.file("blocked", "a file");
  expect_refusal(run_moecast({"doctor", "-o", "blocked/machine.json"}, folder.path()), "blocked");
}

TEST(Output, IsPlainWithoutATerminal) {
  EXPECT_EQ(run_moecast({"doctor"}).out.find('\033'), std::string::npos);
  EXPECT_NE(run_moecast({"doctor", "--color", "always"}).out.find('\033'), std::string::npos);
}

class Validate : public testing::Test {
 protected:
  Validate() {
    write_run(folder_.path() / "m" / "slow", "train", "slow", Duration(2000));
    write_run(folder_.path() / "m" / "fast", "train", "fast", Duration(1000));
    write_run(folder_.path() / "p" / "slow", "simulate", "slow", Duration(2100));
    write_run(folder_.path() / "p" / "fast", "simulate", "fast", Duration(1010));
  }
  [[nodiscard]] Outcome run(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"validate"};
    words.insert(words.end(), more.begin(), more.end());
    return run_moecast(words, folder_.path());
  }
  TestFolder folder_;
};

TEST_F(Validate, PassesWithinTheToleranceAndWritesTheVerdict) {
  const Outcome outcome = run({"m/slow", "p/slow", "m/fast", "p/fast/timeline.json", "-o", "out/validation.json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_NE(outcome.out.find("+5.0 %"), std::string::npos) << outcome.out;
  EXPECT_NE(
      outcome.out.find("1 of 1 pairs apart (their middle halves do not overlap): all predicted in the right order"),
      std::string::npos)
      << outcome.out;
  const auto verdict = nlohmann::json::parse(*read_file(folder_.path() / "out" / "validation.json"));
  EXPECT_TRUE(verdict.at("pass").get<bool>());
  EXPECT_NEAR(verdict.at("median_error").get<double>(), 0.03, 1e-9);
  EXPECT_EQ(verdict.at("pairs").at(0).at("measured"), "../m/slow");
  EXPECT_EQ(run_moecast({"report", "out/validation.json"}, folder_.path()).exit_code, 0);
}

TEST_F(Validate, FailsWithOneOutsideTheTolerance) {
  const Outcome outcome = run({"m/slow", "p/slow", "m/fast", "p/fast", "--tolerance", "1 %"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err,
            "moecast: validate: the median error of the step time is 3.0 %, above the tolerance of 1.0 %\n");
  EXPECT_NE(outcome.out, "");
}

TEST_F(Validate, FailsWithOneWhenTheOrderIsWrong) {
  write_run(folder_.path() / "p" / "wrong", "simulate", "fast", Duration(2200));
  const Outcome outcome = run({"m/slow", "p/slow", "m/fast", "p/wrong", "--tolerance", "500 %"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "moecast: validate: the predicted order is wrong: fast is faster than slow\n");
}

TEST_F(Validate, RefusesWhatCannotBeCompared) {
  expect_refusal(run({"m/slow", "p/slow", "m/fast"}), "expected pairs");
  expect_refusal(run({"m/slow", "p/missing"}), "No such file");
  write_run(folder_.path() / "p" / "sequential", "simulate", "slow", Duration(1000), ScheduleKind::Sequential);
  expect_refusal(run({"m/slow", "p/sequential"}), "different kinds of schedule");
}

TEST(Report, RefusesWhatIsNoResult) {
  const TestFolder folder;
  folder.file("a.json", "{\"a\": 1}\n");
  expect_refusal(run_moecast({"report", "a.json"}, folder.path()), "found none of these");
  folder.file("timeline.json", "{\"traceEvents\": 1}\n");
  EXPECT_EQ(run_moecast({"report", "timeline.json"}, folder.path()).exit_code, 2);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"a.json", "timeline.json"}));
}

}  // namespace
}  // namespace moecast
