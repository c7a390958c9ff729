#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "models/workload.h"
#include "runtime/executor.h"
#include "runtime/trainer/rank_checkpoint.h"
#include "runtime/trainer/step_context.h"
#include "runtime/trainer/step_runner.h"
#include "runtime/trainer/token_text.h"

namespace moecast {

/// Does the plan have operators of their own for the experts' weight gradients?
[[nodiscard]] bool splits_expert_backward(const StepPlan& plan);
/// The operators that `keep` names, renumbered; what they depended on must be kept too.
[[nodiscard]] StepPlan plan_subset(const StepPlan& plan, const std::function<bool(const Operator&)>& keep);
/// Forward operators only: for validation.
[[nodiscard]] StepPlan forward_plan(const StepPlan& plan);

/// What one rank saw in one step.
struct StepOutcome {
  double loss_sum = 0;  // over this rank's tokens, nats
  std::int64_t token_count = 0;
  double balance_loss = 0;          // sum over MoE layers, mean over micro-batches, without its coefficient
  RouterLosses router_losses = {};  // the same of the others
  double gradient_norm = 0;         // global, before clipping
  /// By block (empty if dense): tokens of this rank that chose each expert, the zero experts last.
  std::vector<std::vector<std::int64_t>> routed;
  /// The same of experts that compute, without those beyond the capacity.
  std::vector<std::vector<std::int64_t>> processed;
  std::vector<std::int64_t> dropped;  // by block: choices beyond the capacity
  std::vector<Span> spans;
  std::vector<CheckpointOutcome> checkpoints;  // snapshots that came to their end
  std::optional<RestoredRank> restored;        // of Task::Kind::Open, if it was to restore
};

struct RankTrainerOptions {
  const Workload& workload;
  Rank rank;
  Backend& backend;
  const Groups& groups;
  const Clock& clock;
  std::uint64_t seed = 1;
  double gradient_clip = 0;
  FaultSchedule* faults = nullptr;
  std::function<void(const Error&)> on_failure = {};
};

/// One rank: its parameters, activations and executor. Borrowed things outlive it; one thread uses it.
class RankTrainer {
 public:
  /// Allocates everything and initialises the parameters.
  [[nodiscard]] static Result<std::unique_ptr<RankTrainer>> make(const RankTrainerOptions& options);

  /// Runs a plan of the workload (or a part of one) once on `batch`. `watcher`, if given, runs the operators in place
  /// of runner() and is expected to pass them on.
  [[nodiscard]] Result<StepOutcome> run(const StepPlan& plan, const TokenBatch& batch, std::int64_t step,
                                        const AdamWStep& optimizer, OperatorRunner* watcher = nullptr);

  [[nodiscard]] StepContext& context() { return *context_; }
  [[nodiscard]] ParameterStore& store() { return *store_; }
  [[nodiscard]] StepRunner& runner() { return *runner_; }

 private:
  explicit RankTrainer(const RankTrainerOptions& options) : options_(options) {}
  [[nodiscard]] Status allocate();
  void prepare(const StepPlan& plan, const TokenBatch& batch, const AdamWStep& optimizer);
  void leave_out_stall(const StepPlan& plan, std::vector<Span>& spans) const;
  [[nodiscard]] StepOutcome read_outcome();
  void read_losses(StepOutcome& outcome);
  void add_losses(const Tensor& losses, double share, RouterLosses& sum);
  void read_routing(std::size_t block, StepOutcome& outcome);
  void add_counts(const Tensor& counts, const MoeFfn& moe, std::size_t block, StepOutcome& outcome);
  /// Calls use(i, value) for each element of a tensor on the device.
  template <typename Use>
  void for_values(const Tensor& values, Use use);
  [[nodiscard]] double sum_of(const Tensor& values);

  RankTrainerOptions options_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<DeviceMemory> activations_;
  std::unique_ptr<StepContext> context_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Executor> executor_;
  std::vector<std::byte> staging_;  // host copy of results
};

}  // namespace moecast
