// The architectures of the ScMoE paper (Cai et al., ICML 2025, arXiv 2404.05019v3), and others that follow it, as
// plans: where routed experts read (section 3.1, eqs 7-10), and what may hide their communication (section 4.2.1).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "models/moe_model_json.h"
#include "models/state_inventory.h"
#include "tests/models/pair_times_testing.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::kTop1;
using Names = std::vector<std::string>;

MoeModel zoo(const std::string& name) {
  Result<MoeModel> model = load_moe_model(std::filesystem::path(MOECAST_SOURCE_DIR) / "models/zoo" / (name + ".json"));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().text());
  return std::move(model).value();
}

/// With slot 1 the window stands between the experts and their decode.
StepPlan plan_of(const MoeModel& model) {
  const ParallelLayout layout{.data = 8, .expert = 8};
  const Schedule schedule{ScheduleKind::Shortcut, 1, 1, 1};
  Result<StepPlan> plan = build_step_plan({model, layout, Batch{1, 1, 64}, schedule, 2, {}});
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().text());
  return std::move(plan).value();
}

const Operator& find(const StepPlan& plan, const std::string& name) {
  const auto found =
      std::find_if(plan.operators.begin(), plan.operators.end(), [&](const Operator& op) { return op.name() == name; });
  EXPECT_NE(found, plan.operators.end()) << name;
  return *found;
}

Names dependencies(const StepPlan& plan, const std::string& name) {
  Names names;
  for (const OpId id : find(plan, name).dependencies) names.push_back(plan.operators[id.index()].name());
  return names;
}

/// Compute operators from one to another, neither included.
std::vector<const Operator*> between(const StepPlan& plan, const std::string& from, const std::string& to) {
  std::vector<const Operator*> out;
  for (std::size_t i = find(plan, from).id.index() + 1; i < find(plan, to).id.index(); ++i) {
    if (plan.operators[i].lane == Lane::Compute) out.push_back(&plan.operators[i]);
  }
  return out;
}

Names window(const StepPlan& plan, const std::string& block) {
  Names names;
  for (const Operator* op : between(plan, block + ".Expert.F", block + ".Decode.F")) names.push_back(op->name());
  return names;
}

TEST(ScMoeVariants, RoutedExpertsReadTheShortcutTensor) {
  const auto source = [](const std::string& name, const std::string& block) {
    return dependencies(plan_of(zoo(name)), block + ".Gate.F");
  };
  const std::string medium = "gpt2_moe_medium";
  EXPECT_EQ(source(medium + "_shared_expert", "L3"), Names{"L3.Attention.F"});  // eq 6: H_{l+1}^MH
  EXPECT_EQ(source(medium + "_scmoe_pos1", "L3"), Names{"L2.Mlp.F"});           // H_l^MLP
  EXPECT_EQ(source(medium + "_scmoe_pos2", "L3"), Names{"L2.Attention.F"});     // H_l^MH
  EXPECT_EQ(source(medium + "_scmoe_pos3", "L3"), Names{"L1.Decode.F"});        // H_{l-1}
  EXPECT_EQ(source(medium + "_scmoe_pos3", "L1"), Names{"Embed.F"});
  EXPECT_EQ(source(medium + "_scmoe_pos2_first_pos1", "L1"), Names{"L0.Mlp.F"});  // table 3: L0 Pos-1
  EXPECT_EQ(source(medium + "_scmoe_pos2_first_pos1", "L3"), Names{"L2.Attention.F"});
  EXPECT_EQ(source("llama2_moe_scmoe", "L5"), Names{"L4.Decode.F"});
  EXPECT_EQ(source("longcat_flash", "L5"), Names{"L4.Attention.F"});
  EXPECT_EQ(source("arctic", "L5"), Names{"L4.Decode.F"});
}

TEST(ScMoeVariants, WindowsAreThoseOfThePaper) {
  const auto window_of = [](const std::string& name, const std::string& block) {
    return window(plan_of(zoo(name)), block);
  };
  const Names pos1 = {"L3.Attention.F", "L3.SharedExpert.F"};
  const Names pos2 = {"L2.Mlp.F", "L3.Attention.F", "L3.SharedExpert.F"};
  const Names pos3 = {"L2.Attention.F", "L2.Mlp.F", "L3.Attention.F", "L3.SharedExpert.F"};
  const std::string medium = "gpt2_moe_medium";
  EXPECT_EQ(window_of(medium + "_scmoe_pos1", "L3"), pos1);
  EXPECT_EQ(window_of(medium + "_scmoe_pos2", "L3"), pos2);
  EXPECT_EQ(window_of(medium + "_scmoe_pos3", "L3"), pos3);
  EXPECT_EQ(window_of(medium + "_scmoe_pos2_first_pos1", "L1"), (Names{"L1.Attention.F", "L1.SharedExpert.F"}));
  EXPECT_EQ(window_of(medium + "_scmoe_pos2_first_pos1", "L3"), pos2);
  EXPECT_EQ(window_of("gpt3_moe_xl_scmoe2", "L3"), pos2);
  EXPECT_EQ(window_of("llama2_moe_scmoe", "L3"), pos1);
  EXPECT_EQ(window_of("arctic", "L3"), pos1);
  EXPECT_EQ(window_of("longcat_flash", "L3"), pos2);  // FFN_0, MLA_1, FFN_1
}

