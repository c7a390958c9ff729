#include "models/checkpoint/checkpoint_plan.h"

#include <map>
#include <numeric>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/models/checkpoint_testing.h"
#include "tests/models/step_plan_testing.h"

namespace moecast {
namespace {

using testing_models::experts_of;
using testing_models::inventory_of;
using testing_models::paired_model;
using testing_models::sequential_policy;

CheckpointPolicy policy_with(CheckpointKind kind, ComponentRules rules, Sharding sharding) {
  CheckpointPolicy policy;
  policy.kind = kind;
  policy.partial.components = rules;
  policy.sharding = sharding;
  return policy;
}

/// Some experts of each layer: every third to memory, every sixth to storage.
Selection some(const ExpertIndex& experts) {
  Selection selection = select_all(experts);
  for (std::size_t m = 0; m < experts.layer_count(); ++m) {
    const auto keep = [m](std::vector<ExpertId>& of_layer, std::int32_t every) {
      std::erase_if(of_layer, [&](ExpertId e) { return (e.value() + static_cast<std::int32_t>(m)) % every != 0; });
    };
    keep(selection.snapshot[m], 3);
    keep(selection.persist[m], 6);
  }
  return selection;
}

struct Case {
  ParallelLayout layout;
  Precision precision;
  CheckpointPolicy policy;
  Selection selection;
};

std::vector<Case> cases(const MoeModel& model) {
  const ExpertIndex experts(model);
  std::vector<Case> all;
  for (const ParallelLayout& layout :
       {ParallelLayout{1, 1, 1, 1, 0}, ParallelLayout{4, 4, 1, 1, 0}, ParallelLayout{6, 2, 1, 1, 0},
        ParallelLayout{6, 2, 1, 1, 1}, ParallelLayout{8, 2, 1, 1, 2}, ParallelLayout{8, 4, 1, 1, 3}}) {
    for (const Precision& precision : {Precision{}, testing_models::mixed_precision()}) {
      for (const ExpertSharding expert : {ExpertSharding::GroupZero, ExpertSharding::Equal}) {
        for (const NonExpertSharding other :
             {NonExpertSharding::RankZero, NonExpertSharding::Equal, NonExpertSharding::Adaptive}) {
          const Sharding sharding{expert, other};
          all.push_back(
              {layout, precision, policy_with(CheckpointKind::BlockingFull, {}, sharding), select_all(experts)});
          for (const auto& [name, rules] : component_presets()) {
            all.push_back(
                {layout, precision, policy_with(CheckpointKind::PartialTwoLevel, rules, sharding), some(experts)});
          }
        }
      }
    }
  }
  return all;
}

TEST(CheckpointPlan, TheCompactFormIsTheSumOfTheSlices) {
  const MoeModel model = paired_model(3, 1, true, Shortcut::None);
  for (const Case& c : cases(model)) {
    const CheckpointInventory inventory = inventory_of(model, c.layout, c.precision);
    const CheckpointPlan plan = build_checkpoint_plan(inventory, c.policy, c.selection);
    RankBytes sums;
    sums.memory.resize(static_cast<std::size_t>(c.layout.world_size()));
    sums.storage = sums.memory;
    for (const TensorSlice& slice : plan.slices) {
      EXPECT_EQ(slice.bytes.count(), slice.elements.count() * inventory.bytes_per_element(slice.component));
      EXPECT_GT(slice.bytes.count(), 0);
      sums.memory[slice.rank.index()] += slice.bytes;
      if (slice.level == CheckpointLevel::Storage) sums.storage[slice.rank.index()] += slice.bytes;
    }
    EXPECT_EQ(plan.bytes, sums);
    EXPECT_EQ(checkpoint_bytes(inventory, c.policy, c.selection), sums);
  }
}

TEST(CheckpointPlan, EveryElementOfASavedTensorIsThereOnceAndFromARankThatHasIt) {
  const MoeModel model = paired_model(3, 1, true, Shortcut::None);
  for (const Case& c : cases(model)) {
    const CheckpointInventory inventory = inventory_of(model, c.layout, c.precision);
    const CheckpointPlan plan = build_checkpoint_plan(inventory, c.policy, c.selection);
    std::map<std::pair<std::int32_t, Component>, std::vector<const TensorSlice*>> by_tensor;
    for (const TensorSlice& slice : plan.slices) by_tensor[{slice.parameter, slice.component}].push_back(&slice);
    std::size_t expected = 0;
    for (std::size_t p = 0; p < inventory.parameters().size(); ++p) {
      const Parameter& parameter = inventory.parameters()[p];
      std::optional<CheckpointLevel> reach = CheckpointLevel::Storage;
      std::optional<std::size_t> expert;
      if (parameter.expert) {
        const std::size_t m = *inventory.experts().ordinal(*parameter.layer);
        expert = inventory.experts().at(m, *parameter.expert);
        const auto in = [&](CheckpointLevel level) {
          const auto& chosen = c.selection.of(level)[m];
          return std::find(chosen.begin(), chosen.end(), *parameter.expert) != chosen.end();
        };
        reach = in(CheckpointLevel::Storage)  ? std::optional(CheckpointLevel::Storage)
                : in(CheckpointLevel::Memory) ? std::optional(CheckpointLevel::Memory)
                                              : std::nullopt;
      }
      const ComponentRules rules = c.policy.components();
      for (const Component component : kSavedComponents) {
        const ComponentRule rule = (expert ? rules.expert : rules.non_expert).of(component);
        const auto level = rule == ComponentRule::All ? std::optional(CheckpointLevel::Storage) : reach;
        if (!level || inventory.bytes_per_element(component) == 0) continue;
        ++expected;
        auto slices = by_tensor[{static_cast<std::int32_t>(p), component}];
        std::sort(slices.begin(), slices.end(), [](auto* a, auto* b) { return a->elements.begin < b->elements.begin; });
        std::int64_t next = 0;
        for (const TensorSlice* slice : slices) {
          EXPECT_EQ(slice->elements.begin, next) << parameter.name;
          EXPECT_EQ(slice->level, *level) << parameter.name;
          if (expert) {
            EXPECT_EQ(c.layout.position(Group::Expert, slice->rank), inventory.expert_owner(*expert)) << parameter.name;
          }
          if (inventory.zero_sharded(component)) {
            const Group group = expert ? Group::ExpertData : Group::Data;
            EXPECT_EQ(slice->elements, even_share(parameter.element_count(), c.layout.group_size(group),
                                                  c.layout.position(group, slice->rank)));
          }
          next = slice->elements.end;
        }
        EXPECT_EQ(next, parameter.element_count()) << parameter.name;
      }
    }
    EXPECT_EQ(by_tensor.size(), expected);
  }
}

TEST(CheckpointPlan, SlicesAreOrderedByRankParameterAndComponent) {
  const MoeModel model = paired_model(2, 1, false, Shortcut::None);
  const CheckpointInventory inventory = inventory_of(model, {4, 2, 1, 1, 1});
  const CheckpointPolicy policy = policy_with(CheckpointKind::AsynchronousFull, {}, {});
  const Selection selection = select_all(inventory.experts());
  const CheckpointPlan plan = build_checkpoint_plan(inventory, policy, selection);
  const auto key = [](const TensorSlice& slice) { return std::tuple(slice.rank, slice.parameter, slice.component); };
  std::vector<TensorSlice> by_rank;
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    for (const TensorSlice& slice : rank_slices(inventory, policy, selection, Rank(rank))) by_rank.push_back(slice);
  }
  EXPECT_EQ(by_rank, plan.slices);
  for (std::size_t i = 1; i < plan.slices.size(); ++i) EXPECT_LT(key(plan.slices[i - 1]), key(plan.slices[i]));
}

TEST(CheckpointPlan, RankZeroAndGroupZeroWriteAloneWhatEveryReplicaHas) {
  const MoeModel model = paired_model(2, 1, false, Shortcut::None);
  const CheckpointInventory inventory = inventory_of(model, {8, 4, 1, 1, 2});
  const CheckpointPolicy policy =
      policy_with(CheckpointKind::BlockingFull, {}, {ExpertSharding::GroupZero, NonExpertSharding::RankZero});
  const CheckpointPlan plan = build_checkpoint_plan(inventory, policy, select_all(inventory.experts()));
  std::vector<int> optimizer_slices(8, 0);
  for (const TensorSlice& slice : plan.slices) {
    if (slice.component != Component::Weight) {
      ++optimizer_slices[slice.rank.index()];
    } else if (inventory.parameters()[static_cast<std::size_t>(slice.parameter)].expert) {
      EXPECT_LT(slice.rank.value(), 4);
    } else {
      EXPECT_EQ(slice.rank, Rank(0));
    }
  }
  for (const int count : optimizer_slices) EXPECT_GT(count, 0);  // ZeRO-2: every rank writes its own
}

TEST(CheckpointPlan, FullBytesAreThoseOfEquation5) {
  const MoeModel model = paired_model(2, 1, true, Shortcut::None);
  const CheckpointInventory inventory = inventory_of(model, {4, 4, 1, 1, 1});
  const ParameterCount count = count_parameters(model);
  EXPECT_EQ(inventory.element_count(), count.total);
  EXPECT_EQ(inventory.expert_element_count(), count.expert);
  EXPECT_EQ(inventory.full_bytes(), Bytes(14 * count.total));
  const RankBytes full =
      checkpoint_bytes(inventory, policy_with(CheckpointKind::BlockingFull, {}, {}), select_all(inventory.experts()));
  EXPECT_EQ(full.total(CheckpointLevel::Storage), inventory.full_bytes());
  EXPECT_EQ(full.memory, full.storage);
}

TEST(CheckpointPlan, ModulesAreConsecutiveAndHoldTheWholeNonExpertPart) {
  const MoeModel model = paired_model(2, 2, true, Shortcut::Pos2);
  const CheckpointInventory inventory = inventory_of(model, {});
  std::vector<std::string> names;
  std::int64_t elements = 0;
  for (const CheckpointInventory::Module& module : inventory.modules()) {
    names.push_back(module.name);
    elements += module.element_count;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"embedding.token", "embedding.position", "blocks.0.attention",
                                             "blocks.0.mlp", "blocks.1.attention", "blocks.1.shared", "blocks.1.gate",
                                             "blocks.2.attention", "blocks.2.mlp", "blocks.3.attention",
                                             "blocks.3.shared", "blocks.3.gate", "final_norm"}));
  EXPECT_EQ(elements, inventory.element_count() - inventory.expert_element_count());
}

