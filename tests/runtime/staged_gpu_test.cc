#include <gtest/gtest.h>

#include "runtime/gpu_module.h"
#include "tests/runtime/trainer_testing.h"

// Whole training runs of ranks that share a GPU, collectives through pinned host memory, beside the CPU's.

namespace moecast::testing {
namespace {

std::unique_ptr<Backend> gpu_or_none() {
  Result<std::unique_ptr<Backend>> backend = make_cuda_backend(0);
  return backend.ok() ? std::move(backend).value() : nullptr;
}

/// Losses over 50 steps: of rounding alone in F32; in BF16 the model learns the same, with 8 bits of mantissa.
void expect_losses_of_the_cpu(std::int64_t bytes_per_element, CoefficientGate gate, double tolerance) {
  if (gpu_or_none() == nullptr) GTEST_SKIP() << "no GPU on this machine";
  const TextFile text;
  Workload workload = tiny_workload();
  workload.bytes_per_element = 4;
  workload.layout.data = 2;
  workload.layout.expert = 2;
  use_shared_expert(workload, Shortcut::Pos2, gate);
  for_each_moe(workload, [](MoeFfn& moe) { moe.capacity_factor = 2; });
  workload.schedule = {ScheduleKind::Shortcut, 1, 2, 3};
  TrainConfig config = train_config(workload, text, 50);
  const Result<TrainResult> cpu = run_training(config);
  ASSERT_TRUE(cpu.ok()) << cpu.error().text();
  config.runtime.backend = BackendKind::Cuda;
  config.workload.bytes_per_element = bytes_per_element;
  const Result<TrainResult> cuda = run_training(config);
  ASSERT_TRUE(cuda.ok()) << cuda.error().text();
  EXPECT_EQ(cuda->backend, "cuda");
  for (std::size_t step = 0; step < cpu->loss.size(); ++step) {
    EXPECT_NEAR(cuda->loss[step], cpu->loss[step], tolerance) << "step " << step;
  }
}

TEST(CudaTraining, F32HasTheLossesOfTheCpu) { expect_losses_of_the_cpu(4, CoefficientGate::Cg1, 2e-3); }
TEST(CudaTraining, Bf16LearnsWhatTheCpuLearns) { expect_losses_of_the_cpu(2, CoefficientGate::DirectAdd, 5e-2); }

}  // namespace
}  // namespace moecast::testing
