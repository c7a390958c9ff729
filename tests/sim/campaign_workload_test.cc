#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "hwprofiles/profile_json.h"
#include "models/checkpoint/checkpoint_plan.h"
#include "models/metrics.h"
#include "models/moe_model_json.h"
#include "sim/campaign/campaign_executor.h"
#include "sim/campaign/campaign_json.h"
#include "sim/campaign/workload_costs.h"
#include "sim/scenario.h"

namespace moecast {
namespace {

const std::string kCase3 = R"({
  "name": "case 3",
  "campaign": {
    "workload": {"model": "models/zoo/gpt_350m_16e.json", "parallel": {"data": 16, "expert": 8, "zero_stage": 2},
                 "batch": {"micro_batch": 4, "sequence": 1024}, "precision": "bf16"},
    "training": {"steps": 1000, "step": "1 s", "forward_backward": "0.9 s"},
    "checkpoint": {"snapshot_rate": "1 GB/s", "persist_rate": "1 GB/s"},
    "reliability": "llama3_h100",
    "policy": {"kind": "pec_two_level", "interval": 10, "snapshot_experts": 4, "persist_experts": 1},
    "replicas": 2
  }
})";

/// The same on the eight ranks that a built-in profile has.
const std::vector<std::pair<std::string, std::string>> kCase1 = {
    {"/campaign/workload/parallel", R"({"data": 8, "expert": 8})"},
    {"/campaign/training", R"({"steps": 1000})"},
    {"/campaign/hardware", "a100_nvlink_8"},
};

Result<CampaignFile> read(const std::vector<std::pair<std::string, std::string>>& changes = {}) {
  Result<JsonDocument> document = JsonDocument::parse(kCase3, "test.json", MOECAST_SOURCE_DIR);
  EXPECT_TRUE(document.ok());
  for (const auto& [pointer, value] : changes) EXPECT_TRUE(document->set(pointer, value).ok()) << pointer;
  // A name relative to a document that was no file.
  const std::string model = std::string(MOECAST_SOURCE_DIR) + "/models/zoo/gpt_350m_16e.json";
  EXPECT_TRUE(document->set("/campaign/workload/model", model).ok());
  return read_campaign(*document);
}

Workload workload_of(std::int64_t data, int zero_stage = 2) {
  Workload workload;
  workload.model = load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo/gpt_350m_16e.json").value();
  workload.layout.data = data;
  workload.layout.expert = 8;
  workload.layout.zero_stage = zero_stage;
  workload.batch = {4, 1, 1024};
  workload.bytes_per_element = 2;
  return workload;
}

/// The first checkpoint, then `count` more with these K as the runtime would plan them, slice by slice.
std::vector<RankBytes> plans(const Workload& workload, const CheckpointPolicy& policy, ExpertCounts counts,
                             std::int64_t count) {
  const auto inventory =
      CheckpointInventory::make(workload.model, workload.layout, precision_of(workload.bytes_per_element));
  SelectionState state(inventory->experts(), policy);
  std::vector<RankBytes> out;
  for (std::int64_t step = 0; step <= count; ++step) {
    const std::vector<std::int64_t> tokens(inventory->experts().size(), step);
    const Selection selection = select_experts(policy, counts, state, tokens);
    out.push_back(build_checkpoint_plan(*inventory, policy, selection).bytes);
    state.commit(CheckpointLevel::Memory, selection, step, tokens);
    state.commit(CheckpointLevel::Storage, selection, step, tokens);
  }
  return out;
}

