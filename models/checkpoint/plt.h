#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/checkpoint/expert_index.h"
#include "models/checkpoint/policy.h"

namespace moecast {

/// Assignments (from, to] of one expert, counted from the start of the run, whose updates a fault undid: `from` is what
/// the recovered version of the expert had seen, `to` what it had seen at the version that training goes on from.
struct LostTokens {
  std::size_t expert = 0;  // ExpertIndex
  std::int64_t from = 0;
  std::int64_t to = 0;
};

/// Which token assignments have been lost so far (section 4.3 of MoC-System, arXiv 2408.04307). Steps after the version
/// that is rolled back to are done again and are not lost. An assignment is counted once, however many faults undo it.
class LossAccount {
 public:
  explicit LossAccount(const ExpertIndex& experts);

  /// Adds one fault. Empty and inverted ranges (an expert as new as the version, or newer) count nothing. Returns the
  /// assignments that were not counted before, per MoE layer.
  std::vector<std::int64_t> add_fault(std::span<const LostTokens> lost);

  [[nodiscard]] std::int64_t lost(std::size_t layer) const { return lost_[layer]; }
  [[nodiscard]] std::span<const std::int64_t> lost() const { return lost_; }

 private:
  struct Span {
    std::int64_t from = 0, to = 0;
  };
  /// Adds `fresh` to disjoint ascending spans and returns how much of it is new.
  static std::int64_t count(std::vector<Span>& counted, Span fresh);

  ExpertIndex experts_;
  std::vector<std::vector<Span>> counted_;  // [expert]: disjoint, ascending
  std::vector<std::int64_t> lost_;          // [MoE layer]
};

/// Proportion of lost tokens (eq 7): mean over MoE layers of lost assignments / (T_i TopK_i). `tokens` is T, the tokens
/// that every MoE layer is fed in the whole training, counted before capacity drops.
[[nodiscard]] double proportion_of_lost_tokens(const ExpertIndex& experts, std::span<const std::int64_t> lost,
                                               double tokens);

/// Expected PLT of one fault, uniform routing, sequential selection, K | N, every expert saved once before:
/// (N/K - 1)/2 * I_ckpt / I_total. `interval_share` = I_ckpt / I_total. Faults add up.
[[nodiscard]] double one_level_plt(std::int64_t expert_count, std::int64_t selected_count, double interval_share);
/// The same with host memory: experts of a share `lost` of the holders come back from storage, the others from memory:
/// [(1-f)(N/K_s - 1) + f (N/K_p - 1)]/2 * I_ckpt / I_total.
[[nodiscard]] double two_level_plt(std::int64_t expert_count, ExpertCounts counts, double lost_share,
                                   double interval_share);

}  // namespace moecast
