#include <gtest/gtest.h>

#include "tests/runtime/mpi_testing.h"

namespace moecast::testing {
namespace {

std::unique_ptr<MpiWorld> world;

class StartMpi : public ::testing::Environment {
 public:
  void SetUp() override {
    Result<std::unique_ptr<MpiWorld>> started = MpiWorld::start();
    ASSERT_TRUE(started.ok()) << started.error().text();
    world = std::move(started).value();
  }
  void TearDown() override { world.reset(); }
};
const auto* const start_mpi = ::testing::AddGlobalTestEnvironment(new StartMpi);

}  // namespace

const MpiWorld& mpi_world() { return *world; }

}  // namespace moecast::testing
