// Proportion of lost tokens (arXiv 2408.04307, eq 7): the closed forms, and whole runs in which tokens are routed,
// checkpoints chosen and committed, a fault happens and the recovery is planned, token by token.
#include "models/checkpoint/plt.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"
#include "models/checkpoint/dynamic_k.h"
#include "models/checkpoint/recovery.h"
#include "tests/models/checkpoint_testing.h"

namespace moecast {
namespace {

using testing_models::experts_of;
using testing_models::sequential_policy;

constexpr CheckpointLevel kMemory = CheckpointLevel::Memory;
constexpr CheckpointLevel kStorage = CheckpointLevel::Storage;

TEST(Plt, ClosedFormOfOneLevel) {
  // N = 8, I_ckpt = 32, I_total = 1,280.
  for (const auto& [k, expected] :
       std::vector<std::pair<std::int64_t, double>>{{1, 0.0875}, {2, 0.0375}, {4, 0.0125}, {8, 0.0}}) {
    EXPECT_DOUBLE_EQ(one_level_plt(8, k, 32.0 / 1280), expected) << k;
  }
}

TEST(Plt, ClosedFormOfTwoLevels) {
  EXPECT_DOUBLE_EQ(two_level_plt(16, {4, 1}, 0.5, 1.0), 4.5);
  EXPECT_DOUBLE_EQ(two_level_plt(16, {4, 1}, 0.0, 1.0), one_level_plt(16, 4, 1.0));
  EXPECT_DOUBLE_EQ(two_level_plt(16, {4, 1}, 1.0, 1.0), one_level_plt(16, 1, 1.0));
}

/// A run of one model whose every MoE layer is fed `kTokens` tokens a step. Experts lie on `kRanks` ranks in order.
class RoutedRun {
 public:
  static constexpr std::int64_t kTokens = 128;
  static constexpr std::int64_t kRanks = 4;

  RoutedRun(ExpertIndex experts, CheckpointPolicy policy, double zipf, std::uint64_t seed)
      : policy_(policy),
        state_(experts, policy),
        account_(experts),
        tokens_(experts.size(), 0),
        router_(zipf_weights(experts.layers()[0].expert_count, zipf)),
        random_(seed, 1) {
    policy_.partial.first_full = true;
    save();  // step 0, full
  }

  /// One step, and the checkpoint after it if it is time.
  void step() {
    ++step_;
    for (std::size_t m = 0; m < state_.experts().layer_count(); ++m) {
      const std::int64_t experts = state_.experts().layers()[m].expert_count;
      for (std::int64_t token = 0; token < kTokens; ++token) {
        // The popular experts are others in every layer.
        const std::int64_t expert =
            (5 * router_.index(random_.uniform(m, draw_++)) + 3 * static_cast<std::int64_t>(m)) % experts;
        ++tokens_[state_.experts().at(m, ExpertId(static_cast<std::int32_t>(expert)))];
      }
    }
    if (step_ % policy_.interval == 0) save();
  }

  /// The memory of these ranks is lost; training goes on from the recovered state. Returns the PLT of this fault.
  double fault(const std::vector<Rank>& lost_ranks, std::int64_t total_steps) {
    const std::vector<SavedPiece> left = surviving(pieces_, lost_ranks);
    const RecoveryDecision decision = plan_recovery(state_.experts().size(), left);
    EXPECT_TRUE(decision.plan.has_value());
    const RecoveryPlan& plan = *decision.plan;
    const auto saved = std::find_if(saves_.rbegin(), saves_.rend(), [&](const Save& s) { return s.step == plan.step; });
    const std::vector<LostTokens> lost = lost_tokens(plan, saved->tokens);
    step_ = plan.step;
    tokens_ = saved->tokens;
    state_ = saved->state;
    pieces_ = left;
    std::vector<std::optional<SavedVersion>> in_memory;
    for (const RecoveredExpert& e : plan.experts) in_memory.push_back(SavedVersion{e.step, e.tokens});
    state_.set_versions(kMemory, in_memory);
    return proportion_of_lost_tokens(state_.experts(), account_.add_fault(lost),
                                     static_cast<double>(kTokens * total_steps));
  }

  [[nodiscard]] std::int64_t now() const { return step_; }
  [[nodiscard]] const LossAccount& account() const { return account_; }
  [[nodiscard]] const ExpertIndex& experts() const { return state_.experts(); }

 private:
  struct Save {
    std::int64_t step = 0;
    SelectionState state;
    std::vector<std::int64_t> tokens;
  };

  void save() {
    const Selection selection = select_experts(policy_, policy_.partial.experts, state_, tokens_);
    for (const CheckpointLevel level : {kMemory, kStorage}) {
      state_.commit(level, selection, step_, tokens_);
      if (level == kMemory && !policy_.recovers_from_memory()) continue;
      for (std::int32_t r = 0; r < kRanks; ++r) add({std::nullopt, step_, r, kRanks, level, Rank(r), 0});
      for (std::size_t m = 0; m < selection.of(level).size(); ++m) {
        for (const ExpertId expert : selection.of(level)[m]) {
          const std::int64_t owner = expert.value() / (experts().layers()[m].expert_count / kRanks);
          const std::size_t index = experts().at(m, expert);
          add({index, step_, 0, 1, level, Rank(static_cast<std::int32_t>(owner)), tokens_[index]});
        }
      }
    }
    saves_.push_back({step_, state_, tokens_});
  }

