#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "runtime/comm/inproc.h"
#include "runtime/gpu_module.h"
#include "tests/runtime/communicator_contract_suite.h"
#include "tests/runtime/fake_nccl_testing.h"
#include "tests/runtime/staged_group_testing.h"
#include "tests/runtime/tcp_world_testing.h"
#include "tests/runtime/trainer_testing.h"

// Collectives on a GPU. Through pinned host memory: ranks that share it. NCCL: one rank in this process; then two
// processes that share the GPU, which NCCL allows if each says that it is another machine (NCCL_HOSTID). The two are
// started by SharedGpu.TwoProcesses and run the tests of this file that look for them.

namespace moecast::testing {
namespace {

std::unique_ptr<Backend> gpu_or_none() {
  Result<std::unique_ptr<Backend>> backend = make_cuda_backend(0);
  return backend.ok() ? std::move(backend).value() : nullptr;
}
std::unique_ptr<Backend> gpu_with_nccl() { return load_nccl().ok() ? gpu_or_none() : nullptr; }

std::vector<CommunicatorCase> staged_cases() {
  std::vector<CommunicatorCase> cases;
  for (const int size : {2, 4, 8})
    cases.push_back({"CudaOf" + std::to_string(size), size, make_staged_group, gpu_or_none});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Staged, CommunicatorContract, ::testing::ValuesIn(staged_cases()), communicator_case_name);

bool is_one_of_two() { return environment_of_process("MOECAST_TEST_RANK") != ""; }

std::vector<std::unique_ptr<Communicator>> alone(std::span<const std::unique_ptr<Backend>> backends) {
  std::vector<std::unique_ptr<Communicator>> ends;
  ends.push_back(make_owning_nccl(**load_nccl(), std::move(make_inproc_group(1, {}).front()), *backends[0], {}));
  return ends;
}
INSTANTIATE_TEST_SUITE_P(Nccl, CommunicatorContract,
                         ::testing::Values(CommunicatorCase{"OfOne", 1, alone, gpu_with_nccl}), communicator_case_name);

/// Of the process that SharedGpu.TwoProcesses has started; both meet at the first call.
ProcessWorld& shared_world() {
  static const std::unique_ptr<ProcessWorld> world = [] {
    const int port = std::atoi(environment_of_process("MOECAST_TEST_PORT").c_str());
    const int rank = std::atoi(environment_of_process("MOECAST_TEST_RANK").c_str());
    return std::move(meet_processes(launch_at(port, rank, 2), std::chrono::seconds(60))).value();
  }();
  return *world;
}

std::unique_ptr<Communicator> own_end(Backend& backend, const NcclOptions& options) {
  auto host = shared_world().make_world_group("world", {});
  EXPECT_TRUE(host.ok()) << host.error().text();
  return make_owning_nccl(**load_nccl(), std::move(host).value(), backend, options);
}

std::vector<std::unique_ptr<Communicator>> own_end_of_two(std::span<const std::unique_ptr<Backend>> backends) {
  std::vector<std::unique_ptr<Communicator>> ends(2);
  const auto rank = static_cast<std::size_t>(shared_world().rank());
  ends[rank] = own_end(*backends[rank], {});
  return ends;
}
std::unique_ptr<Backend> gpu_of_two() { return is_one_of_two() ? gpu_with_nccl() : nullptr; }
INSTANTIATE_TEST_SUITE_P(NcclOfTwo, CommunicatorContract,
                         ::testing::Values(CommunicatorCase{"Processes", 2, own_end_of_two, gpu_of_two}),
                         communicator_case_name);

TEST(NcclOfTwo, ACallThatDoesNotEndIsAbortedAndAnotherGroupBuilt) {
  const std::unique_ptr<Backend> backend = gpu_of_two();
  if (!backend) GTEST_SKIP() << "not one of two processes";
  auto memory = backend->allocate(Bytes(4096));
  ASSERT_TRUE(memory.ok());
  const Tensor buffer((*memory)->data(), DType::F32, {1024});
  {
    const auto end = own_end(*backend, {.timeout = std::chrono::seconds(3)});
    ASSERT_TRUE(end->all_reduce(buffer).ok());
    backend->synchronize(Lane::Comm);
    ASSERT_TRUE(end->check().ok());
    if (end->rank() == 0) {
      ASSERT_TRUE(end->all_reduce(buffer).ok());
      backend->synchronize(Lane::Comm);
      EXPECT_FALSE(end->check().ok());
    }
  }
  const auto end = own_end(*backend, {.timeout = std::chrono::seconds(60)});
  EXPECT_TRUE(end->all_reduce(buffer).ok());
  backend->synchronize(Lane::Comm);
  EXPECT_TRUE(end->check().ok()) << end->check().error().text();
}

TEST(NcclOfTwo, TrainsAsTheCpuDoes) {
  if (!gpu_of_two()) GTEST_SKIP() << "not one of two processes";
  const TextFile text;
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  workload.layout.data = workload.layout.expert = 2;
  use_shared_expert(workload, Shortcut::Pos2);
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 3};
  TrainConfig config = train_config(workload, text, 20);
  const Result<TrainResult> cpu = run_training(config);
  ASSERT_TRUE(cpu.ok()) << cpu.error().text();
  config.runtime.backend = BackendKind::Cuda;
  config.runtime.communicator = CommunicatorKind::Nccl;
  Log log(LogLevel::Error);
  const Result<TrainResult> nccl = train_as_process(shared_world(), config, log, {}, false);
  ASSERT_TRUE(nccl.ok()) << nccl.error().text();
  for (std::size_t step = 0; step < cpu->loss.size(); ++step) {
    EXPECT_NEAR(nccl->loss[step], cpu->loss[step], 2e-3) << "step " << step;
  }
}

/// Runs the tests of two processes in one of them.
pid_t start_process(int rank, int port) {
  const pid_t child = fork();
  if (child != 0) return child;
  const std::string number = std::to_string(rank);
  setenv("MOECAST_TEST_RANK", number.c_str(), 1);
  setenv("MOECAST_TEST_PORT", std::to_string(port).c_str(), 1);
  setenv("NCCL_HOSTID", ("moecast" + number).c_str(), 1);
  setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  execl("/proc/self/exe", "runtime_gpu_tests", "--gtest_filter=NcclOfTwo*", nullptr);
  _exit(99);
}

TEST(SharedGpu, TwoProcesses) {
  if (is_one_of_two() || !gpu_with_nccl()) GTEST_SKIP() << "no GPU on this machine, or no NCCL";
  const int port = free_port();
  std::array<pid_t, 2> children = {start_process(0, port), start_process(1, port)};
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  }
}

}  // namespace
}  // namespace moecast::testing