TEST(CheckpointPlan, LayersOfDifferentExpertsAreCountedByShape) {
  MoeModel model = paired_model(3, 1, false, Shortcut::None);
  model.blocks[3].moe->expert_count = 4;
  model.blocks[5].moe->expert_width = 80;
  const CheckpointInventory inventory = inventory_of(model, {4, 2, 1, 1, 1});
  EXPECT_EQ(inventory.shape_count(), 2U);
  EXPECT_EQ(inventory.shape(1), inventory.shape(0));
  const CheckpointPolicy policy = sequential_policy({2, 1});
  const SelectionState state(inventory.experts(), policy);
  const std::vector<std::int64_t> tokens(inventory.experts().size(), 0);
  const Selection selection = select_experts(policy, {2, 1}, state, tokens);
  const CheckpointPlan plan = build_checkpoint_plan(inventory, policy, selection);
  EXPECT_EQ(checkpoint_bytes(inventory, policy, selection), plan.bytes);
  std::int64_t bytes = 0;
  for (const TensorSlice& slice : plan.slices) bytes += slice.bytes.count();
  EXPECT_EQ(bytes, plan.bytes.total(CheckpointLevel::Memory).count());
}

TEST(CheckpointPlan, ALayoutThatIsNotCoveredIsBadInput) {
  const MoeModel model = paired_model(1, 1, false, Shortcut::None);
  for (const ParallelLayout& layout : {ParallelLayout{1, 1, 2, 1, 0}, ParallelLayout{1, 1, 1, 2, 0},
                                       ParallelLayout{3, 3, 1, 1, 0}, ParallelLayout{3, 2, 1, 1, 0}}) {
    const Result<CheckpointInventory> made = CheckpointInventory::make(model, layout, {});
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().kind, ErrorKind::BadInput);
  }
}