  /// One version of a piece for each level is kept.
  void add(const SavedPiece& piece) {
    std::erase_if(pieces_, [&](const SavedPiece& old) {
      return old.expert == piece.expert && old.level == piece.level && (piece.expert || old.part == piece.part);
    });
    pieces_.push_back(piece);
  }

  CheckpointPolicy policy_;
  SelectionState state_;
  LossAccount account_;
  std::vector<std::int64_t> tokens_;
  Categorical router_;
  CounterRandom random_;
  std::uint64_t draw_ = 0;
  std::int64_t step_ = 0;
  std::vector<SavedPiece> pieces_;
  std::vector<Save> saves_;
};

/// Mean PLT of a fault at each of the steps of one rotation after the middle of 1,280 steps.
double mean_plt(ExpertCounts counts, std::int64_t experts, SelectionKind kind, double zipf,
                const std::vector<Rank>& lost, std::int64_t rotations = 1) {
  CheckpointPolicy policy = sequential_policy(counts);
  policy.partial.selection = kind;
  policy.interval = 32;
  RoutedRun run(experts_of(4, experts), policy, zipf, 7);
  double sum = 0;
  std::int64_t faults = 0;
  const std::int64_t rotation = rotations * experts / counts.persist;
  while (run.now() < 32 * (16 + rotation) + 40) {
    run.step();
    if (run.now() < 32 * 16 + 20 || run.now() % 32 != 20) continue;
    RoutedRun failed = run;
    sum += failed.fault(lost, 1280);
    ++faults;
    EXPECT_EQ(failed.now(), run.now() - 20);
  }
  EXPECT_GE(faults, rotation);
  return sum / static_cast<double>(faults);
}

TEST(Plt, OneLevelRunsAgreeWithTheClosedForm) {
  for (const std::int64_t k : {1, 2, 4, 8}) {
    const double expected = one_level_plt(8, k, 32.0 / 1280);
    const double measured = mean_plt({k, k}, 8, SelectionKind::Sequential, 0, {});
    EXPECT_NEAR(measured, expected, 0.08 * expected) << k;  // 9 to 24 faults: a rotation and a bit
  }
}

TEST(Plt, TwoLevelRunsAgreeWithTheClosedForm) {
  for (const auto& [lost, share] : std::vector<std::pair<std::vector<Rank>, double>>{
           {{}, 0.0}, {{Rank(1)}, 0.25}, {{Rank(0), Rank(3)}, 0.5}, {{Rank(0), Rank(1), Rank(2), Rank(3)}, 1.0}}) {
    const double expected = two_level_plt(16, {4, 1}, share, 32.0 / 1280);
    EXPECT_NEAR(mean_plt({4, 1}, 16, SelectionKind::Sequential, 0, lost), expected, 0.1 * expected) << share;
  }
}

TEST(Plt, LoadAwareLosesALittleLessThanSequentialUnderZipf) {
  // Zipf(1) routing, N = 8; an independent Monte Carlo gave 0.0848, 0.0365, 0.0108 for load-aware selection.
  for (const auto& [k, reference] :
       std::vector<std::pair<std::int64_t, double>>{{1, 0.0848}, {2, 0.0365}, {4, 0.0108}}) {
    const double sequential = mean_plt({k, k}, 8, SelectionKind::Sequential, 1, {}, 6);
    const double load_aware = mean_plt({k, k}, 8, SelectionKind::LoadAware, 1, {}, 6);
    EXPECT_NEAR(sequential, one_level_plt(8, k, 32.0 / 1280), 0.1 * sequential) << k;
    EXPECT_LT(load_aware, sequential) << k;
    EXPECT_NEAR(load_aware, reference, 0.05 * reference) << k;
  }
}

TEST(Plt, RepeatedFaultsAreCountedOnce) {
  CheckpointPolicy policy = sequential_policy({1, 1});
  policy.interval = 8;
  RoutedRun run(experts_of(2, 8), policy, 0, 3);
  while (run.now() < 70) run.step();
  EXPECT_GT(run.fault({}, 200), 0);
  while (run.now() < 67) run.step();
  EXPECT_EQ(run.fault({}, 200), 0);  // before the next commit: the same tokens
  for (int fault = 0; fault < 30; ++fault) {
    for (int i = 0; i < 11; ++i) run.step();
    (void)run.fault({}, 200);
  }
  // However many faults: what is lost are tokens of the run so far.
  for (std::size_t m = 0; m < run.experts().layer_count(); ++m) {
    EXPECT_LE(run.account().lost(m), run.now() * RoutedRun::kTokens);
  }
}

TEST(DynamicK, ManyFaultsClimbFromOneEighthToAllExperts) {
  // 24 faults, 64 experts, an eighth of them at first: the ratchet that a re-implementation of the paper observed.
  DynamicKController controller({}, {8, 8}, 64);
  const double interval_share = 0.002;
  std::vector<std::int64_t> counts;
  for (int fault = 0; fault < 24; ++fault) {
    const double plt = one_level_plt(64, controller.counts().persist, interval_share);
    controller.recovered(plt, plt);
    counts.push_back(controller.counts().persist);
  }
  EXPECT_TRUE(std::is_sorted(counts.begin(), counts.end()));
  EXPECT_EQ(counts.front(), 8 * 2);  // two faults at 0.7 % are more than a third of 3.75 %
  EXPECT_EQ(counts.back(), 64);
  EXPECT_LT(controller.total_plt(), 0.0375);
  EXPECT_GT(24 * one_level_plt(64, 8, interval_share), 0.15);  // with constant K it would have grown linearly
}

}  // namespace
}  // namespace moecast