// T_Atten + T_SE; + T_MLP; + T_Atten (section 3.1 and figure 4).
TEST(ScMoeVariants, WindowTimesAreTheSumsOfThePaper) {
  const auto time = [](const std::string& name) {
    const StepPlan plan = plan_of(zoo(name));
    std::int64_t sum = 0;
    for (const Operator* op : between(plan, "L3.Expert.F", "L3.Decode.F")) sum += kTop1.of(*op);
    return sum;
  };
  EXPECT_EQ(time("gpt2_moe_medium_scmoe_pos1"), kTop1.attention + kTop1.shared);
  EXPECT_EQ(time("gpt2_moe_medium_scmoe_pos2"), kTop1.attention + kTop1.shared + kTop1.mlp);
  EXPECT_EQ(time("gpt2_moe_medium_scmoe_pos3"), 2 * kTop1.attention + kTop1.shared + kTop1.mlp);
}

TEST(ScMoeVariants, TheSharedExpertReadsTheCurrentBlockAndTheSumClosesIt) {
  for (const char* name : {"gpt2_moe_medium_scmoe_pos1", "gpt2_moe_medium_scmoe_pos2", "gpt2_moe_medium_scmoe_pos3",
                           "longcat_flash", "arctic"}) {
    const StepPlan plan = plan_of(zoo(name));
    EXPECT_EQ(dependencies(plan, "L3.SharedExpert.F"), Names{"L3.Attention.F"}) << name;
    const Names sum = dependencies(plan, "L3.Decode.F");
    for (const char* part : {"L3.Combine.F", "L3.SharedExpert.F"}) {
      EXPECT_NE(std::find(sum.begin(), sum.end(), part), sum.end()) << name << " " << part;
    }
  }
}

TEST(ScMoeVariants, TheGradientOfTheShortcutTensorAddsBothChains) {
  const StepPlan plan = plan_of(zoo("gpt2_moe_medium_scmoe_pos2"));
  EXPECT_EQ(dependencies(plan, "L3.Gate.B"), (Names{"L2.Mlp.B", "L3.Encode.B"}));
  EXPECT_EQ(dependencies(plan, "L2.Attention.B"), Names{"L3.Gate.B"});
}

TEST(ScMoeVariants, ScMoe2SendsTwiceWhatScMoeDoesAndTwoThirdsOfTop3) {
  const auto sent = [](MoeModel model, std::int64_t top_k) {
    for (Block& block : model.blocks) {
      if (block.moe) block.moe->gate.top_k = top_k;
    }
    return find(plan_of(model), "L3.Dispatch.F").communication->buffer.count();
  };
  const std::int64_t two = find(plan_of(zoo("gpt3_moe_xl_scmoe2")), "L3.Dispatch.F").communication->buffer.count();
  EXPECT_EQ(two, 2 * sent(zoo("gpt3_moe_xl_scmoe2"), 1));
  EXPECT_EQ(3 * two, 2 * sent(zoo("gpt3_moe_xl"), 3));
}

Names issued(const StepPlan& plan, Lane lane, Phase phase, std::int32_t layer) {
  Names names;
  for (const Operator& op : plan.operators) {
    if (op.lane == lane && op.phase == phase && op.layer == LayerId(layer)) names.push_back(op.name());
  }
  return names;
}

// Appendix A.2, eq 23: both tensors of two adjacent blocks go through the same experts.
TEST(ScMoeVariants, DgMoeRoutesThePrecedingAndTheCurrentTensor) {
  const MoeModel model = zoo("gpt2_moe_medium_dgmoe");
  const StepPlan plan = plan_of(model);
  EXPECT_EQ(dependencies(plan, "L3.Gate.F"), Names{"L2.Attention.F"});                        // H_l^MH
  EXPECT_EQ(dependencies(plan, "L3.Gate.F.second"), (Names{"L3.Gate.F", "L3.Attention.F"}));  // and H_{l+1}^MH
  EXPECT_EQ(dependencies(plan, "L3.Decode.F"), (Names{"L3.Combine.F", "L3.Attention.F", "L3.Combine.F.second"}));
  EXPECT_EQ(find(plan, "L3.Dispatch.F").communication->buffer,
            find(plan, "L3.Dispatch.F.second").communication->buffer);
  EXPECT_EQ(count_parameters(model).active, count_parameters(zoo("gpt2_moe_medium")).active);  // as top-2
}

