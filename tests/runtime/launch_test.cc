#include "runtime/comm/launch.h"

#include <map>

#include <gtest/gtest.h>

namespace moecast {
namespace {

using Variables = std::map<std::string, std::string>;

Result<Launch> launch_of(const Variables& variables, bool has_mpi = true) {
  return read_launch(
      [&](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      has_mpi);
}

std::string refusal(const Variables& variables) {
  const Result<Launch> launch = launch_of(variables);
  if (launch.ok()) return "fine";
  EXPECT_EQ(launch.error().kind, ErrorKind::BadInput);
  return launch.error().text();
}

const Variables kOfTwo = {
    {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}, {"LOCAL_RANK", "0"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(Launch, NobodyStartedAProcessThatHasNoVariables) {
  const Result<Launch> launch = launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});  // a batch script
  ASSERT_TRUE(launch.ok());
  EXPECT_EQ(launch->by, Launch::By::Nobody);
  EXPECT_EQ(launch->rank, 0);
}

TEST(Launch, ReadsRankWorldSizeAndAddress) {
  const Result<Launch> launch = launch_of(kOfTwo);
  ASSERT_TRUE(launch.ok()) << launch.error().text();
  EXPECT_EQ(launch->by, Launch::By::Variables);
  EXPECT_EQ(launch->rank, 1);
  EXPECT_EQ(launch->size, 2);
  EXPECT_EQ(launch->local_rank, 0);
  EXPECT_EQ(launch->address, "node0");
  EXPECT_EQ(launch->port, 29500);
}

TEST(Launch, AWorldOfOneIsNobody) {
  EXPECT_EQ(launch_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}})->by, Launch::By::Nobody);
}

TEST(Launch, TorchrunKeepsItsPortForItself) {
  EXPECT_EQ(launch_of(with(kOfTwo, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}}))->port, 29501);
}

TEST(Launch, MpirunIsKnownByItsVariables) {
  const Variables open_mpi = {
      {"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}};
  // Its daemons are a Slurm step of their own, whose numbers are not the ranks'.
  const Result<Launch> launch = launch_of(
      with(open_mpi, {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_NODELIST", "n[1-2]"}}));
  ASSERT_TRUE(launch.ok());
  EXPECT_EQ(launch->by, Launch::By::Mpi);
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->size, 4);
  EXPECT_EQ(launch->local_rank, 1);
}

TEST(Launch, ASlurmStepMeetsAtItsFirstHost) {
  const Variables step = {{"SLURM_PROCID", "5"},  {"SLURM_STEP_NUM_TASKS", "8"},         {"SLURM_NTASKS", "64"},
                          {"SLURM_LOCALID", "1"}, {"SLURM_STEP_NODELIST", "gpu[07-08]"}, {"SLURM_JOB_ID", "1234567"},
                          {"SLURM_STEP_ID", "0"}};
  const Result<Launch> launch = launch_of(step);
  ASSERT_TRUE(launch.ok()) << launch.error().text();
  EXPECT_EQ(launch->by, Launch::By::Slurm);
  EXPECT_EQ(launch->rank, 5);
  EXPECT_EQ(launch->size, 8);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->address, "gpu07");
  EXPECT_GE(launch->port, 20'000);
  EXPECT_LT(launch->port, 30'000);
  // Another step of the job gets another port; one that is given counts.
  EXPECT_NE(launch_of(with(step, {{"SLURM_STEP_ID", "1"}}))->port, launch->port);
  EXPECT_EQ(launch_of(with(step, {{"MASTER_PORT", "4000"}}))->port, 4000);
}

TEST(Launch, SrunWithAnMpiPluginIsMpiOnlyWhereThereIsMpi) {
  const Variables step = {
      {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_NODELIST", "n1"}, {"PMIX_RANK", "1"}};
  EXPECT_EQ(launch_of(step, true)->by, Launch::By::Mpi);
  EXPECT_EQ(launch_of(step, false)->by, Launch::By::Slurm);
}

TEST(Launch, TellsEveryProblemAtOnce) {
  const std::string text = refusal({{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}, {"LOCAL_RANK", "x"}});
  for (const char* part : {"RANK: expected an integer in 0..1, found \"2\"", "LOCAL_RANK: expected",
                           "MASTER_ADDR is not set", "MASTER_PORT: expected an integer in 1..65535, found \"70000\""}) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_NE(refusal({{"RANK", "0"}}).find("WORLD_SIZE is not set"), std::string::npos);
  EXPECT_NE(refusal({{"WORLD_SIZE", "4"}}).find("RANK is not set"), std::string::npos);
}

TEST(Launch, TwoLaunchersThatDisagreeAreAnError) {
  const std::string text = refusal(with(kOfTwo, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}));
  EXPECT_NE(text.find("RANK is 1, but OMPI_COMM_WORLD_RANK is 0"), std::string::npos) << text;
  EXPECT_EQ(refusal(with(kOfTwo, {{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}})), "fine");
}

TEST(Launch, FindsTheFirstHostOfSlurmsShortForms) {
  EXPECT_EQ(first_slurm_host("node7"), "node7");
  EXPECT_EQ(first_slurm_host("node7,node9"), "node7");
  EXPECT_EQ(first_slurm_host("node[01-04,7],other"), "node01");
  EXPECT_EQ(first_slurm_host("node[7,09-11]"), "node7");
  EXPECT_EQ(first_slurm_host("rack[1-2]n[3-4]x,b"), "rack1n3x");
}

}  // namespace
}  // namespace moecast
