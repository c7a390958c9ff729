#include "models/checkpoint/policy.h"

#include <algorithm>

#include "base/assert.h"

namespace moecast {

ComponentRule PartRules::of(Component component) const {
  switch (component) {
    case Component::Weight:
      return weight;
    case Component::Master:
      return master;
    case Component::FirstMoment:
      return first_moment;
    case Component::SecondMoment:
      return second_moment;
    case Component::Gradient:
      return ComponentRule::None;
  }
  ASSERT(false, "no such component: {}", static_cast<int>(component));
}

const EnumNames<ComponentRules>& component_presets() {
  constexpr ComponentRule kAll = ComponentRule::All;
  constexpr ComponentRule kSelected = ComponentRule::Selected;
  static const EnumNames<ComponentRules> presets = {
      {"pec_full_state", {{kSelected, kSelected, kSelected, kSelected}, {}}},
      {"pec_reported", {{kSelected, kAll, kSelected, kSelected}, {}}},
      {"pec_w", {{kSelected, kAll, kAll, kAll}, {}}},
      {"pec_o", {{kAll, kAll, kSelected, kSelected}, {}}},
  };
  return presets;
}

std::string_view preset_name(const ComponentRules& rules) {
  for (const auto& [name, preset] : component_presets()) {
    if (preset == rules) return name;
  }
  return "custom";
}

bool restorable(const ComponentRules& rules) {
  const PartRules& expert = rules.expert;
  const bool together =
      expert.master == expert.weight && expert.first_moment == expert.weight && expert.second_moment == expert.weight;
  return together && expert.weight != ComponentRule::None && rules.non_expert == PartRules{};
}

ComponentRules CheckpointPolicy::components() const {
  return is_partial() ? partial.components : ComponentRules{PartRules{}, PartRules{}};
}

std::string_view to_text(CheckpointKind kind) {
  switch (kind) {
    case CheckpointKind::None:
      return "none";
    case CheckpointKind::BlockingFull:
      return "blocking_full";
    case CheckpointKind::AsynchronousFull:
      return "async_full";
    case CheckpointKind::PartialOneLevel:
      return "pec";
    case CheckpointKind::PartialTwoLevel:
      return "pec_two_level";
  }
  ASSERT(false, "no such kind: {}", static_cast<int>(kind));
}

std::string_view to_text(CheckpointLevel level) { return level == CheckpointLevel::Memory ? "memory" : "storage"; }

}  // namespace moecast