TEST(CampaignWorkload, BytesOfFullCheckpointsAreThePlans) {
  const Workload workload = workload_of(16);
  for (const CheckpointKind kind : {CheckpointKind::BlockingFull, CheckpointKind::AsynchronousFull}) {
    for (const bool spread : {false, true}) {
      CheckpointPolicy policy;
      policy.kind = kind;
      if (!spread) policy.sharding = {ExpertSharding::GroupZero, NonExpertSharding::RankZero};
      const CheckpointCosts costs = planned_sizes(workload, policy).value();
      const RankBytes plan = plans(workload, policy, {}, 0).front();
      EXPECT_EQ(costs.total_bytes(1), plan.total(CheckpointLevel::Storage).value());
      EXPECT_EQ(costs.rank_bytes(CheckpointLevel::Memory, 1), plan.bottleneck(CheckpointLevel::Memory).value());
      EXPECT_EQ(costs.rank_bytes(CheckpointLevel::Storage, 1), plan.bottleneck(CheckpointLevel::Storage).value());
    }
  }
}

TEST(CampaignWorkload, BytesOfPartialCheckpointsAreThePlans) {
  const Workload workload = workload_of(16);
  for (const char* preset : {"pec_full_state", "pec_reported"}) {
    for (const auto& [snapshot, persist] : {std::pair{1, 1}, {4, 1}, {3, 2}, {16, 4}}) {
      CheckpointPolicy policy;
      policy.kind = snapshot == persist ? CheckpointKind::PartialOneLevel : CheckpointKind::PartialTwoLevel;
      policy.partial.experts = {snapshot, persist};
      for (const auto& [name, rules] : component_presets()) {
        if (name == preset) policy.partial.components = rules;
      }
      const CheckpointCosts costs = planned_sizes(workload, policy).value();
      const std::vector<RankBytes> made = plans(workload, policy, policy.partial.experts, 16);
      EXPECT_EQ(costs.total_bytes(1), made.front().total(CheckpointLevel::Storage).value());
      Bytes memory(0);
      Bytes storage(0);
      for (std::size_t i = 1; i < made.size(); ++i) {
        EXPECT_NEAR(costs.total_bytes(snapshot / 16.0), made[i].total(CheckpointLevel::Memory).value(), 1);
        EXPECT_NEAR(costs.total_bytes(persist / 16.0), made[i].total(CheckpointLevel::Storage).value(), 1);
        memory = std::max(memory, made[i].bottleneck(CheckpointLevel::Memory));
        storage = std::max(storage, made[i].bottleneck(CheckpointLevel::Storage));
      }
      EXPECT_EQ(costs.rank_bytes(CheckpointLevel::Memory, snapshot / 16.0), memory.value()) << snapshot;
      EXPECT_EQ(costs.rank_bytes(CheckpointLevel::Storage, persist / 16.0), storage.value()) << persist;
    }
  }
}

TEST(CampaignWorkload, EveryKOfDynamicKHasItsBytes) {
  const Workload workload = workload_of(16);
  CheckpointPolicy policy;
  policy.kind = CheckpointKind::PartialTwoLevel;
  policy.partial.experts = {4, 1};
  policy.partial.dynamic = DynamicK{};
  const CheckpointCosts costs = planned_sizes(workload, policy).value();
  for (const auto& [snapshot, persist] : {std::pair{4, 1}, {8, 2}, {16, 4}, {16, 8}}) {
    const std::vector<RankBytes> made = plans(workload, policy, {snapshot, persist}, 16);
    Bytes storage(0);
    for (std::size_t i = 1; i < made.size(); ++i) {
      storage = std::max(storage, made[i].bottleneck(CheckpointLevel::Storage));
    }
    EXPECT_EQ(costs.rank_bytes(CheckpointLevel::Storage, persist / 16.0), storage.value()) << persist;
  }
}

TEST(CampaignWorkload, ARankLoadsAllThatItHolds) {
  const Workload workload = workload_of(16);
  const CheckpointCosts costs = planned_sizes(workload, CheckpointPolicy{}).value();
  const Precision precision = precision_of(workload.bytes_per_element);
  const RankMemory memory = rank_memory(workload.model, workload.layout, Rank(0), precision);
  const double held = (memory.weight + memory.master + memory.moments).value();
  EXPECT_NEAR(costs.held_bytes(1), held, 1e-4 * held);  // ZeRO's shares are rounded tensor by tensor in a plan
}

