#include <gtest/gtest.h>

#include "runtime/comm/mpi.h"
#include "tests/runtime/process_world_testing.h"

namespace moecast::testing {
namespace {

std::unique_ptr<ProcessWorld> world;

class MeetOthers : public ::testing::Environment {
 public:
  void SetUp() override {
    const Result<Launch> launch = read_launch(environment_of_process, is_mpi_built());
    ASSERT_TRUE(launch.ok()) << launch.error().text();
    Result<std::unique_ptr<ProcessWorld>> met = meet_processes(*launch, std::chrono::seconds(60));
    ASSERT_TRUE(met.ok()) << met.error().text();
    world = std::move(met).value();
  }
  void TearDown() override { world.reset(); }
};
const auto* const meet_others = ::testing::AddGlobalTestEnvironment(new MeetOthers);

}  // namespace

ProcessWorld& process_world() { return *world; }

}  // namespace moecast::testing
