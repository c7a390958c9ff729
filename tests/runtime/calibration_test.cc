#include "runtime/calibration/calibrate.h"

#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "hwprofiles/names.h"
#include "hwprofiles/profile_json.h"
#include "models/workload.h"
#include "runtime/calibration/kernel_bench.h"
#include "runtime/calibration/kernel_runner.h"
#include "runtime/calibration/kernel_timer.h"
#include "runtime/calibration/work_grid.h"
#include "runtime/cpu/cpu_backend.h"
#include "tests/runtime/queued_backend_testing.h"

namespace moecast {
namespace {

CalibrationOptions tiny_options(std::int64_t ranks) {
  CalibrationOptions options;
  options.ranks = ranks;
  options.budget = std::chrono::milliseconds(50);
  options.working_set = Bytes(1 << 20);
  return options;
}

/// A plan with a MoE block, gated shared expert, biases and learned positions.
Result<StepPlan> small_plan(std::int64_t bytes_per_element = 4) {
  MoeModel model;
  model.name = "small";
  model.d_model = 48;
  model.vocabulary = 100;
  model.max_sequence = 24;
  model.attention = {2, 2, 24};
  MoeFfn moe;
  moe.expert_count = 4;
  moe.expert_width = 80;
  moe.shared_expert_width = 64;
  moe.gate.top_k = 2;
  moe.capacity_factor = 1.5;
  moe.coefficient_gate = CoefficientGate::Cg1;
  model.blocks = {Block{96, std::nullopt}, Block{0, moe}};
  const ParallelLayout layout{2, 2, 1, 1, 0};
  return build_step_plan({model, layout, Batch{2, 1, 24}, {}, bytes_per_element, {}});
}

/// The same calibration serves all tests that only look at it.
const CalibrationResult& paced_calibration() {
  static const CalibrationResult result = [] {
    Log log(LogLevel::Error);
    CalibrationOptions options = tiny_options(2);
    options.pacing = PacedLink{std::chrono::milliseconds(2), BytesPerSecond(1e9)};
    return calibrate_with_samples(options, log).value();
  }();
  return result;
}

void expect_complete(const HardwareProfile& profile, std::int64_t ranks) {
  EXPECT_EQ(profile.node.ranks, ranks);
  ASSERT_TRUE(profile.fit.has_value());
  EXPECT_GT(profile.fit->held_out_count, 0);
  EXPECT_GT(profile.device.peak.value(), 0);
  EXPECT_GT(profile.device.memory_rate.value(), 0);
  EXPECT_GT(profile.device.memory.count(), 0);
  EXPECT_GT(profile.node.all_to_all.bandwidth.value(), 0);
  EXPECT_GE(profile.interference.compute_beside_communication, 1);
  EXPECT_GE(profile.interference.communication_beside_compute, 1);
  for (const double rate : profile.device.gemm.flops_per_second) EXPECT_GT(rate, 0);
}

TEST(Calibration, GivesACompleteProfileThatReadsBack) {
  const HardwareProfile& profile = paced_calibration().profile;
  expect_complete(profile, 2);
  const auto document = JsonDocument::parse(to_json_text(profile), "p.json");
  ASSERT_TRUE(document.ok()) << document.error().text();
  JsonReader reader(*document);
  const HardwareProfile again = read_profile(reader);
  const Status read = reader.finish();
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(again, profile);
}

TEST(Calibration, ASingleRankNeedsNoLink) {
  Log log(LogLevel::Error);
  const auto profile = calibrate(tiny_options(1), log);
  ASSERT_TRUE(profile.ok()) << profile.error().text();
  expect_complete(*profile, 1);
}

/// A backend that queues its kernels is timed by events, and its collectives go through host memory.
TEST(Calibration, MeasuresABackendOfQueues) {
  Log log(LogLevel::Error);
  CalibrationOptions options = tiny_options(2);
  options.make_backend = [](int) { return testing::make_queued_backend(); };
  options.device_memory = Bytes(1 << 30);
  const auto profile = calibrate(options, log);
  ASSERT_TRUE(profile.ok()) << profile.error().text();
  expect_complete(*profile, 2);
  EXPECT_EQ(profile->device.memory, Bytes(1 << 30));
  EXPECT_NE(profile->sources.at("").reference.find("queued x2, staged inproc link"), std::string::npos);
}

TEST(Calibration, EveryKernelOfAPlanHasACurveAndATime) {
  const HardwareProfile& profile = paced_calibration().profile;
  const auto plan = small_plan();
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  for (const Operator& op : plan->operators) {
    for (const Work& work : op.work) {
      EXPECT_GT(profile.device.time(work).count(), 0) << op.name();
      if (const auto* memory = std::get_if<MemoryWork>(&work)) {
        EXPECT_TRUE(profile.device.memory_kernels.contains(memory->kernel)) << to_text(memory->kernel);
      }
    }
    if (op.communication) {
      EXPECT_GT(profile.time(*op.communication, 2).count(), 0) << op.name();
    }
  }
}

TEST(Calibration, LargerKernelsNeverTakeLess) {
  for (const auto& [kernel, cost] : paced_calibration().profile.device.memory_kernels) {
    for (const CostCurve& curve : cost.curves) {
      for (std::size_t i = 1; i < curve.points.size(); ++i) {
        EXPECT_GE(curve.points[i].time, curve.points[i - 1].time) << to_text(kernel);
      }
    }
  }
}

TEST(Calibration, PacedLinkIsMeasuredAsPaced) {
  const CalibrationResult& result = paced_calibration();
  ASSERT_FALSE(result.links.empty());
  for (const LinkSample& sample : result.links) EXPECT_GE(sample.time, std::chrono::milliseconds(2));
  EXPECT_NE(result.profile.source_of("/node/all_to_all/latency")->reference.find("paced to 2 ms"), std::string::npos);
}

TEST(Calibration, RefusesNonsense) {
  Log log(LogLevel::Error);
  CalibrationOptions no_ranks = tiny_options(0);
  EXPECT_EQ(calibrate(no_ranks, log).error().kind, ErrorKind::BadInput);
  CalibrationOptions no_time = tiny_options(1);
  no_time.budget = Duration(0);
  EXPECT_EQ(calibrate(no_time, log).error().kind, ErrorKind::BadInput);
}

TEST(Calibration, StopsWhenTold) {
  Log log(LogLevel::Error);
  for (const std::string at : {"link", "kernels"}) {
    const auto stop = [&](double, std::string_view what) { return what != at; };
    const auto result = calibrate(tiny_options(2), log, stop);
    ASSERT_FALSE(result.ok()) << at;
    EXPECT_EQ(result.error().kind, ErrorKind::Interrupted) << result.error().text();
  }
}

TEST(Calibration, ARankWithoutABackendEndsTheRun) {
  Log log(LogLevel::Error);
  CalibrationOptions options = tiny_options(2);
  options.make_backend = [](int rank) -> Result<std::unique_ptr<Backend>> {
    if (rank == 1) return Error{ErrorKind::Unavailable, "rank 1", "no such device"};
    return make_cpu_backend();
  };
  const auto result = calibrate(options, log);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind, ErrorKind::Unavailable) << result.error().text();
}

TEST(Calibration, SamplesAreOneJsonObjectALine) {
  const CalibrationResult& result = paced_calibration();
  const std::string lines = to_json_lines(result);
  std::size_t count = 0;
  for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1, ++count) {
    const auto json = nlohmann::json::parse(lines.substr(begin, end - begin), nullptr, false);
    ASSERT_FALSE(json.is_discarded());
    EXPECT_TRUE(json.contains("kernel") != json.contains("collective"));
    EXPECT_TRUE(parse_duration(json["time"].get<std::string>()).ok());
  }
  EXPECT_EQ(count, result.kernels.size() + result.links.size());
}