TEST(CampaignWorkload, TheStepIsTheSimulatedOne) {
  const Result<CampaignFile> file = read(kCase1);
  ASSERT_TRUE(file.ok()) << file.error().text();
  Scenario scenario;
  scenario.workload = workload_of(8, 0);
  scenario.hardware = find_profile("a100_nvlink_8", ".").value();
  const Timeline timeline = simulate(scenario).value();
  const CampaignTraining& training = file->scenario.training;
  EXPECT_EQ(training.step, step_metrics(timeline).step_time);
  for (const Span& span : timeline.spans) {
    const bool updates = timeline.plan.operators[span.op.index()].kind == OpKind::Optimizer;
    EXPECT_EQ(updates && span.start - Instant{} < training.forward_backward, false);
  }
  EXPECT_LT(training.forward_backward, training.step);
  EXPECT_GT(seconds(training.forward_backward), 0.5 * seconds(training.step));
  EXPECT_EQ(file->scenario.cluster.gpus, 8);
  EXPECT_EQ(file->scenario.experts, (ExpertPlacement{16, 12, 8, 1, 0}));
  EXPECT_EQ(file->scenario.derived.size(), 3U);
}

/// One copy beside steps of compute, then communication, in small ticks: by how much training falls behind for each
/// second that the copy takes alone.
double walked_interference(double communicating, double stretch, double link, double port, double rate) {
  constexpr double kTick = 1e-5;
  double elapsed = 0;
  double trained = 0;  // seconds of the undisturbed step, over and over
  for (double copied = 0; copied < 20; elapsed += kTick) {
    const bool sends = trained - std::floor(trained) >= 1 - communicating;
    double copy = std::min(rate, link);
    double send = std::min(port, link);
    if (sends && copy + send > link) {  // both want more than there is: half each, or what the other leaves
      const double half = link / 2;
      if (copy < half) {
        send = link - copy;
      } else if (send < half) {
        copy = link - send;
      } else {
        copy = send = half;
      }
    }
    copied += kTick * copy / rate;
    trained += sends ? kTick * send / std::min(port, link) : kTick / stretch;
  }
  return (elapsed - trained) / 20;
}

TEST(CampaignWorkload, ContentionIsThatOfAWalkInSmallTicks) {
  HardwareProfile hardware;
  for (const double stretch : {1.0, 1.3}) {
    for (const double port : {5e9, 20e9, 300e9}) {
      for (const double rate : {1e9, 15e9, 25e9}) {
        hardware.interference.compute_beside_copy = stretch;
        hardware.node.all_to_all.bandwidth = BytesPerSecond(port);
        hardware.node.host_link = HostLink{BytesPerSecond(25e9), true};
        EXPECT_NEAR(snapshot_interference(0.4, hardware, BytesPerSecond(rate)),
                    walked_interference(0.4, stretch, 25e9, port, rate), 0.01)
            << stretch << " " << port << " " << rate;
      }
    }
  }
  hardware.interference.compute_beside_copy = 1;
  hardware.node.host_link->shared = false;
  EXPECT_EQ(snapshot_interference(0.4, hardware, BytesPerSecond(25e9)), 0);
  hardware.node.host_link.reset();
  EXPECT_EQ(snapshot_interference(0.4, hardware, BytesPerSecond(25e9)), 0);
}

TEST(CampaignWorkload, ASharedLinkSlowsTrainingAndTheFileMaySayOtherwise) {
  auto changes = kCase1;
  changes.emplace_back("/campaign/checkpoint/snapshot_rate", "\"32 GB/s\"");
  EXPECT_EQ(read(changes)->scenario.costs.snapshot_interference, 0);
  HardwareProfile hardware = find_profile("a100_nvlink_8", ".").value();
  hardware.node.host_link->shared = true;
  changes.emplace_back("/campaign/hardware", to_json(hardware).dump());
  const CampaignScenario scenario = read(changes)->scenario;
  const StepTimes step = simulated_step(workload_of(8, 0), hardware).value();
  EXPECT_NEAR(scenario.costs.snapshot_interference, step.communicating, 1e-6);  // both ask for all of the link
  EXPECT_GT(step.communicating, 0);
  changes.emplace_back("/campaign/checkpoint/snapshot_interference", "0.25");
  EXPECT_EQ(read(changes)->scenario.costs.snapshot_interference, 0.25);
}

