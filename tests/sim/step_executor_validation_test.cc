// The executor against closed forms: the projection of a plan, the ScMoE paper's wall time by slot and its chunk
// recurrence (Cai et al., ICML 2025, arXiv 2404.05019, section 3.2), and total = compute + exposed.
#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/reproduce.h"
#include "sim/step_executor.h"
#include "tests/models/pair_times_testing.h"
#include "tests/sim/scenario_testing.h"

namespace moecast {
namespace {

using testing_models::kTop1;
using testing_models::kTop2;
using testing_models::PairTimes;

const std::string kFolder = "experiments/scmoe/pcie_8/";

/// Costs in which collectives move one byte a nanosecond; half of their time is latency.
PlanCosts costs_of(const StepPlan& plan, const PairTimes& times) {
  PlanCosts costs;
  costs.port = BytesPerSecond(1e9);
  for (const Operator& op : plan.operators) {
    const std::int64_t time = op.phase == Phase::Forward ? times.of(op) : 0;
    if (!op.communication) {
      costs.operators.push_back({Duration(time)});
    } else {
      costs.operators.push_back({Duration(time - time / 2), static_cast<double>(time / 2), 1e9});
    }
  }
  return costs;
}

StepPlan plan_of(const Scenario& scenario) {
  const Result<StepPlan> plan =
      build_step_plan(request_of(scenario.workload, operator_time(scenario.workload.layout, scenario.hardware)));
  EXPECT_TRUE(plan.ok());
  return plan.value();
}

std::int64_t forward_ticks(const Scenario& scenario, const PairTimes& times, bool fold) {
  const StepPlan plan = plan_of(scenario);
  std::vector<Span> spans;
  StepExecutor(plan, scenario.workload.layout, costs_of(plan, times), {1, {}, fold}).run(spans);
  Instant end{};
  for (const Span& span : spans) end = std::max(end, span.end);
  return (end - Instant{}).count();
}

TEST(StepExecutorOnThePapersSchedules, GivesFigure7) {
  for (const bool fold : {true, false}) {
    EXPECT_EQ(forward_ticks(scenario_from(kFolder + "top2.json"), kTop2, fold), 2 * 646);
    EXPECT_EQ(forward_ticks(scenario_from(kFolder + "top2_pipelined.json"), kTop2, fold), 2 * 547);
    const std::array<std::int64_t, 4> by_slot = {390, 352, 387, 425};
    for (std::size_t slot = 1; slot <= by_slot.size(); ++slot) {
      const Scenario scenario =
          scenario_from(kFolder + "scmoe.json", {{"/workload/schedule/forward_slot", std::to_string(slot)}});
      EXPECT_EQ(forward_ticks(scenario, kTop1, fold), 2 * by_slot.at(slot - 1)) << slot;
    }
  }
}

/// T_wall(K) = before + gate + encode + max(pre, dispatch) + expert + max(post, combine) + decode.
TEST(StepExecutorOnThePapersSchedules, TakesTheWallTimeOfEverySlot) {
  const CounterRandom random(11, 0);
  for (std::uint64_t trial = 0; trial < 50; ++trial) {
    std::uint64_t draws = 0;
    const auto draw = [&] { return 1 + random.below(200, trial, draws++); };
    const PairTimes t{draw(), draw(), draw(), draw(), draw(), draw(), draw(), draw(), draw()};
    const std::array<std::int64_t, 3> window = {t.mlp, t.attention, t.shared};
    for (std::size_t slot = 1; slot <= 4; ++slot) {
      std::int64_t pre = 0, post = 0;
      for (std::size_t i = 0; i < window.size(); ++i) (i + 1 < slot ? pre : post) += window[i];
      const std::int64_t wall =
          t.attention + t.gate + t.encode + std::max(pre, t.dispatch) + t.expert + std::max(post, t.combine) + t.decode;
      const Scenario scenario =
          scenario_from(kFolder + "scmoe.json", {{"/workload/schedule/forward_slot", std::to_string(slot)}});
      EXPECT_NEAR(static_cast<double>(forward_ticks(scenario, t, true)), static_cast<double>(wall), 2) << slot;
    }
  }
}

/// fD(i) = sum d; fE(i) = max(fD(i), fE(i-1)) + e; fC(i) = max(fE(i), fC(i-1), fD(n)) + c.
TEST(StepExecutorOnThePapersSchedules, FollowsTheChunkRecurrence) {
  for (const std::int64_t chunks : {1, 2, 3, 6}) {
    const std::int64_t d = 240 / chunks, e = 180 / chunks, c = 300 / chunks;
    PairTimes times = kTop2;
    times.dispatch = 240;
    times.expert = 180;
    times.combine = 300;
    std::int64_t computed = 0, combined = chunks * d;
    for (std::int64_t i = 1; i <= chunks; ++i) {
      computed = std::max(i * d, computed) + e;
      combined = std::max(computed, combined) + c;
    }
    const Scenario scenario =
        scenario_from(kFolder + "top2_pipelined.json", {{"/workload/schedule/chunks", std::to_string(chunks)}});
    const std::int64_t rest = 2 * times.attention + times.mlp + times.gate + times.encode + times.decode;
    EXPECT_NEAR(static_cast<double>(forward_ticks(scenario, times, true)), static_cast<double>(rest + combined),
                static_cast<double>(2 * chunks));
  }
}

/// Without interference and stragglers a rank does what project() draws.
TEST(StepExecutorOnProfiles, AgreesWithTheProjection) {
  for (const char* file : {"top2.json", "top2_pipelined.json", "top1.json", "scmoe.json"}) {
    const Scenario scenario = scenario_from(kFolder + file);
    const StepPlan plan = plan_of(scenario);
    const OperatorTime time = operator_time(scenario.workload.layout, scenario.hardware);
    std::vector<Duration> durations;
    for (const Operator& op : plan.operators) durations.push_back(time(op));
    const std::vector<Span> projected = project(plan, durations).spans;
    const Timeline timeline = execute_step_plan(plan, scenario.workload.layout, scenario.hardware, {1, {}, false});
    ASSERT_EQ(timeline.spans.size(), 8 * projected.size());
    std::size_t rank_begin = 0;
    for (std::size_t i = 0; i < timeline.spans.size(); ++i) {
      if (i % projected.size() == 0) rank_begin = i;
      const Span& expected = projected[i - rank_begin];
      const Span& span = timeline.spans[i];
      ASSERT_EQ(span.op, expected.op);
      // A projected collective begins when it opens; so does an executed one, as all ranks come together.
      ASSERT_EQ(span.start, expected.start) << file << " " << plan.operators[span.op.index()].name();
      ASSERT_EQ(span.end, expected.end) << file << " " << plan.operators[span.op.index()].name();
    }
  }
}

TEST(StepExecutorOnProfiles, TotalIsComputePlusExposed) {
  for (const char* file : {"top2.json", "top2_pipelined.json", "top1.json", "scmoe.json"}) {
    const Result<Timeline> timeline = simulate(scenario_from(kFolder + file));
    ASSERT_TRUE(timeline.ok());
    for (int scope = 0; scope < kScopeCount; ++scope) {
      if (static_cast<Scope>(scope) == Scope::Blocks) continue;  // the head lies between its two parts
      const StepMetrics metrics = metrics_of(*timeline, static_cast<Scope>(scope));
      EXPECT_EQ(metrics.step_time, metrics.compute + metrics.exposed) << file << " scope " << scope;
    }
  }
}

TEST(StepExecutorOnProfiles, NothingIsExposedWhenASlotFits) {
  const auto exposed = [](const char* bandwidth) {
    Scenario scenario = scenario_from(kFolder + "scmoe.json");
    scenario.hardware.node.all_to_all.bandwidth = parse_bytes_per_second(bandwidth).value();
    const Result<Timeline> timeline = simulate(scenario);
    EXPECT_TRUE(timeline.ok());
    return metrics_of(*timeline, Scope::ForwardBlocks).exposed;
  };
  // 15.48 MB each way; the shared expert takes 0.96 ms and MLP with attention 3.1 ms.
  EXPECT_EQ(exposed("40 GB/s"), Duration(0));
  EXPECT_GT(exposed("10 GB/s"), Duration(0));
}

TEST(Experiments, ReproduceWhatIsPublished) {
  const Result<Reproduction> result = reproduce(std::string(MOECAST_SOURCE_DIR) + "/experiments", 2);
  ASSERT_TRUE(result.ok()) << result.error().text();
  EXPECT_EQ(result->count(Judgement::Fail), 0U) << to_table(*result);
}

}  // namespace
}  // namespace moecast
