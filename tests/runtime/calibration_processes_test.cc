#include <gtest/gtest.h>

#include "hwprofiles/profile_json.h"
#include "runtime/calibration/calibrate.h"
#include "runtime/calibration/findings.h"
#include "tests/runtime/fake_nccl_testing.h"
#include "tests/runtime/queued_backend_testing.h"
#include "tests/runtime/tcp_world_testing.h"

// Calibration by ranks that would be processes: here threads that have met over TCP.

namespace moecast::testing {
namespace {

CalibrationOptions tiny_options() {
  CalibrationOptions options;
  options.ranks = 2;
  options.budget = std::chrono::milliseconds(50);
  options.working_set = Bytes(1 << 20);
  return options;
}

std::vector<Result<HardwareProfile>> calibrate_on_two(const CalibrationOptions& options) {
  std::vector<Result<HardwareProfile>> profiles(2, Error{});
  on_tcp_ranks(2, [&](ProcessWorld& world) {
    Log log(LogLevel::Error);
    profiles[static_cast<std::size_t>(world.rank())] = calibrate_as_process(world, options, log);
  });
  return profiles;
}

void expect_one_profile(const std::vector<Result<HardwareProfile>>& profiles, const std::string& link) {
  for (const Result<HardwareProfile>& profile : profiles) ASSERT_TRUE(profile.ok()) << profile.error().text();
  EXPECT_EQ(to_json_text(*profiles[0]), to_json_text(*profiles[1]));
  EXPECT_NE(profiles[0]->description.find("processes as ranks"), std::string::npos) << profiles[0]->description;
  const std::string source = profiles[0]->source_of("/node/all_to_all/latency")->reference;
  EXPECT_NE(source.find(link + " link"), std::string::npos) << source;
  EXPECT_EQ(profiles[0]->node.ranks, 2);
  EXPECT_GT(profiles[0]->node.all_to_all.bandwidth.value(), 0);
}

TEST(CalibrationOfProcesses, AllRanksGetTheProfileOfAll) {
  const std::vector<Result<HardwareProfile>> profiles = calibrate_on_two(tiny_options());
  expect_one_profile(profiles, "x2, tcp");
  EXPECT_FALSE(profiles[0]->node.host_link);  // memory is the host's
}

TEST(CalibrationOfProcesses, MeasuresNcclOnDevices) {
  reset_fake_nccl_log();
  CalibrationOptions options = tiny_options();
  options.make_backend = [](int) { return make_queued_backend(); };
  options.nccl = &fake_nccl();
  const std::vector<Result<HardwareProfile>> profiles = calibrate_on_two(options);
  expect_one_profile(profiles, "x2, nccl");
  // Memory of its own: the way to the host is measured too, and NCCL does not take it.
  ASSERT_TRUE(profiles[0]->node.host_link);
  EXPECT_GT(profiles[0]->node.host_link->bandwidth.value(), 0);
  EXPECT_FALSE(profiles[0]->node.host_link->shared);
  EXPECT_GE(profiles[0]->interference.compute_beside_copy, 1);
  EXPECT_GT(fake_nccl_log().started, 0);
  EXPECT_EQ(fake_nccl_log().open, 0);
}

TEST(CalibrationOfProcesses, ARankWithoutADeviceEndsAll) {
  CalibrationOptions options = tiny_options();
  options.make_backend = [](int rank) -> Result<std::unique_ptr<Backend>> {
    if (rank == 1) return Error{ErrorKind::Unavailable, "CUDA device", "none found"};
    return make_queued_backend();
  };
  for (const Result<HardwareProfile>& profile : calibrate_on_two(options)) {
    ASSERT_FALSE(profile.ok());
    EXPECT_NE(profile.error().text().find("none found"), std::string::npos) << profile.error().text();
  }
}

TEST(CalibrationOfProcesses, FindingsOfAnotherProgramAreRefused) {
  const std::vector<Work> works = {GemmWork{1, 2, 3}};
  RankFindings findings;
  findings.kernels = {{works[0], {{1.0, 2.0}, {}}}};
  findings.links = {{3.0}, {}};
  findings.step = {4.0};
  const std::vector<std::byte> bytes = to_bytes(findings);
  const auto back = findings_of(bytes, works);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->kernels[0].times, findings.kernels[0].times);
  EXPECT_EQ(back->links, findings.links);
  EXPECT_EQ(back->step, findings.step);
  EXPECT_FALSE(findings_of(bytes, {}));
  EXPECT_FALSE(findings_of(std::span(bytes).first(bytes.size() - 1), works));
}

}  // namespace
}  // namespace moecast::testing
