#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/communicator_contract_suite.h"
#include "tests/runtime/process_world_testing.h"

// Runs as several processes: mpirun -n 4 runtime_process_tests, tests/start_ranks.sh 4 runtime_process_tests.

namespace moecast::testing {
namespace {

int process_count() {
  const Result<Launch> launch = read_launch(environment_of_process, true);
  return launch.ok() ? std::max(launch->size, 1) : 1;
}

/// This process's end of a group of all.
std::vector<std::unique_ptr<Communicator>> own_end(const LinkOptions& options) {
  std::vector<std::unique_ptr<Communicator>> group(static_cast<std::size_t>(process_world().size()));
  Result<std::unique_ptr<Communicator>> own = process_world().make_world_group("world", options);
  if (own.ok()) group[static_cast<std::size_t>(process_world().rank())] = std::move(own).value();
  return group;
}

std::vector<CommunicatorCase> process_cases() {
  const auto backend = [] { return make_cpu_backend(); };
  LinkOptions paced;
  paced.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
  return {{"Processes", process_count(), [](auto) { return own_end({}); }, backend},
          {"PacedProcesses", process_count(), [paced](auto) { return own_end(paced); }, backend}};
}

INSTANTIATE_TEST_SUITE_P(Processes, CommunicatorContract, ::testing::ValuesIn(process_cases()), communicator_case_name);

TEST(ProcessWorld, GroupsHoldTheRanksOfTheLayout) {
  ParallelLayout layout;
  layout.data = process_world().size();
  layout.expert = process_world().size() % 2 == 0 ? 2 : 1;
  const Result<Groups> groups = process_world().make_groups(layout, {});
  ASSERT_TRUE(groups.ok()) << groups.error().text();
  for (const auto& [group, name] : kGroupNames) {
    Communicator& communicator = groups->at(group);
    const std::vector<Rank> members = layout.members(group, Rank(process_world().rank()));
    ASSERT_EQ(communicator.size(), static_cast<int>(members.size())) << name;
    const std::vector<std::int64_t> own(members.size(), process_world().rank());
    const auto ranks = communicator.exchange(own);
    ASSERT_TRUE(ranks.ok()) << ranks.error().text();
    for (std::size_t i = 0; i < members.size(); ++i) EXPECT_EQ((*ranks)[i], members[i].value()) << name;
  }
}

TEST(ProcessFault, ARankThatStaysAwayIsNamed) {
  LinkOptions options;
  options.timeout = std::chrono::milliseconds(100);
  const Result<std::unique_ptr<Communicator>> group = process_world().make_world_group("lonely", options);
  ASSERT_TRUE(group.ok()) << group.error().text();
  const int absent = process_world().size() - 1;
  if (process_world().size() == 1 || process_world().rank() == absent) return;
  const Status status = (*group)->barrier();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find(std::to_string(absent)), std::string::npos) << status.error().text();
}

}  // namespace
}  // namespace moecast::testing
