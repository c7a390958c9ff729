#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "models/workload.h"
#include "runtime/comm/groups.h"
#include "runtime/trainer/rank_trainer.h"
#include "runtime/trainer/train.h"

namespace moecast::testing {

/// A model of width 8 and four blocks, two of them with a MoE of four experts, for 17 tokens; layers of 6 positions.
/// GPT style; dropless top-2 until a test says otherwise.
[[nodiscard]] Workload tiny_workload();
/// The MoE parts of all blocks that have one.
void for_each_moe(Workload& workload, const std::function<void(MoeFfn&)>& change);
/// Shared expert of width 10 with CG-1 (or direct add), top-1, and a shortcut.
void use_shared_expert(Workload& workload, Shortcut shortcut, CoefficientGate gate = CoefficientGate::Cg1);
/// A router by name of a case ("noisy_top2"), for tests that go through all of them; a capacity only where it must be.
struct RouterCase {
  std::string name;
  std::function<void(MoeFfn&)> change;
};
[[nodiscard]] const std::vector<RouterCase>& router_cases();
/// RMSNorm, rotary positions, SwiGLU, no biases, untied, grouped queries.
void use_llama_style(Workload& workload);

[[nodiscard]] std::span<double> values(const Tensor& f64);
[[nodiscard]] std::span<float> values_f32(const Tensor& f32);

/// One rank of a workload without parallelism, with parameters large enough that every gradient counts.
class SingleRank {
 public:
  explicit SingleRank(const Workload& workload, std::uint64_t seed = 7);

  [[nodiscard]] const StepPlan& plan() const { return plan_; }
  [[nodiscard]] RankTrainer& trainer() { return *trainer_; }
  [[nodiscard]] StepContext& context() { return trainer_->context(); }
  [[nodiscard]] const TokenBatch& batch() const { return batch_; }
  /// Runs the operators that `keep` names, in plan order.
  StepOutcome run(const std::function<bool(const Operator&)>& keep, OperatorRunner* watcher = nullptr);
  /// Everything but the update; returns the loss with what the gates add to it.
  double forward();
  void forward_and_backward();
  void clear_gradients();

 private:
  Workload workload_;
  std::unique_ptr<Backend> backend_;
  std::vector<Groups> groups_;
  SteadyClock clock_;
  StepPlan plan_;
  std::unique_ptr<RankTrainer> trainer_;
  TokenBatch batch_;
};

/// A folder of its own with a text of letters and spaces in it: words from a small list in an order that depends on the
/// word before.
class TextFile {
 public:
  explicit TextFile(std::size_t size = 20000);
  ~TextFile();
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A run of `steps` steps with a vocabulary of 128 (the text is ASCII).
[[nodiscard]] TrainConfig train_config(const Workload& workload, const TextFile& text, std::int64_t steps);
[[nodiscard]] Fault kill_rank(std::int64_t rank, std::int64_t step, std::string operator_name = "");
[[nodiscard]] Result<TrainResult> run_training(const TrainConfig& config);

}  // namespace moecast::testing
