#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/json_reader.h"
#include "base/result.h"
#include "models/moe_model.h"
#include "models/state_inventory.h"

namespace moecast {

/// What is saved, and what training waits for.
enum class CheckpointKind {
  None,              // nothing is saved
  BlockingFull,      // everything; training waits until it is durable
  AsynchronousFull,  // everything; copied beside forward and backward, written in the background
  PartialOneLevel,   // PEC: the non-expert part and K experts of every MoE layer; recovery from storage alone
  PartialTwoLevel,   // PEC: K_snapshot experts to host memory, K_persist of those to storage; recovery from both
};

/// Where saved state lies. Host memory is lost with its node.
enum class CheckpointLevel { Memory, Storage };
inline constexpr std::size_t kCheckpointLevelCount = 2;

/// How the K experts of a layer are chosen; selection.h has the table.
enum class SelectionKind { Full, Sequential, LoadAware, OldestFirst, Popularity, Random };

/// Of one component: every expert's, the selected experts', or nobody's.
enum class ComponentRule { All, Selected, None };
struct PartRules {
  ComponentRule weight = ComponentRule::All;
  ComponentRule master = ComponentRule::All;
  ComponentRule first_moment = ComponentRule::All;
  ComponentRule second_moment = ComponentRule::All;

  [[nodiscard]] ComponentRule of(Component component) const;  // Gradient: None

  friend bool operator==(const PartRules&, const PartRules&) = default;
};

/// Which components are partial. Presets below; `Selected` has no meaning for the non-expert part.
struct ComponentRules {
  PartRules expert = {ComponentRule::Selected, ComponentRule::Selected, ComponentRule::Selected,
                      ComponentRule::Selected};
  PartRules non_expert = {};

  friend bool operator==(const ComponentRules&, const ComponentRules&) = default;
};

/// Named component rules. Sizes printed for MoC-System (arXiv 2408.04307) fit `pec_reported`, not its eq 6; only
/// `pec_full_state` describes a state that training can go on from.
///   pec_full_state  expert: weights, master and moments selected (eq 6)
///   pec_reported    expert: master all, the rest selected ("WO": 42.3 % for GPT-350M-16E)
///   pec_w           expert: weights selected, the rest all
///   pec_o           expert: moments selected, weights and master all
[[nodiscard]] const EnumNames<ComponentRules>& component_presets();
/// "custom" if no preset is equal.
[[nodiscard]] std::string_view preset_name(const ComponentRules& rules);
/// All four components of an expert move together and nothing is left out: a recovered expert is of one version.
[[nodiscard]] bool restorable(const ComponentRules& rules);

/// Who writes what every replica has (ZeRO-sharded state is written by its owner in any case).
enum class NonExpertSharding {
  RankZero,  // rank 0 alone
  Equal,     // modules spread over the data ranks, the same at every checkpoint
  Adaptive,  // as Equal, but on top of this checkpoint's expert load
};
enum class ExpertSharding {
  GroupZero,  // the first expert group alone
  Equal,      // the replicas of an expert write equal pieces of it
};
struct Sharding {
  ExpertSharding expert = ExpertSharding::Equal;
  NonExpertSharding non_expert = NonExpertSharding::Adaptive;

  friend bool operator==(const Sharding&, const Sharding&) = default;
};

/// Raises K after recoveries so that the proportion of lost tokens stays below a budget (section 5 of the paper).
struct DynamicK {
  double plt_budget = 0.0375;
  /// Share of the budget for each K from the first one to the last below N; empty: equal shares.
  std::vector<double> split = {};

  friend bool operator==(const DynamicK&, const DynamicK&) = default;
};

/// How many experts of each MoE layer reach each level; persist <= snapshot.
struct ExpertCounts {
  std::int64_t snapshot = 1;
  std::int64_t persist = 1;

  friend bool operator==(const ExpertCounts&, const ExpertCounts&) = default;
};

/// Settings of the two PEC kinds.
struct PartialExperts {
  ExpertCounts experts = {};  // equal with one level; the first ones with Dynamic-K
  SelectionKind selection = SelectionKind::Sequential;
  std::uint64_t seed = 0;  // of SelectionKind::Random
  ComponentRules components = {};
  std::optional<DynamicK> dynamic = std::nullopt;
  /// The first checkpoint of a run saves every expert; without it the seeded initial state counts as version 0.
  bool first_full = true;
  /// For study only: an expert may come back newer than the non-expert part.
  bool allow_newer_experts = false;

  friend bool operator==(const PartialExperts&, const PartialExperts&) = default;
};

/// What is saved, how often and by whom. Rival policies add an enumerator and, beside `partial`, their own settings.
struct CheckpointPolicy {
  CheckpointKind kind = CheckpointKind::None;
  std::int64_t interval = 100;  // steps
  Sharding sharding = {};
  PartialExperts partial = {};  // PEC kinds only

  [[nodiscard]] bool is_partial() const {
    return kind == CheckpointKind::PartialOneLevel || kind == CheckpointKind::PartialTwoLevel;
  }
  /// Does host memory count in a recovery?
  [[nodiscard]] bool recovers_from_memory() const { return kind == CheckpointKind::PartialTwoLevel; }
  /// Component rules in force: everything, except for PEC.
  [[nodiscard]] ComponentRules components() const;

  friend bool operator==(const CheckpointPolicy&, const CheckpointPolicy&) = default;
};

[[nodiscard]] std::string_view to_text(CheckpointKind kind);
[[nodiscard]] std::string_view to_text(CheckpointLevel level);
[[nodiscard]] std::string_view to_text(SelectionKind kind);

/// Reads the object on which `reader` stands, say {"kind": "pec_two_level", "interval": 50, "snapshot_experts": 4,
/// "persist_experts": 1, "selection": "sequential", "components": "pec_full_state", "sharding": {"expert": "equal",
/// "non_expert": "adaptive"}, "dynamic": {"plt_budget": 0.0375}}. Kinds: none, blocking_full, async_full, pec (one
/// level: "experts" instead of the two counts), pec_two_level. A key that another kind owns is unknown. Every problem
/// goes to the reader; what is returned is to be used only if the reader stays good.
[[nodiscard]] CheckpointPolicy read_checkpoint_policy(JsonReader& reader);

/// Reports what does not fit this model at its key: K above the expert count of some MoE layer, PEC without MoE layers.
void check_checkpoint_policy(JsonReader& reader, const CheckpointPolicy& policy, const MoeModel& model);
/// The same without a file: BadInput with all problems in the message.
[[nodiscard]] Status check_checkpoint_policy(const CheckpointPolicy& policy, const MoeModel& model);

/// Every field of the kind, defaults included; reads back to the same policy.
[[nodiscard]] nlohmann::ordered_json to_json(const CheckpointPolicy& policy);

}  // namespace moecast
