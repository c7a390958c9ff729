#include "models/checkpoint/policy.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/models/checkpoint_testing.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

struct Read {
  CheckpointPolicy policy;
  std::vector<Problem> problems;
};

Read read(std::string_view text, const MoeModel* model = nullptr) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "policy.json");
  EXPECT_TRUE(document.ok());
  JsonReader reader(*document);
  Read result;
  result.policy = read_checkpoint_policy(reader);
  if (model != nullptr && reader.good()) check_checkpoint_policy(reader, result.policy, *model);
  const Status status = reader.finish();
  if (!status.ok()) result.problems = status.error().problems;
  return result;
}

TEST(CheckpointPolicy, ReadsEveryFieldOfTwoLevels) {
  const Read result = read(R"({"kind": "pec_two_level", "interval": 50, "snapshot_experts": 4, "persist_experts": 1,
      "selection": "random", "seed": 7, "components": "pec_reported", "first_full": false, "allow_newer_experts": true,
      "dynamic": {"plt_budget": 0.05, "split": [0.5, 0.25]}, "sharding": {"expert": "group_zero", "non_expert": "equal"}})");
  ASSERT_TRUE(result.problems.empty()) << result.problems[0].text();
  const CheckpointPolicy& policy = result.policy;
  EXPECT_EQ(policy.kind, CheckpointKind::PartialTwoLevel);
  EXPECT_EQ(policy.interval, 50);
  EXPECT_EQ(policy.partial.experts, (ExpertCounts{4, 1}));
  EXPECT_EQ(policy.partial.selection, SelectionKind::Random);
  EXPECT_EQ(policy.partial.seed, 7U);
  EXPECT_EQ(preset_name(policy.partial.components), "pec_reported");
  EXPECT_FALSE(policy.partial.first_full);
  EXPECT_TRUE(policy.partial.allow_newer_experts);
  EXPECT_EQ(policy.partial.dynamic, (DynamicK{0.05, {0.5, 0.25}}));
  EXPECT_EQ(policy.sharding, (Sharding{ExpertSharding::GroupZero, NonExpertSharding::Equal}));
}

TEST(CheckpointPolicy, WhatIsWrittenReadsBack) {
  std::vector<CheckpointPolicy> policies(5);
  for (std::size_t i = 0; i < policies.size(); ++i) policies[i].kind = static_cast<CheckpointKind>(i);
  policies[2].sharding = {ExpertSharding::GroupZero, NonExpertSharding::RankZero};
  policies[3].partial.selection = SelectionKind::Random;
  policies[3].partial.seed = 3;
  policies[3].partial.experts = {2, 2};
  policies[4].partial.experts = {4, 2};
  policies[4].partial.components.expert.master = ComponentRule::None;
  policies[4].partial.dynamic = DynamicK{0.01, {0.5, 0.5}};
  for (const CheckpointPolicy& policy : policies) {
    const std::string text = to_json(policy).dump();
    const Read result = read(text);
    EXPECT_TRUE(result.problems.empty()) << text << "\n" << result.problems[0].text();
    EXPECT_EQ(result.policy, policy) << text;
  }
}

TEST(CheckpointPolicy, ReportsAllProblemsAndKeysOfAnotherKind) {
  const Read wrong = read(R"({"kind": "pec_two_level", "interval": 0, "snapshot_experts": 2, "persist_experts": 3,
      "selection": "sequental", "components": {"non_expert": {"weight": "selected"}}, "dynamic": {"split": [0.8, 0.4]}})");
  std::vector<std::string> pointers;
  for (const Problem& problem : wrong.problems) pointers.push_back(problem.pointer);
  EXPECT_EQ(pointers, (std::vector<std::string>{"/interval", "/persist_experts", "/selection",
                                                "/components/non_expert/weight", "/dynamic/split"}));
  EXPECT_EQ(wrong.problems[2].suggestion, "sequential");
  const Read foreign = read(R"({"kind": "async_full", "interval": 10, "experts": 2})");
  ASSERT_EQ(foreign.problems.size(), 1U);
  EXPECT_EQ(foreign.problems[0].code, "unknown-key");
  EXPECT_EQ(foreign.problems[0].pointer, "/experts");
  EXPECT_EQ(read(R"({"kind": "pec", "interval": 10, "snapshot_experts": 2})").problems.size(), 2U);
}

TEST(CheckpointPolicy, KAboveTheExpertCountIsAConflict) {
  const MoeModel model = testing_models::paired_model(2, 1, false, Shortcut::None);  // 8 experts
  EXPECT_TRUE(read(R"({"kind": "pec", "interval": 10, "experts": 8})", &model).problems.empty());
  const Read above =
      read(R"({"kind": "pec_two_level", "interval": 10, "snapshot_experts": 16, "persist_experts": 9})", &model);
  ASSERT_EQ(above.problems.size(), 2U);
  EXPECT_EQ(above.problems[0].text(),
            "policy.json:1:63: /snapshot_experts: expected at most the 8 experts of block 1, found 16");
  EXPECT_EQ(above.problems[1].pointer, "/persist_experts");
  const Status status = check_checkpoint_policy(above.policy, model);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::BadInput);
}

TEST(CheckpointPolicy, SharesOfTheBudgetAreOneForEachLevel) {
  const MoeModel model = testing_models::paired_model(1, 1, false, Shortcut::None);
  const char* three = R"({"kind": "pec", "interval": 10, "experts": 1, "dynamic": {"split": [0.5, 0.25, 0.25]}})";
  EXPECT_TRUE(read(three, &model).problems.empty());  // K = 1, 2, 4 of 8
  const char* two = R"({"kind": "pec", "interval": 10, "experts": 1, "dynamic": {"split": [0.5, 0.25]}})";
  EXPECT_EQ(read(two, &model).problems.size(), 1U);
}

TEST(CheckpointPolicy, ADenseModelHasNoExpertsToChoose) {
  MoeModel model = testing_models::paired_model(1, 1, false, Shortcut::None);
  model.blocks.pop_back();
  EXPECT_EQ(read(R"({"kind": "pec", "interval": 10, "experts": 1})", &model).problems.size(), 1U);
  EXPECT_TRUE(read(R"({"kind": "async_full", "interval": 10})", &model).problems.empty());
}

TEST(CheckpointPolicy, OnlyRulesThatKeepAnExpertTogetherAreRestorable) {
  for (const auto& [name, rules] : component_presets()) EXPECT_EQ(restorable(rules), name == "pec_full_state") << name;
  ComponentRules rules;
  rules.non_expert.first_moment = ComponentRule::None;
  EXPECT_FALSE(restorable(rules));
  EXPECT_EQ(preset_name(rules), "custom");
  EXPECT_TRUE(restorable({PartRules{}, PartRules{}}));
}

}  // namespace
}  // namespace moecast
