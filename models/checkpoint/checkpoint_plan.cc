#include "models/checkpoint/checkpoint_plan.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/assert.h"

namespace moecast {

namespace {

/// Bytes per element of the components that a rule saves, by who has them: `owned` divided by ZeRO, `shared` on every
/// replica.
struct ElementBytes {
  std::int64_t owned = 0;
  std::int64_t shared = 0;
};

ElementBytes element_bytes(const CheckpointInventory& inventory, const PartRules& rules, ComponentRule rule) {
  ElementBytes bytes;
  for (const Component component : kSavedComponents) {
    if (rules.of(component) != rule) continue;
    (inventory.zero_sharded(component) ? bytes.owned : bytes.shared) += inventory.bytes_per_element(component);
  }
  return bytes;
}

/// Number of selected experts of each shape at each expert position, [shape][EP].
using ExpertNumbers = std::vector<std::vector<std::int64_t>>;

ExpertNumbers selected_numbers(const CheckpointInventory& inventory, const std::vector<std::vector<ExpertId>>& chosen) {
  ExpertNumbers numbers(inventory.shape_count(),
                        std::vector<std::int64_t>(static_cast<std::size_t>(inventory.layout().expert), 0));
  for (std::size_t m = 0; m < chosen.size(); ++m) {
    const std::int64_t local = inventory.experts().layers()[m].expert_count / inventory.layout().expert;
    for (const ExpertId expert : chosen[m]) {
      ++numbers[inventory.shape(m)][static_cast<std::size_t>(expert.value() / local)];
    }
  }
  return numbers;
}

ExpertNumbers all_numbers(const CheckpointInventory& inventory) {
  ExpertNumbers numbers(inventory.shape_count(),
                        std::vector<std::int64_t>(static_cast<std::size_t>(inventory.layout().expert), 0));
  for (std::size_t m = 0; m < inventory.experts().layer_count(); ++m) {
    const std::int64_t local = inventory.experts().layers()[m].expert_count / inventory.layout().expert;
    for (std::int64_t& number : numbers[inventory.shape(m)]) number += local;
  }
  return numbers;
}

/// Adds to each rank what it writes of these experts.
void add_experts(std::vector<Bytes>& load, const CheckpointInventory& inventory, const Sharding& sharding,
                 const ExpertNumbers& numbers, ElementBytes bytes) {
  if (bytes.owned == 0 && bytes.shared == 0) return;
  const std::int64_t degree = inventory.layout().expert;
  for (std::size_t shape = 0; shape < numbers.size(); ++shape) {
    const std::vector<std::int64_t>& shares = inventory.expert_shares(shape);
    std::int64_t whole = 0;
    for (const std::int64_t share : shares) whole += share;
    for (std::size_t replica = 0; replica < shares.size(); ++replica) {
      const std::int64_t of_shared =
          sharding.expert == ExpertSharding::Equal ? shares[replica] : (replica == 0 ? whole : 0);
      const Bytes each(shares[replica] * bytes.owned + of_shared * bytes.shared);
      for (std::int64_t position = 0; position < degree; ++position) {
        load[replica * static_cast<std::size_t>(degree) + static_cast<std::size_t>(position)] +=
            each * numbers[shape][static_cast<std::size_t>(position)];
      }
    }
  }
}

/// Bytes of the experts and of the owned non-expert state, [rank]: what does not depend on where modules go.
std::vector<Bytes> fixed_load(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                              const Selection& selection, CheckpointLevel level) {
  const ComponentRules rules = policy.components();
  const ElementBytes non_expert = element_bytes(inventory, rules.non_expert, ComponentRule::All);
  std::vector<Bytes> load;
  for (const std::int64_t share : inventory.non_expert_shares()) load.emplace_back(share * non_expert.owned);
  add_experts(load, inventory, policy.sharding, all_numbers(inventory),
              element_bytes(inventory, rules.expert, ComponentRule::All));
  const ElementBytes selected = element_bytes(inventory, rules.expert, ComponentRule::Selected);
  if (selected.owned > 0 || selected.shared > 0) {
    add_experts(load, inventory, policy.sharding, selected_numbers(inventory, selection.of(level)), selected);
  }
  return load;
}

/// The rank that writes the shared components of each module, [module].
std::vector<Rank> module_ranks(const std::vector<ModuleUnit>& units, NonExpertSharding sharding,
                               const std::vector<Bytes>& memory_load) {
  switch (sharding) {
    case NonExpertSharding::RankZero:
      return std::vector<Rank>(units.size(), Rank(0));
    case NonExpertSharding::Equal:
      return spread_units(units, std::vector<Bytes>(memory_load.size(), Bytes(0)));
    case NonExpertSharding::Adaptive:
      return spread_units(units, memory_load);
  }
  ASSERT(false, "no such sharding: {}", static_cast<int>(sharding));
}

/// Bytes of each rank, and who writes which module.
struct Division {
  RankBytes bytes;
  std::vector<Rank> module_rank;
};

Division divide(const CheckpointInventory& inventory, const CheckpointPolicy& policy, const Selection& selection) {
  ASSERT(policy.kind != CheckpointKind::None, "a plan without checkpoints");
  Division division;
  division.bytes.memory = fixed_load(inventory, policy, selection, CheckpointLevel::Memory);
  division.bytes.storage = fixed_load(inventory, policy, selection, CheckpointLevel::Storage);
  const ElementBytes bytes = element_bytes(inventory, policy.components().non_expert, ComponentRule::All);
  std::vector<ModuleUnit> units;
  for (const CheckpointInventory::Module& module : inventory.modules()) {
    units.push_back({module.name, Bytes(module.element_count * bytes.shared)});
  }
  division.module_rank = module_ranks(units, policy.sharding.non_expert, division.bytes.memory);
  for (std::size_t i = 0; i < units.size(); ++i) {
    division.bytes.memory[division.module_rank[i].index()] += units[i].bytes;
    division.bytes.storage[division.module_rank[i].index()] += units[i].bytes;
  }
  return division;
}

/// Lists one rank's slices.
class SliceLister {
 public:
  SliceLister(const CheckpointInventory& inventory, const CheckpointPolicy& policy, Rank rank,
              std::vector<TensorSlice>& out)
      : inventory_(inventory),
        sharding_(policy.sharding),
        rules_(policy.components()),
        rank_(rank),
        data_position_(inventory.layout().position(Group::Data, rank)),
        replica_(inventory.layout().position(Group::ExpertData, rank)),
        out_(out) {}