TEST(CheckpointSharding, EvenSharesCoverEveryElementOnce) {
  for (std::int64_t count = 0; count < 40; ++count) {
    for (std::int64_t parts = 1; parts < 12; ++parts) {
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < parts; ++i) {
        const ElementRange share = even_share(count, parts, i);
        EXPECT_EQ(share.begin, next);
        EXPECT_LE(share.count(), (count + parts - 1) / parts);
        next = share.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(CheckpointSharding, UnitsGoLargestFirstToTheLeastLoadedRank) {
  const std::vector<ModuleUnit> units = {{"b", Bytes(3)}, {"a", Bytes(3)}, {"c", Bytes(10)}, {"d", Bytes(1)}};
  EXPECT_EQ(spread_units(units, {Bytes(0), Bytes(0)}), (std::vector<Rank>{Rank(1), Rank(1), Rank(0), Rank(1)}));
  EXPECT_EQ(spread_units(units, {Bytes(9), Bytes(0), Bytes(9)}),  // c on 1 (10), a on 0 (12), b on 2 (12), d on 1
            (std::vector<Rank>{Rank(2), Rank(0), Rank(1), Rank(1)}));
}

TEST(CheckpointSharding, AdaptiveBeginsWithTheLoadOfTheExperts) {
  // One MoE layer, four ranks with two experts each; only rank 2's first expert is saved.
  const MoeModel model = paired_model(1, 1, false, Shortcut::None);
  const CheckpointInventory inventory = inventory_of(model, {4, 4, 1, 1, 1});
  Selection selection;
  selection.snapshot = selection.persist = {{ExpertId(4)}};
  CheckpointPolicy policy = sequential_policy({1, 1});
  const RankBytes adaptive = checkpoint_bytes(inventory, policy, selection);
  policy.sharding.non_expert = NonExpertSharding::Equal;
  const RankBytes equal = checkpoint_bytes(inventory, policy, selection);
  EXPECT_LT(adaptive.bottleneck(CheckpointLevel::Memory), equal.bottleneck(CheckpointLevel::Memory));
  EXPECT_EQ(adaptive.total(CheckpointLevel::Memory), equal.total(CheckpointLevel::Memory));
}

TEST(CheckpointSharding, BalanceConditionOfEquation9) {
  // GPT-350M-16E, 12 MoE layers; rows: DP 8 EP 8, DP 16 EP 16, DP 16 EP 8.
  const std::vector<std::int64_t> counts = {1, 2, 4, 8, 16};
  const std::vector<std::pair<ParallelLayout, std::vector<bool>>> rows = {
      {{8, 8, 1, 1, 2}, {false, true, true, true, true}},
      {{16, 16, 1, 1, 2}, {false, false, true, true, true}},
      {{16, 8, 1, 1, 2}, {false, false, true, true, true}}};
  for (const auto& [layout, expected] : rows) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      EXPECT_EQ(expert_part_balanced(counts[i], 12, layout), expected[i]) << layout.data << " " << counts[i];
    }
  }
}

TEST(ExpertIndex, FindsExpertsBothWays) {
  MoeModel model = paired_model(3, 2, false, Shortcut::None);
  model.blocks[3].moe->expert_count = 4;
  const ExpertIndex experts(model);
  EXPECT_EQ(experts.layer_count(), 3U);
  EXPECT_EQ(experts.size(), 20U);
  EXPECT_EQ(experts.layers()[1], (ExpertIndex::Layer{LayerId(3), 4, 2}));
  EXPECT_EQ(experts.ordinal(LayerId(5)), 2U);
  EXPECT_FALSE(experts.ordinal(LayerId(4)).has_value());
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const ExpertIndex::Place place = experts.place(i);
    EXPECT_EQ(experts.at(place.layer, place.expert), i);
  }
}

}  // namespace
}  // namespace moecast