TEST(ScMoeVariants, DgMoeHidesTheSecondDispatchBehindTheFirstExperts) {
  const MoeModel model = zoo("gpt2_moe_medium_dgmoe");
  const ParallelLayout layout{.data = 8, .expert = 8};
  const auto planned = [&](std::int64_t slot) {
    const Schedule schedule{ScheduleKind::Shortcut, 1, slot, slot};
    const Result<StepPlan> plan = build_step_plan({model, layout, Batch{1, 1, 64}, schedule, 2, {}});
    EXPECT_TRUE(plan.ok());
    return plan.value();
  };
  EXPECT_EQ(issued(planned(3), Lane::Compute, Phase::Forward, 3),  // after MLP and attention
            (Names{"L3.Gate.F", "L3.Encode.F", "L3.Attention.F", "L3.Gate.F.second", "L3.Encode.F.second",
                   "L3.Expert.F", "L3.Expert.F.second", "L3.Decode.F"}));
  EXPECT_EQ(issued(planned(1), Lane::Compute, Phase::Forward, 3),
            (Names{"L3.Gate.F", "L3.Encode.F", "L3.Expert.F", "L3.Attention.F", "L3.Gate.F.second",
                   "L3.Encode.F.second", "L3.Expert.F.second", "L3.Decode.F"}));
  EXPECT_EQ(issued(planned(3), Lane::Comm, Phase::Forward, 3),
            (Names{"L3.Dispatch.F", "L3.Dispatch.F.second", "L3.Combine.F", "L3.Combine.F.second"}));
}

TEST(ScMoeVariants, DgMoeGivesTheOwnTensorItsGradientBeforeTheWindow) {
  const StepPlan plan = plan_of(zoo("gpt2_moe_medium_dgmoe"));
  EXPECT_EQ(issued(plan, Lane::Compute, Phase::Backward, 3),
            (Names{"L3.Decode.B", "L3.Expert.B.second", "L3.Encode.B.second", "L3.Gate.B.second", "L3.Expert.B",
                   "L3.Attention.B", "L3.Encode.B", "L3.Gate.B"}));
  EXPECT_EQ(issued(plan, Lane::Comm, Phase::Backward, 3),
            (Names{"L3.Combine.B.second", "L3.Combine.B", "L3.Dispatch.B.second", "L3.Dispatch.B"}));
  EXPECT_EQ(dependencies(plan, "L3.Attention.B"), Names{"L3.Gate.B.second"});
  EXPECT_EQ(dependencies(plan, "L2.Attention.B"), Names{"L3.Gate.B"});
}

TEST(ScMoeVariants, DgMoeNamesEveryOperatorOnceUnderEverySchedule) {
  const MoeModel model = zoo("gpt2_moe_medium_dgmoe");
  const auto expect_unique = [&](const ParallelLayout& layout, const Schedule& schedule) {
    const Result<std::vector<StepPlan>> plans = build_stage_plans({model, layout, Batch{1, 4, 64}, schedule, 2, {}});
    ASSERT_TRUE(plans.ok()) << plans.error().text();
    for (const StepPlan& plan : *plans) {
      std::set<std::pair<std::string, std::int32_t>> names;
      int seconds = 0;
      for (const Operator& op : plan.operators) {
        EXPECT_TRUE(names.emplace(op.name(), op.micro_batch).second) << op.name() << " " << op.micro_batch;
        seconds += op.second_routing ? 1 : 0;
      }
      EXPECT_GT(seconds, 0);
    }
  };
  expect_unique({.data = 8, .expert = 8}, {});
  expect_unique({.data = 8, .expert = 8}, {ScheduleKind::Pipelined, 2, {}, {}});
  expect_unique({.data = 8, .expert = 8}, {ScheduleKind::Shortcut, 2, 3, 2});
  ParallelLayout stages{.data = 4, .expert = 4};
  stages.pipeline = 4;
  stages.pipeline_schedule = PipelineSchedule::ZeroBubble;  // weight gradients are put off
  expect_unique(stages, {ScheduleKind::Shortcut, 1, 1, 1});
  stages.pipeline_schedule = PipelineSchedule::OneForwardOneBackward;
  stages.recomputation = Recomputation::Full;
  expect_unique(stages, {ScheduleKind::Shortcut, 1, 3, 1});
}

}  // namespace
}  // namespace moecast
