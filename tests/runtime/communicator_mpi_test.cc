#include "runtime/comm/mpi.h"
#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/communicator_contract_suite.h"
#include "tests/runtime/mpi_testing.h"

// Runs as several processes: mpirun -n 4 runtime_mpi_tests.

namespace moecast::testing {
namespace {

int process_count() {
  const char* text = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (text == nullptr) text = std::getenv("PMI_SIZE");
  return text == nullptr ? 1 : std::atoi(text);
}

/// This process's end of a group of all.
std::vector<std::unique_ptr<Communicator>> own_end(const LinkOptions& options) {
  std::vector<std::unique_ptr<Communicator>> group(static_cast<std::size_t>(mpi_world().size()));
  group[static_cast<std::size_t>(mpi_world().rank())] = mpi_world().make_world_group("world", options);
  return group;
}

std::vector<CommunicatorCase> mpi_cases() {
  const auto backend = [] { return make_cpu_backend(); };
  LinkOptions paced;
  paced.pacing = PacedLink{std::chrono::microseconds(20), BytesPerSecond(1e9)};
  return {{"Mpi", process_count(), [](auto) { return own_end({}); }, backend},
          {"PacedMpi", process_count(), [paced](auto) { return own_end(paced); }, backend}};
}

INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorContract, ::testing::ValuesIn(mpi_cases()), communicator_case_name);

TEST(MpiWorld, GroupsHoldTheRanksOfTheLayout) {
  ASSERT_TRUE(MpiWorld::is_launched());
  ParallelLayout layout;
  layout.data = mpi_world().size();
  layout.expert = mpi_world().size() % 2 == 0 ? 2 : 1;
  const Groups groups = mpi_world().make_groups(layout, {});
  for (const auto& [group, name] : kGroupNames) {
    Communicator& communicator = groups.at(group);
    const std::vector<Rank> members = layout.members(group, Rank(mpi_world().rank()));
    ASSERT_EQ(communicator.size(), static_cast<int>(members.size())) << name;
    const std::vector<std::int64_t> own(members.size(), mpi_world().rank());
    const auto ranks = communicator.exchange(own);
    ASSERT_TRUE(ranks.ok()) << ranks.error().text();
    for (std::size_t i = 0; i < members.size(); ++i) EXPECT_EQ((*ranks)[i], members[i].value()) << name;
  }
}

TEST(MpiFault, ARankThatStaysAwayIsNamed) {
  LinkOptions options;
  options.timeout = std::chrono::milliseconds(100);
  const std::unique_ptr<Communicator> group = mpi_world().make_world_group("lonely", options);
  const int absent = mpi_world().size() - 1;
  if (mpi_world().size() == 1 || mpi_world().rank() == absent) return;
  const Status status = group->barrier();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find(std::to_string(absent)), std::string::npos) << status.error().text();
}

}  // namespace
}  // namespace moecast::testing