TEST(KernelCalls, EveryWorkOfAPlanRuns) {
  const auto backend = make_cpu_backend();
  for (const auto& [dtype, element] : {std::pair(DType::F32, 4), std::pair(DType::F64, 8)}) {
    Operands operands(*backend, dtype);
    const auto plan = small_plan(element);
    ASSERT_TRUE(plan.ok()) << plan.error().text();
    for (const Operator& op : plan->operators) {
      for (const Work& work : op.work) {
        operands.reset();
        const auto calls = kernel_calls(*backend, operands, work, Lane::Compute, Bytes(1 << 16));
        ASSERT_TRUE(calls.ok()) << op.name();
        const auto time = time_kernel(*backend, Lane::Compute, calls.value(), 2, 1);
        ASSERT_TRUE(time.ok());
        EXPECT_GT(typical_time(time.value()), 0) << op.name();
      }
    }
  }
}

TEST(KernelCalls, SetsCoverTheWorkingSet) {
  const auto backend = make_cpu_backend();
  Operands operands(*backend, DType::F32);
  const MemoryWork work{MemoryKernel::Add, 64, 64, Bytes(3 * 64 * 64 * 4)};
  const auto calls = kernel_calls(*backend, operands, work, Lane::Compute, Bytes(5 * 3 * 64 * 64 * 4));
  ASSERT_TRUE(calls.ok());
  EXPECT_EQ(calls.value().calls.size(), 5U);
  EXPECT_EQ(calls.value().form_count, 1U);
}

TEST(WorkGrid, HoldsEveryMemoryKernelOnceForEachSize) {
  for (const auto& [accelerator, max_cost] : {std::pair(false, 2e7), std::pair(true, 1e12)}) {
    const auto grid = calibration_grid(2, max_cost, accelerator);
    ASSERT_TRUE(grid.ok()) << grid.error().text();
    std::set<MemoryKernel> found;
    for (const Work& work : grid->fitted) {
      EXPECT_LE(estimated_cost(work), max_cost);
      if (const auto* memory = std::get_if<MemoryWork>(&work)) found.insert(memory->kernel);
    }
    for (const MemoryKernel kernel : all_memory_kernels()) EXPECT_TRUE(found.contains(kernel)) << to_text(kernel);
    EXPECT_GT(grid->held_out.size(), 20U);
  }
}

}  // namespace
}  // namespace moecast
