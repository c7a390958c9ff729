#pragma once

#include <optional>

#include "models/checkpoint/dynamic_k.h"
#include "sim/campaign/expert_versions.h"
#include "sim/campaign/policy.h"

namespace moecast {

/// What both kinds of PEC keep: expert versions, the PLT so far, and K with its controller.
class PartialExpertState {
 public:
  /// The scenario outlives the object.
  explicit PartialExpertState(const CampaignScenario& scenario);

  /// Cadence of steps after `step` (MoC-System, arXiv 2408.04307, eq 10); the run's first checkpoint may be full.
  [[nodiscard]] Cadence cadence(std::int64_t step, Duration step_time) const;
  /// A fault restored the version of `step`; Dynamic-K may raise K from here on.
  void restored(std::int64_t step, std::span<const std::int64_t> lost);

  [[nodiscard]] double lost_share(std::span<const std::int64_t> lost) const { return versions_.lost_share(lost); }
  [[nodiscard]] PolicyReport report() const { return {plt_, versions_.counts()}; }
  [[nodiscard]] double snapshot_share() const;
  [[nodiscard]] double persist_share() const;

 private:
  [[nodiscard]] std::int64_t interval() const;

  const CampaignScenario& scenario_;
  const CheckpointPolicy& policy_;
  ExpertVersions versions_;
  std::optional<DynamicKController> dynamic_;
  double plt_ = 0;
};

}  // namespace moecast