  void non_expert(std::int32_t parameter, bool writes_module) {
    const std::int64_t count = element_count(parameter);
    for (const Component component : kSavedComponents) {
      if (rules_.non_expert.of(component) != ComponentRule::All) continue;
      if (inventory_.zero_sharded(component)) {
        const std::int64_t parts = inventory_.layout().group_size(Group::Data);
        add(parameter, component, even_share(count, parts, data_position_), CheckpointLevel::Storage);
      } else if (writes_module) {
        add(parameter, component, {0, count}, CheckpointLevel::Storage);
      }
    }
  }

  /// `reach`: the last level of a selected expert's components; none: not selected.
  void expert(std::int32_t parameter, std::optional<CheckpointLevel> reach) {
    const std::int64_t count = element_count(parameter);
    for (const Component component : kSavedComponents) {
      const ComponentRule rule = rules_.expert.of(component);
      if (rule == ComponentRule::None || (rule == ComponentRule::Selected && !reach)) continue;
      const CheckpointLevel level = rule == ComponentRule::All ? CheckpointLevel::Storage : *reach;
      if (inventory_.zero_sharded(component) || sharding_.expert == ExpertSharding::Equal) {
        const std::int64_t parts = inventory_.layout().group_size(Group::ExpertData);
        add(parameter, component, even_share(count, parts, replica_), level);
      } else if (replica_ == 0) {
        add(parameter, component, {0, count}, level);
      }
    }
  }