TEST(CampaignWorkload, AClusterRunsWhatOneNodeCannot) {
  auto changes = kCase1;
  changes.emplace_back("/campaign/workload/parallel/data", "16");
  changes.emplace_back("/campaign/hardware", "a100_cluster");
  const Result<CampaignFile> file = read(changes);
  ASSERT_TRUE(file.ok()) << file.error().text();
  EXPECT_EQ(file->scenario.cluster.gpus, 16);
  EXPECT_LT(file->scenario.training.forward_backward, file->scenario.training.step);
}

TEST(CampaignWorkload, WhatStandsInTheFileWins) {
  auto changes = kCase1;
  changes.emplace_back("/campaign/training/step", "\"10 s\"");
  changes.emplace_back("/campaign/checkpoint/rank_bytes", R"({"non_expert": "1 GB", "expert": "2 GB"})");
  changes.emplace_back("/campaign/experts", R"({"zipf": 0.5})");
  const Result<CampaignFile> file = read(changes);
  ASSERT_TRUE(file.ok()) << file.error().text();
  const CampaignScenario& scenario = file->scenario;
  const CampaignTraining simulated = read(kCase1)->scenario.training;
  EXPECT_EQ(seconds(scenario.training.step), 10);
  EXPECT_NEAR(seconds(scenario.training.forward_backward) / 10,
              seconds(simulated.forward_backward) / seconds(simulated.step), 1e-6);
  EXPECT_EQ(scenario.costs.rank_bytes(CheckpointLevel::Memory, 0.25), 1.5e9);
  EXPECT_EQ(scenario.costs.held_bytes(1), 3e9);
  EXPECT_EQ(scenario.costs.total_bytes(1), planned_sizes(workload_of(8, 0), scenario.policy)->total_bytes(1));
  EXPECT_EQ(scenario.experts.experts_per_layer, 16);
  EXPECT_EQ(scenario.experts.zipf, 0.5);
}

TEST(CampaignWorkload, TheResolvedFileNeedsNoWorkload) {
  const CampaignFile file = read().value();
  const Result<JsonDocument> document = JsonDocument::parse(to_json(file).dump(), "again.json");
  ASSERT_TRUE(document.ok());
  EXPECT_FALSE(document->json()["campaign"].contains("workload"));
  const Result<CampaignFile> again = read_campaign(*document);
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(again->scenario.costs, file.scenario.costs);
  EXPECT_EQ(again->scenario.experts, file.scenario.experts);
  EXPECT_EQ(again->scenario.derived, file.scenario.derived);
  EXPECT_EQ(run_campaign(again->scenario, 1), run_campaign(file.scenario, 1));
}

TEST(CampaignWorkload, RefusesWhatDoesNotGoTogether) {
  const auto refused = [](const std::string& pointer, const std::string& value, const std::string& said) {
    auto changes = kCase1;
    changes.emplace_back(pointer, value);
    const Result<CampaignFile> file = read(changes);
    ASSERT_FALSE(file.ok()) << pointer;
    EXPECT_EQ(exit_code(file.error().kind), 2);
    EXPECT_NE(file.error().text().find(said), std::string::npos) << file.error().text();
    EXPECT_EQ(file.error().problems.size(), 1U) << file.error().text();  // and nothing that only follows from it
  };
  refused("/campaign/workload/parallel/data", "16", "/campaign/hardware: expected a profile of at least");
  refused("/campaign/cluster", R"({"gpus": 64})", "the 8 ranks of the workload");
  refused("/campaign/hardware", "a100_nvlink_9", "a100_nvlink_8");
  refused("/campaign/workload/parallel/expert", "3", "/campaign/workload/parallel");
  refused("/campaign/policy/snapshot_experts", "17", "at most the 16 experts");
}

}  // namespace
}  // namespace moecast