 private:
  [[nodiscard]] std::int64_t element_count(std::int32_t parameter) const {
    return inventory_.parameters()[static_cast<std::size_t>(parameter)].element_count();
  }
  void add(std::int32_t parameter, Component component, ElementRange elements, CheckpointLevel level) {
    const Bytes bytes(elements.count() * inventory_.bytes_per_element(component));
    if (bytes.count() > 0) out_.push_back({parameter, component, elements, bytes, rank_, level});
  }

  const CheckpointInventory& inventory_;
  Sharding sharding_;
  ComponentRules rules_;
  Rank rank_;
  std::int64_t data_position_;
  std::int64_t replica_;
  std::vector<TensorSlice>& out_;
};

/// Last level of every expert, [ExpertIndex]; none: not selected.
std::vector<std::optional<CheckpointLevel>> reaches(const ExpertIndex& experts, const Selection& selection) {
  std::vector<std::optional<CheckpointLevel>> reach(experts.size());
  for (const CheckpointLevel level : {CheckpointLevel::Memory, CheckpointLevel::Storage}) {
    for (std::size_t m = 0; m < experts.layer_count(); ++m) {
      for (const ExpertId expert : selection.of(level)[m]) reach[experts.at(m, expert)] = level;
    }
  }
  return reach;
}

/// One checkpoint's division, and the slices of each rank in it.
class Slicer {
 public:
  Slicer(const CheckpointInventory& inventory, const CheckpointPolicy& policy, const Selection& selection)
      : inventory_(inventory),
        policy_(policy),
        division_(divide(inventory, policy, selection)),
        reach_(reaches(inventory.experts(), selection)),
        writer_(inventory.parameters().size()) {
    for (std::size_t i = 0; i < inventory.modules().size(); ++i) {
      const CheckpointInventory::Module& module = inventory.modules()[i];
      const auto first = writer_.begin() + module.first_parameter;
      std::fill(first, first + module.parameter_count, division_.module_rank[i]);
    }
  }

  [[nodiscard]] const RankBytes& bytes() const { return division_.bytes; }
  [[nodiscard]] std::vector<TensorSlice> slices(Rank rank) const {
    std::vector<TensorSlice> slices;
    SliceLister lister(inventory_, policy_, rank, slices);
    const std::int64_t position = inventory_.layout().position(Group::Expert, rank);
    for (std::size_t p = 0; p < writer_.size(); ++p) {
      const std::optional<std::size_t> expert = inventory_.expert_of(p);
      if (!expert) {
        lister.non_expert(static_cast<std::int32_t>(p), writer_[p] == rank);
      } else if (inventory_.expert_owner(*expert) == position) {
        lister.expert(static_cast<std::int32_t>(p), reach_[*expert]);
      }
    }
    return slices;
  }

 private:
  const CheckpointInventory& inventory_;
  const CheckpointPolicy& policy_;
  Division division_;
  std::vector<std::optional<CheckpointLevel>> reach_;
  std::vector<Rank> writer_;  // [parameter]: of the shared components of the non-expert part
};

Bytes sum(const std::vector<Bytes>& values) {
  Bytes total(0);
  for (const Bytes value : values) total += value;
  return total;
}

}  // namespace

Bytes RankBytes::total(CheckpointLevel level) const { return sum(of(level)); }
Bytes RankBytes::bottleneck(CheckpointLevel level) const {
  return *std::max_element(of(level).begin(), of(level).end());
}

RankBytes checkpoint_bytes(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                           const Selection& selection) {
  return divide(inventory, policy, selection).bytes;
}

std::vector<TensorSlice> rank_slices(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                     const Selection& selection, Rank rank) {
  return Slicer(inventory, policy, selection).slices(rank);
}

CheckpointPlan build_checkpoint_plan(const CheckpointInventory& inventory, const CheckpointPolicy& policy,
                                     const Selection& selection) {
  const Slicer slicer(inventory, policy, selection);
  CheckpointPlan plan;
  plan.bytes = slicer.bytes();
  for (std::int32_t rank = 0; rank < inventory.layout().world_size(); ++rank) {
    const std::vector<TensorSlice> slices = slicer.slices(Rank(rank));
    plan.slices.insert(plan.slices.end(), slices.begin(), slices.end());
  }
  return plan;
}

}  // namespace moecast
